"""RoPE scaling: the angles written out slowly, what transformers builds and reloads, caches, order and refusals."""

import copy
import math

import pytest
import torch
import transformers
from bases import CONTEXT, gpt2, llama, qwen2, tokens
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from hylorada import HyLoRADAError, rope

ROTARY = {"llama": llama, "qwen2": qwen2}
TYPES = ("linear", "dynamic", "yarn")
FACTOR = 4.0
WITHIN, BEYOND = 40, 90  # tokens, of a trained context of 64


class SlowRotary(nn.Module):
    """cos and sin of every angle, one channel after the other in double precision."""

    def __init__(self, scaling_type, factor, head_dim=8, base=10_000.0, context=CONTEXT):
        super().__init__()
        self.scaling_type, self.factor, self.d, self.base, self.context = scaling_type, factor, head_dim, base, context

    def frequency(self, i, length):
        d, s, base, context = self.d, self.factor, self.base, self.context
        plain = base ** (-2 * i / d)
        if self.scaling_type == "linear":
            return plain / s
        if self.scaling_type == "dynamic":
            longer = base * (s * length / context - (s - 1)) ** (d / (d - 2))
            return longer ** (-2 * i / d) if length > context else plain
        low = max(math.floor(d * math.log(context / (32 * 2 * math.pi)) / (2 * math.log(base))), 0)
        high = min(math.ceil(d * math.log(context / (1 * 2 * math.pi)) / (2 * math.log(base))), d - 1)
        ramp = min(max((i - low) / (high - low), 0), 1)
        return plain * (1 - ramp) + plain / s * ramp

    def forward(self, x, position_ids):
        length = int(position_ids.max()) + 1
        size = 0.1 * math.log(self.factor) + 1 if self.scaling_type == "yarn" else 1.0
        angles = [
            [p * self.frequency(i % (self.d // 2), length) for i in range(self.d)] for p in position_ids[0].tolist()
        ]
        angles = torch.tensor(angles, dtype=torch.float64)[None]
        return (size * angles.cos()).to(x), (size * angles.sin()).to(x)


@pytest.fixture(params=ROTARY)
def base(request):
    return ROTARY[request.param]()


@torch.no_grad()
def logits(model, ids, **more):
    return model(ids, **more).logits


@torch.no_grad()
def step_by_step(model, ids, begin):
    """Logits of a pass over the first `begin` tokens and of the rest one by one, from the cache."""
    cache = DynamicCache(config=model.config)
    parts = [model(ids[:, :begin], past_key_values=cache).logits]
    parts += [model(ids[:, t : t + 1], past_key_values=cache).logits for t in range(begin, ids.shape[1])]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("length", [WITHIN, BEYOND])
@pytest.mark.parametrize("scaling_type", TYPES)
def test_the_logits_are_those_of_the_slow_angles(base, scaling_type, length):
    ids = tokens(length=length)
    slow = copy.deepcopy(base)
    slow.model.rotary_emb = SlowRotary(scaling_type, FACTOR)
    rope.enable(base, scaling_type, FACTOR)
    torch.testing.assert_close(logits(base, ids), logits(slow, ids), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("scaling_type", "theta"), [(t, theta) for t in TYPES for theta in (1e4, 1e6)])
def test_cos_and_sin_are_the_slow_ones_in_a_head_of_real_size(scaling_type, theta):
    sizes = dict(hidden_size=128, num_attention_heads=2, num_key_value_heads=2, intermediate_size=8, vocab_size=7)
    rope_parameters = dict(rope_type="default", rope_theta=theta)
    config = transformers.LlamaConfig(
        **sizes, num_hidden_layers=1, max_position_embeddings=2048, rope_parameters=rope_parameters
    )
    model = transformers.LlamaForCausalLM(config)
    rope.enable(model, scaling_type, 2.5)
    slow, x = SlowRotary(scaling_type, 2.5, head_dim=64, base=theta, context=2048), torch.zeros(1)
    for places in (torch.tensor([[0, 1, 100, 2047]]), torch.tensor([[0, 1, 100, 2048]]), torch.tensor([[7, 4000]])):
        for a, b in zip(model.model.rotary_emb(x, places), slow(x, places), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=0)  # float32 rounds an angle of 4000 to 0.0002


@pytest.mark.parametrize("scaling_type", TYPES)
def test_it_acts_at_once_and_dynamic_not_within_the_trained_context(base, scaling_type):
    short, long = tokens(length=CONTEXT), tokens(length=BEYOND)
    before = logits(base, short), logits(base, long)
    rope.enable(base, scaling_type, FACTOR)
    assert rope.is_enabled(base)
    assert (logits(base, long) - before[1]).abs().max() > 0.05
    if scaling_type == "dynamic":
        assert torch.equal(logits(base, short), before[0])
    else:
        assert (logits(base, short) - before[0]).abs().max() > 0.05


@pytest.mark.parametrize("scaling_type", TYPES)
def test_it_equals_a_model_built_with_the_same_configuration(base, scaling_type):
    kind = type(base.model.rotary_emb)
    rope.enable(base, scaling_type, FACTOR)
    built, here = kind(config=copy.deepcopy(base.config)), base.model.rotary_emb
    assert torch.equal(here.inv_freq, built.inv_freq)
    assert here.attention_scaling == built.attention_scaling
    assert (here.max_seq_len_cached, here.rope_type) == (built.max_seq_len_cached, built.rope_type)
    assert here.config is base.config
    fresh = type(base)(copy.deepcopy(base.config)).eval()
    fresh.load_state_dict(base.state_dict())
    ids = tokens(length=BEYOND)
    assert torch.equal(logits(fresh, ids), logits(base, ids))


@pytest.mark.parametrize("scaling_type", TYPES)
def test_a_saved_and_loaded_model_has_the_same_logits(base, scaling_type, tmp_path):
    rope.enable(base, scaling_type, 2.5)
    base.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.config.rope_parameters == base.config.rope_parameters
    assert rope.usable_context(loaded.config) == rope.usable_context(base.config) == 160
    for length in (WITHIN, BEYOND):
        assert torch.equal(logits(loaded, tokens(length=length)), logits(base, tokens(length=length)))


@pytest.mark.parametrize("scaling_type", TYPES)
def test_disable_gives_the_base_back_bit_by_bit(base, scaling_type):
    ids, rotary, parameters = tokens(length=BEYOND), base.model.rotary_emb, base.config.rope_parameters
    before, settings, names = logits(base, ids), copy.deepcopy(base.config.to_dict()), list(base.state_dict())
    for _ in range(2):
        rope.enable(base, scaling_type, FACTOR)
        assert list(base.state_dict()) == names
        logits(base, ids)
        rope.disable(base)
        assert not rope.is_enabled(base)
        assert base.model.rotary_emb is rotary
        assert base.config.rope_parameters is parameters
        assert base.config.to_dict() == settings
        assert not base.model._forward_pre_hooks
        assert torch.equal(logits(base, ids), before)
    rope.disable(base)  # off already: nothing to do
    assert base.model.rotary_emb is rotary


@pytest.mark.parametrize("scaling_type", TYPES)
def test_max_position_embeddings_is_the_trained_context_except_in_yarn(base, scaling_type):
    assert rope.usable_context(base.config) == CONTEXT
    rope.enable(base, scaling_type, FACTOR)
    assert rope.usable_context(base.config) == FACTOR * CONTEXT
    if scaling_type == "yarn":
        assert base.config.max_position_embeddings == FACTOR * CONTEXT
        assert base.config.rope_parameters["original_max_position_embeddings"] == CONTEXT
    else:
        assert base.config.max_position_embeddings == CONTEXT


def test_the_usable_context_of_models_without_scaling():
    assert rope.usable_context(gpt2().config) == CONTEXT
    assert rope.usable_context(PreTrainedConfig()) is None


@pytest.mark.parametrize("scaling_type", ["linear", "yarn"])
def test_cached_equals_uncached_across_the_trained_context(base, scaling_type):
    rope.enable(base, scaling_type, FACTOR)
    base.generation_config.eos_token_id = None  # no row ends early
    ids = tokens(length=CONTEXT + 8)
    torch.testing.assert_close(step_by_step(base, ids, CONTEXT - 4), logits(base, ids), atol=2e-5, rtol=1e-4)
    prompt = dict(inputs=ids[:, : CONTEXT - 4], attention_mask=torch.ones_like(ids[:, : CONTEXT - 4]))
    greedy = [base.generate(**prompt, max_new_tokens=12, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert greedy[0].shape[1] == CONTEXT + 8
    assert torch.equal(*greedy)


def test_a_dynamic_pass_depends_on_its_own_length_alone(base):
    lengths = (20, BEYOND, CONTEXT, 70, BEYOND, WITHIN, CONTEXT + 1)
    alone = {}
    for length in lengths:
        fresh = copy.deepcopy(base)
        rope.enable(fresh, "dynamic", FACTOR)
        alone[length] = logits(fresh, tokens(length=length))
    rope.enable(base, "dynamic", FACTOR)
    for length in lengths:
        assert torch.equal(logits(base, tokens(length=length)), alone[length]), length


def test_dynamic_goes_on_from_a_cache_up_to_the_trained_context_and_no_further(base):
    rope.enable(base, "dynamic", FACTOR)
    ids = tokens(length=CONTEXT + 1)
    up_to = ids[:, :CONTEXT]
    torch.testing.assert_close(step_by_step(base, up_to, CONTEXT - 6), logits(base, up_to), atol=2e-5, rtol=1e-4)
    for begin in (CONTEXT - 2, CONTEXT):
        with pytest.raises(HyLoRADAError, match="trained context of 64 tokens.*use_cache=False"):
            step_by_step(base, ids, begin)
    logits(base, ids, past_key_values=DynamicCache(config=base.config))  # empty: a whole pass, of any length
    with pytest.raises(HyLoRADAError, match="use_cache=False"):  # a whole pass beyond the context may not go on either
        step_by_step(base, tokens(length=BEYOND), BEYOND - 1)
    with pytest.raises(HyLoRADAError, match="use_cache=False"):  # the cache as the decoder's own argument by position
        cache = DynamicCache(config=base.config)
        base.model(ids[:, :CONTEXT], None, None, cache)
        base.model(ids[:, CONTEXT:], None, None, cache)
    fresh = copy.deepcopy(base)
    assert torch.equal(logits(base, ids), logits(fresh, ids))  # a refused pass leaves nothing behind


def test_dynamic_generates_beyond_the_trained_context_without_a_cache(base):
    rope.enable(base, "dynamic", FACTOR)
    base.generation_config.eos_token_id = None  # no row ends early
    ids = tokens(length=CONTEXT - 2)
    made = base.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, use_cache=False)
    for length in range(CONTEXT - 2, CONTEXT + 4):
        assert torch.equal(made[:, length], logits(base, made[:, :length])[:, -1].argmax(dim=-1))


def test_dynamic_counts_real_tokens_not_padding(base):
    rope.enable(base, "dynamic", FACTOR)
    ids, pads = tokens(length=50), 30
    padded = torch.cat([ids.new_zeros(2, pads), ids], dim=1)
    mask = (torch.arange(padded.shape[1]) >= pads).long().expand(2, -1)
    places = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    given = dict(attention_mask=mask, position_ids=places)
    torch.testing.assert_close(logits(base, padded, **given)[:, pads:], logits(base, ids), atol=2e-5, rtol=1e-4)
    cache = DynamicCache(config=base.config)  # holds more columns than the context, but fewer tokens
    with torch.no_grad():
        base(padded[:, :-1], attention_mask=mask[:, :-1], position_ids=places[:, :-1], past_key_values=cache)
        last = base(padded[:, -1:], attention_mask=mask, position_ids=places[:, -1:], past_key_values=cache).logits
    torch.testing.assert_close(last, logits(base, ids)[:, -1:], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("scaling_type", TYPES)
def test_gradients_under_checkpointing_equal_those_without(base, scaling_type):
    rope.enable(base, scaling_type, FACTOR)
    base.train()

    def gradients():
        base.zero_grad()
        passes = [base(ids, labels=ids).loss for ids in (tokens(length=BEYOND), tokens(length=WITHIN))]
        sum(passes).backward()  # blocks of the first pass run again after the second one
        return [p.grad.clone() for p in base.parameters()]

    plain = gradients()
    base.activation_checkpointing_enable()
    for a, b in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scaling_type", TYPES)
def test_frequencies_are_float32_whatever_the_dtype_of_the_base(base, scaling_type):
    ids = tokens(length=BEYOND)
    base.to(torch.bfloat16)
    rotary, before = base.model.rotary_emb, logits(base, ids)
    assert rotary.inv_freq.dtype == torch.bfloat16  # `.to` rounds buffers too
    rope.enable(base, scaling_type, FACTOR)
    here, built = base.model.rotary_emb, type(rotary)(config=base.config)
    places, x = torch.arange(BEYOND)[None], torch.zeros(1, 1, 1)
    assert here.inv_freq.dtype == torch.float32
    for a, b in zip(here(x, places), built(x, places), strict=True):
        assert torch.equal(a, b)
    rope.disable(base)
    assert base.model.rotary_emb is rotary
    assert torch.equal(logits(base, ids), before)


@pytest.mark.parametrize("scaling_type", TYPES)
def test_the_rebuilt_module_is_where_the_model_is_and_moves_with_it(base, scaling_type):
    base.to("meta")
    rope.enable(base, scaling_type, FACTOR)
    assert base.model.rotary_emb.inv_freq.device.type == "meta"
    base.model.rotary_emb.to_empty(device="cpu")
    rope.disable(base)
    assert base.model.rotary_emb.inv_freq.device.type == "cpu"


def test_a_module_under_two_names_is_rebuilt_once_and_put_under_both(base):
    rotary = base.model.layers[0].self_attn.own_rotary = base.model.rotary_emb
    rope.enable(base, "linear", FACTOR)
    assert base.model.layers[0].self_attn.own_rotary is base.model.rotary_emb is not rotary
    rope.disable(base)
    assert base.model.layers[0].self_attn.own_rotary is base.model.rotary_emb is rotary


@pytest.mark.parametrize("scaling_type", TYPES)
def test_a_copy_of_a_scaled_model_is_a_model_of_its_own(base, scaling_type):
    ids = tokens(length=BEYOND)
    before = logits(base, ids)
    rope.enable(base, scaling_type, FACTOR)
    scaled, other = logits(base, ids), copy.deepcopy(base)
    rope.disable(other)
    assert torch.equal(logits(other, ids), before)
    assert torch.equal(logits(base, ids), scaled)


def refused(model, match, scaling_type="linear", factor=FACTOR):
    """Expect one clear line, and the model as it was."""
    modules, settings = list(model.modules()), copy.deepcopy(model.config.to_dict())
    with pytest.raises(HyLoRADAError, match=match) as raised:
        rope.enable(model, scaling_type, factor)
    assert "\n" not in str(raised.value)
    assert list(model.modules()) == modules
    assert model.config.to_dict() == settings


def test_gpt2_has_no_angles_to_scale():
    refused(gpt2(), "'gpt2' model.*learns an embedding for each position, which has no angle")


@pytest.mark.parametrize(
    ("scaling_type", "factor", "match"),
    [
        ("yran", 4.0, "'yran' is not known; did you mean 'yarn'.*dynamic, linear, yarn"),
        ("llama3", 4.0, "'llama3' is not known"),
        (None, 4.0, "rope_scaling_type=None is of the wrong kind"),
        (4.0, "linear", "rope_scaling_type=4.0 is of the wrong kind"),
        ("linear", "4", "rope_scaling_factor='4' is of the wrong kind"),
        ("linear", True, "rope_scaling_factor=True is of the wrong kind"),
        ("linear", None, "rope_scaling_factor=None is of the wrong kind"),
        ("linear", 1.0, "rope_scaling_factor=1.0 lengthens no context"),
        ("yarn", 0.5, "lengthens no context"),
        ("dynamic", -2, "lengthens no context"),
        ("linear", math.inf, "lengthens no context"),
        ("linear", math.nan, "lengthens no context"),
    ],
)
def test_settings_that_are_refused(scaling_type, factor, match):
    refused(llama(), match, scaling_type, factor)


def test_a_whole_number_is_a_factor(base):
    rope.enable(base, "yarn", 2)
    assert base.config.rope_parameters["factor"] == 2.0


def test_a_second_scaling_is_refused(base):
    rope.enable(base, "linear", FACTOR)
    refused(base, "on in this model already; call disable", "yarn")


def test_a_base_that_is_scaled_already_is_refused(base, tmp_path):
    rope.enable(base, "yarn", FACTOR)
    base.save_pretrained(tmp_path)
    refused(AutoModelForCausalLM.from_pretrained(tmp_path), "scaled already \\(rope_type='yarn'\\)")
    config = llama().config
    config.rope_parameters |= dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    config.rope_parameters["original_max_position_embeddings"] = CONTEXT // 2
    refused(transformers.LlamaForCausalLM(config), "rope_type='llama3'")


def test_a_base_with_several_sets_of_angles_is_refused():
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=8)
    config = Gemma3TextConfig(**sizes, num_key_value_heads=1, vocab_size=19, pad_token_id=0, max_position_embeddings=64)
    refused(Gemma3ForCausalLM(config), "each of full_attention, sliding_attention")


def test_a_base_without_a_stated_context_is_refused():
    model = llama()
    model.config.__dict__["max_position_embeddings"] = None  # past the checks of assignment
    refused(model, "states no max_position_embeddings")


def test_a_model_without_a_rotary_module_is_refused():
    model = llama()
    model.model.rotary_emb = nn.Identity()
    refused(model, "no rotary module was found")


class NeedsMore(LlamaRotaryEmbedding):
    def __init__(self, config, table):
        super().__init__(config)


class Deaf(LlamaRotaryEmbedding):
    """Keeps unscaled angles whatever the configuration says."""

    def __init__(self, config):
        super().__init__(llama().config)
        self.config = config


class ShortOfMemory(LlamaRotaryEmbedding):
    """Scales at construction only, so that dynamic would never act."""

    def forward(self, x, position_ids):
        angles = position_ids[..., None] * self.inv_freq
        return angles.cos(), angles.sin()


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (NeedsMore, "NeedsMore.*cannot be rebuilt.*'dynamic' .*table"),
        (Deaf, "do not follow"),
        (ShortOfMemory, "do not"),
    ],
)
def test_a_rotary_module_that_cannot_be_rebuilt_is_refused(kind, match):
    model = llama()
    rotary = LlamaRotaryEmbedding(model.config)
    rotary.__class__ = kind
    model.model.rotary_emb = rotary
    refused(model, match, "dynamic")


def test_a_context_of_its_own_in_the_configuration_is_not_overridden_in_silence():
    model = llama()
    model.config.original_max_position_embeddings = 4096  # transformers would take it for yarn's ramp
    refused(model, "do not follow the configuration", "yarn")
