"""Embeddings and norms with float32 masters: the base bit for bit at the start, full training in their gradients."""

import copy

import pytest
import torch
from bases import CONTEXT, VOCABULARY, gpt2, llama, qwen2, tokens
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from hylorada.errors import HyLoRADAError
from hylorada.loss import causal_lm_loss, causal_lm_nll, chunked_nll
from hylorada.trained_weights import (
    TrainedEmbedding,
    TrainedHead,
    TrainedNorm,
    TrainedWeights,
    find_embeddings,
    find_norms,
    is_tied,
    wrap_embeddings,
    wrap_norms,
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def tied_llama() -> PreTrainedModel:
    untied = llama()
    untied.config.tie_word_embeddings = True
    model = LlamaForCausalLM(untied.config)
    model.load_state_dict(untied.state_dict())
    return model.eval()


def gemma() -> PreTrainedModel:
    """Tied, with an embedding that scales its rows and norms that multiply by 1 + weight."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=VOCABULARY, head_dim=8)
    heads = dict(num_attention_heads=4, num_key_value_heads=1, max_position_embeddings=CONTEXT)
    return GemmaForCausalLM(GemmaConfig(**sizes, **heads, bos_token_id=0, eos_token_id=0)).eval()


MODELS = {"gpt2": gpt2, "llama": llama, "qwen2": qwen2, "tied_llama": tied_llama, "gemma": gemma}
TIED = ("gpt2", "tied_llama", "gemma")
families = pytest.mark.parametrize("family", MODELS)


def wrapped(base: PreTrainedModel) -> dict[str, TrainedWeights]:
    """Freeze the base and put all wrappers in, as a caller would."""
    base.requires_grad_(False)
    wrappers = wrap_embeddings(base) | wrap_norms(base)
    for name, wrapper in wrappers.items():
        base.set_submodule(name, wrapper)
    return wrappers


def take_out(base: PreTrainedModel, wrappers: dict[str, TrainedWeights]) -> None:
    for name, wrapper in wrappers.items():
        base.set_submodule(name, wrapper.base_layer)


def masters(base: PreTrainedModel) -> list[nn.Parameter]:
    return [p for p in base.parameters() if p.requires_grad]


def off_start(base: PreTrainedModel, std: float = 0.2) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for master in masters(base):
            master.add_(torch.randn(master.shape, generator=generator) * std)


@DTYPES
def test_norms_are_their_formulas_with_the_rounded_masters(dtype):
    torch.manual_seed(0)
    x, scale, shift = torch.randn(2, 3, 8).to(dtype), torch.randn(8), torch.randn(8)
    layer, rms = TrainedNorm(nn.LayerNorm(8).to(dtype)), TrainedNorm(nn.RMSNorm(8, eps=1e-6).to(dtype))
    with torch.no_grad():
        layer.masters["weight"].copy_(scale)
        layer.masters["bias"].copy_(shift)
        rms.masters["weight"].copy_(scale)
    wide, scale, shift = x.float(), scale.to(dtype).float(), shift.to(dtype).float()
    spread = (wide.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), ((wide - wide.mean(-1, keepdim=True)) / spread * scale + shift).to(dtype))
    size = (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(rms(x), (wide / size * scale).to(dtype))


@DTYPES
def test_embedding_and_head_share_one_table(dtype):
    """Rows of round(M) in, x·round(M)ᵀ + b out, rounded to the dtype of the base or of x."""
    torch.manual_seed(0)
    embedding, head = nn.Embedding(7, 4).to(dtype), nn.Linear(4, 7).to(dtype)
    head.weight = embedding.weight
    rows = TrainedEmbedding(embedding)
    logits = TrainedHead(head, rows)
    nn.init.normal_(rows.masters["weight"])
    table, ids, x = rows.masters["weight"].to(dtype), torch.tensor([[1, 6, 1]]), torch.randn(1, 3, 4).to(dtype)
    assert torch.equal(rows(ids), table[ids]) and rows(ids).dtype == dtype
    assert torch.equal(logits(x), F.linear(x, table, head.bias))
    exact = x.double() @ rows.masters["weight"].double().T + head.bias.double()
    torch.testing.assert_close(logits(x.float()).double(), exact, rtol=1e-5, atol=1e-6)
    assert logits.masters["weight"] is rows.masters["weight"]


@DTYPES
@families
def test_fresh_wrappers_change_no_bit(family, dtype):
    base, ids = MODELS[family]().to(dtype), tokens()
    before = base(ids).logits
    wrapped(base)
    assert torch.equal(base(ids).logits, before)
    assert {master.dtype for master in masters(base)} == {torch.float32}


@families
def test_gradients_are_those_of_training_the_weights_themselves(family):
    full, base, ids = MODELS[family]().requires_grad_(False), MODELS[family](), tokens()
    originals = find_embeddings(full) | find_norms(full)
    for layer in originals.values():
        layer.requires_grad_()
    wrappers = wrapped(base)
    full(ids, labels=ids).loss.backward()
    base(ids, labels=ids).loss.backward()
    for name, layer in originals.items():
        for own, weight in layer.named_parameters():
            got = wrappers[name].masters[own].grad
            assert got.any(), f"no gradient reaches {name}.{own}"
            torch.testing.assert_close(got, weight.grad)
    trained = {id(master) for wrapper in wrappers.values() for master in wrapper.masters.values()}
    assert trained == {id(p) for p in base.parameters() if p.grad is not None} == {id(p) for p in masters(base)}


@pytest.mark.parametrize("family", TIED)
def test_a_tied_table_gets_the_gradient_of_both_its_uses(family):
    base, ids = MODELS[family](), tokens()
    wrappers = wrapped(base)
    head = next(w for w in wrappers.values() if isinstance(w, TrainedHead))
    master = head.masters["weight"]
    both = torch.autograd.grad(base(ids, labels=ids).loss, master)[0]
    head.masters["weight"] = nn.Parameter(master.detach().clone())  # apart, each use is seen alone
    apart = torch.autograd.grad(base(ids, labels=ids).loss, (master, head.masters["weight"]))
    assert all(part.any() for part in apart)
    torch.testing.assert_close(both, apart[0] + apart[1])


@families
def test_checkpointing_changes_no_gradient(family):
    base, ids, other = MODELS[family]().train(), tokens(), tokens(seed=4)
    wrapped(base)
    off_start(base)
    want = torch.autograd.grad(base(ids, labels=ids).loss, masters(base))
    base.activation_checkpointing_enable()
    loss = base(ids, labels=ids, use_cache=False).loss
    base(other, labels=other, use_cache=False)  # a second forward before the first backward
    torch.testing.assert_close(torch.autograd.grad(loss, masters(base)), want)


@families
def test_the_chunked_loss_is_the_models_own_with_its_gradients(family):
    base, ids = MODELS[family](), tokens()
    wrapped(base)
    off_start(base)
    want = base(ids, labels=ids).loss
    for fp32_logits in (False, True):
        got = causal_lm_nll(base, ids, chunk_tokens=5, fp32_logits=fp32_logits).mean()
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(
            torch.autograd.grad(got, masters(base)), torch.autograd.grad(want, masters(base), retain_graph=True)
        )
    torch.testing.assert_close(causal_lm_loss(base, ids), want)


@pytest.mark.parametrize("family", TIED)
def test_float32_logits_of_a_bfloat16_model_use_the_master_itself(family):
    base, ids = MODELS[family]().bfloat16(), tokens()
    wrapped(base)
    off_start(base)
    head, seen = base.get_output_embeddings(), []
    head.register_forward_hook(lambda module, args, output: seen.append((args[0].dtype, output.dtype)))
    with torch.no_grad():
        hidden = base.get_decoder()(ids)[0].flatten(0, 1)
        got = chunked_nll(hidden, head, ids.flatten(), fp32_logits=True)
        assert set(seen) == {(torch.float32, torch.float32)}
        want = F.cross_entropy(hidden.float() @ head.masters["weight"].T, ids.flatten(), reduction="none")
        torch.testing.assert_close(got, want)
        rounded = F.cross_entropy(hidden.float() @ head.weight.float().T, ids.flatten(), reduction="none")
    assert not torch.allclose(got, rounded, rtol=1e-4, atol=0)


@DTYPES
@families
def test_merging_keeps_every_bit_of_the_logits_and_the_tie(family, dtype, tmp_path):
    base, ids = MODELS[family]().to(dtype), tokens()
    before, tied = base(ids).logits, is_tied(base)
    wrappers = wrapped(base)
    off_start(base)
    adapted = base(ids).logits
    assert not torch.allclose(adapted, before, atol=1e-2)
    for wrapper in wrappers.values():
        wrapper.merge()
    take_out(base, wrappers)
    assert torch.equal(base(ids).logits, adapted)
    assert is_tied(base) == tied == (family in TIED)
    assert not any(isinstance(module, TrainedWeights) for module in base.modules())
    base.tie_weights()
    base.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype).eval()
    assert is_tied(again) == tied
    for (name, weight), other in zip(base.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(weight, other), name


@families
def test_the_base_is_untouched_until_merged(family):
    base, ids = MODELS[family](), tokens()
    before, kept = base(ids).logits, copy.deepcopy(base.state_dict())
    wrappers = wrapped(base)
    optimizer = torch.optim.AdamW(masters(base), lr=0.05)
    base(ids, labels=ids).loss.backward()
    optimizer.step()
    trained = base(ids).logits
    assert not torch.allclose(trained, before, atol=1e-2)
    take_out(base, wrappers)
    assert torch.equal(base(ids).logits, before)
    assert all(torch.equal(weight, kept[name]) for name, weight in base.state_dict().items())
    for name, wrapper in wrappers.items():
        base.set_submodule(name, wrapper)
    assert torch.equal(base(ids).logits, trained)


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.Embedding(3, 4)])
def test_steps_too_small_for_bfloat16_add_up_in_the_master(layer):
    layer = layer.bfloat16()
    nn.init.ones_(layer.weight)  # where bfloat16's numbers are 2**-7 or 2**-8 apart
    wrapper, start = (TrainedNorm if isinstance(layer, nn.LayerNorm) else TrainedEmbedding)(layer), layer.weight.clone()
    step = 1e-4
    assert torch.equal(start - step, start)
    optimizer = torch.optim.SGD([wrapper.masters["weight"]], lr=step)
    for count in range(100):
        wrapper.masters["weight"].grad = torch.ones_like(start, dtype=torch.float32)
        optimizer.step()
        if count == 0:
            torch.testing.assert_close(wrapper.masters["weight"].detach(), 1 - step * torch.ones(start.shape))
            assert torch.equal(wrapper.weight, start)
    assert (wrapper.weight < start).all() and torch.equal(layer.weight, start)


def test_a_frequent_token_adds_up_its_gradient_in_float32():
    wrapper, ids = TrainedEmbedding(nn.Embedding(2, 4).bfloat16()), torch.zeros(1, 4000, dtype=torch.long)
    upstream = torch.full((1, 4000, 4), 0.01, dtype=torch.bfloat16)
    wrapper(ids).backward(upstream)
    torch.testing.assert_close(wrapper.masters["weight"].grad[0], upstream.float().sum(dim=(0, 1)))


def test_an_embedding_keeps_its_padding_row_and_its_scaling_by_frequency():
    torch.manual_seed(0)
    plain = nn.Embedding(5, 4, padding_idx=2, scale_grad_by_freq=True)
    wrapper, ids = TrainedEmbedding(copy.deepcopy(plain).requires_grad_(False)), torch.tensor([[2, 3, 3, 4]])
    plain(ids).sum().backward()
    wrapper(input=ids).sum().backward()
    assert plain.weight.grad[3].any() and not plain.weight.grad[2].any()
    assert torch.equal(wrapper.masters["weight"].grad, plain.weight.grad)


@families
def test_a_wrapped_model_generates_as_its_merged_self(family):
    base, ids = MODELS[family](), tokens(2, 8)
    wrappers = wrapped(base)
    off_start(base, 0.1)
    settings = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    cached = base.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, base.generate(ids, use_cache=False, **settings))
    for wrapper in wrappers.values():
        wrapper.merge()
    take_out(base, wrappers)
    assert torch.equal(cached, base.generate(ids, **settings))


@families
def test_wrappers_look_to_the_model_as_the_layers_did(family):
    base = MODELS[family]().bfloat16()
    shape, tied = base.get_output_embeddings().weight.shape, is_tied(base)
    wrapped(base)
    off_start(base)
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    assert isinstance(embedding, TrainedEmbedding) and isinstance(head, TrainedHead) == tied == is_tied(base)
    assert base.dtype == embedding.weight.dtype == head.weight.dtype == torch.bfloat16
    assert head.weight.shape == shape == (head.out_features, head.in_features)
    assert torch.equal(head.weight, embedding.weight) == tied
    assert torch.equal(embedding.weight, embedding.masters["weight"].bfloat16())


@DTYPES
@pytest.mark.parametrize("family", TIED)
def test_tying_anew_while_wrapped_raises_and_changes_nothing(family, dtype):
    base, ids = MODELS[family]().to(dtype), tokens()
    wrapped(base)
    off_start(base)
    before, held = base(ids).logits, masters(base)
    with pytest.raises((AttributeError, KeyError), match="weight"):
        base.tie_weights()
    assert torch.equal(base(ids).logits, before) and all(a is b for a, b in zip(masters(base), held, strict=True))


def test_a_copy_of_the_model_keeps_one_master_for_embedding_and_head():
    base, ids = gpt2(), tokens()
    wrapped(base)
    twin = copy.deepcopy(base)
    table = twin.get_input_embeddings().masters["weight"]
    assert table is twin.get_output_embeddings().masters["weight"]
    off_start(twin)
    assert not torch.allclose(twin(ids).logits, base(ids).logits, atol=1e-2)


def test_shapes_alone_can_be_wrapped():
    with torch.device("meta"):
        base = GPT2LMHeadModel(GPT2Config())
    wrapped(base)
    assert sum(p.numel() for p in masters(base)) == (50_257 + 1_024) * 768 + 25 * 2 * 768


def test_layers_are_found_by_what_they_are():
    assert list(find_embeddings(gpt2())) == ["transformer.wte", "transformer.wpe"]
    assert list(find_embeddings(llama())) == ["model.embed_tokens"]
    gpt2_norms = [f"transformer.h.{i}.ln_{j}" for i in (0, 1) for j in (1, 2)] + ["transformer.ln_f"]
    assert list(find_norms(gpt2())) == gpt2_norms
    llama_norms = [f"model.layers.{i}.{side}_layernorm" for i in (0, 1) for side in ("input", "post_attention")]
    assert list(find_norms(llama())) == [*llama_norms, "model.norm"]
    assert list(wrap_embeddings(gpt2())) == ["transformer.wte", "transformer.wpe", "lm_head"]
    assert list(wrap_embeddings(llama())) == ["model.embed_tokens"]


class Rmsnorm(nn.RMSNorm):
    """Named in another case."""


class GateNorm(nn.Module):
    """Ends in the word, but is no norm layer: it holds one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.inner = nn.Parameter(torch.ones(4)), nn.LayerNorm(4)


def test_norms_without_weights_or_with_layers_inside_are_no_norms_and_case_is_none():
    base = llama()
    base.model.layers[0].extra = nn.LayerNorm(32, elementwise_affine=False)
    base.model.layers[0].gated = GateNorm()
    base.model.layers[1].extra = Rmsnorm(32)
    base.extra = nn.LayerNorm(32)  # outside the decoder
    added = [name for name in find_norms(base) if "extra" in name or "gated" in name]
    assert added == ["model.layers.0.gated.inner", "model.layers.1.extra"]


def test_an_embedding_inside_a_block_is_not_the_models():
    base = llama()
    base.model.layers[0].relative = nn.Embedding(3, 4)
    assert list(find_embeddings(base)) == ["model.embed_tokens"]


def test_positions_with_a_forward_of_their_own_train_too():
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=4, vocab_size=VOCABULARY)
    base = OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=CONTEXT, word_embed_proj_dim=32, dropout=0.0))
    ids, before = tokens(), base.eval()(tokens()).logits
    wrappers = wrapped(base)
    assert torch.equal(base(ids).logits, before)
    base(ids, labels=ids).loss.backward()
    assert wrappers["model.decoder.embed_positions"].masters["weight"].grad.any()


class LearnedQuantiser(nn.Module):
    """Stands for a layer whose weight is stored in whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, dtype=torch.int8), requires_grad=False)


def test_what_cannot_train_is_refused_with_a_reason():
    for broken, message in (
        (nn.Embedding(3, 4, max_norm=1.0), "max_norm=1.0, sparse=False cannot train"),
        (nn.Embedding(3, 4, sparse=True), "sparse=True cannot train"),
    ):
        with pytest.raises(HyLoRADAError, match=message):
            TrainedEmbedding(broken)
    with pytest.raises(HyLoRADAError, match="weight of torch.int8 cannot train; load the model unquantised"):
        TrainedNorm(LearnedQuantiser())
    with pytest.raises(HyLoRADAError, match="with no weight cannot train"):
        TrainedNorm(nn.LayerNorm(4, elementwise_affine=False))
    with pytest.raises(HyLoRADAError, match="Linear is no linear layer on the embedding's own weight"):
        TrainedHead(nn.Linear(4, 3), TrainedEmbedding(nn.Embedding(3, 4)))


def test_absence_is_refused():
    base = llama()
    for name in find_norms(base):
        base.set_submodule(name, nn.Identity())
    with pytest.raises(HyLoRADAError, match="no norm was found to train in this LlamaForCausalLM"):
        wrap_norms(base)
    base.model.embed_tokens = nn.Linear(2, 2)
    with pytest.raises(HyLoRADAError, match="no token embedding was found.*is a Linear"):
        wrap_embeddings(base)


def test_a_wrapped_model_is_not_wrapped_twice():
    base = gpt2()
    wrapped(base)
    with pytest.raises(HyLoRADAError, match="is a TrainedEmbedding; use a fresh base model"):
        wrap_embeddings(base)
    with pytest.raises(HyLoRADAError, match="use a fresh base model"):
        wrap_norms(base)


def test_a_weight_that_yet_another_layer_uses_is_refused():
    base = llama()
    base.extra_head = nn.Linear(32, VOCABULARY, bias=False)
    base.extra_head.weight = base.model.embed_tokens.weight
    with pytest.raises(HyLoRADAError, match="embed_tokens.weight and extra_head.weight are one weight"):
        wrap_embeddings(base)
    wrap_norms(base)
    base.model.layers[0].input_layernorm.weight = base.model.norm.weight  # two norms, which would get two masters
    with pytest.raises(HyLoRADAError, match="layers.0.input_layernorm.weight and model.norm.weight are one weight"):
        wrap_norms(base)


def test_a_norm_under_two_names_is_refused():
    base = llama()
    base.model.twin = base.model.norm
    with pytest.raises(HyLoRADAError, match="model.norm.weight and model.twin.weight are one weight"):
        wrap_norms(base)
