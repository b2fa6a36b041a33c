"""S²-Attn: held to a block mask written out in full, in every pass a model makes."""

import pytest
import torch
from attention import CLOSE, LargestTensor, grouped
from bases import FAMILIES, VOCABULARY, adapt, attentions, llama, tokens, without_zeros
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, PreTrainedModel, StaticCache
from transformers.masking_utils import create_causal_mask

from hylorada import HyLoRADAConfig
from hylorada.s2_attention import NAME, ShiftedSparseAttention, disable, enable, grouped_attention

sizes = pytest.mark.parametrize("group_size, sinks", [(8, 0), (8, 3), (8, 7), (2, 1), (22, 0)])


def visible(length: int, group_size: int, shift: int, sinks: int) -> Tensor:
    """The pattern token by token: (query, key), True where the query may look."""
    group = [(i + group_size - shift) // group_size if shift else i // group_size for i in range(length)]
    return torch.tensor(
        [[j <= i and (group[j] == group[i] or j < sinks) for j in range(length)] for i in range(length)]
    )


def slow_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None = None) -> Tensor:
    """Every score, masked, then softmax: (batch, seq, heads, d)."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    return (scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ value).transpose(1, 2)


def slow_interface(module, query, key, value, attention_mask, scaling=None, **kwargs):
    shift = module.s2_group_size // 2 if module.layer_idx % 2 else 0
    mask = visible(query.shape[2], module.s2_group_size, shift, module.s2_sink_tokens)
    return slow_attention(query, key, value, mask, scaling), None


AttentionInterface.register("slow_s2", slow_interface)


def random_states(length: int, heads: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(2, heads, length, 8), (2, kv_heads, length, 8), (2, kv_heads, length, 8)]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    "length, group_size, sinks",
    [(17, 16, 0), (17, 16, 15), (64, 16, 0), (64, 16, 4), (61, 8, 0), (61, 8, 3), (61, 8, 6), (13, 2, 1), (9, 6, 5)],
)
def test_groups_are_the_block_mask_forward_and_backward(length, group_size, sinks, shifted, heads, kv_heads):
    states, shift = random_states(length, heads, kv_heads), group_size // 2 if shifted else 0
    fast = grouped_attention(*states, group_size, shift, sinks, scaling=0.3)
    slow = slow_attention(*states, visible(length, group_size, shift, sinks), scaling=0.3)
    torch.testing.assert_close(fast, slow)
    weights = torch.randn(fast.shape, generator=torch.Generator().manual_seed(5))
    fast_gradients = torch.autograd.grad((fast * weights).sum(), states)
    for mine, theirs in zip(fast_gradients, torch.autograd.grad((slow * weights).sum(), states), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_idx", [0, 1, 2, 3])
def test_a_layer_of_ones_own_is_the_block_mask_of_its_place(layer_idx):
    states = random_states(29, 4, 2)
    slow = slow_attention(*states, visible(29, 8, 4 * (layer_idx % 2), 3))
    torch.testing.assert_close(ShiftedSparseAttention(8, sink_tokens=3, layer_idx=layer_idx)(*states), slow)


@pytest.mark.parametrize("shift", [0, 4])
def test_bfloat16_comes_as_close_as_its_digits_allow(shift):
    states = random_states(29, 4, 2, torch.bfloat16)
    fast = grouped_attention(*states, 8, shift, sink_tokens=3)
    assert fast.dtype == torch.bfloat16
    slow = slow_attention(*(s.float() for s in states), visible(29, 8, shift, 3))
    torch.testing.assert_close(fast.float(), slow, rtol=2e-2, atol=2e-2)


@attentions
@sizes
def test_a_training_model_has_the_logits_and_gradients_of_the_block_mask(family, group_size, sinks):
    model, ids, results = grouped(family, group_size, sinks), tokens(2, 45), []
    for implementation in (NAME, "slow_s2"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        out = model(ids, labels=ids)
        out.loss.backward()
        results.append((out.logits, {n: p.grad for n, p in model.named_parameters()}))
    (fast, fast_gradients), (slow, slow_gradients) = results
    torch.testing.assert_close(fast, slow, **CLOSE)
    for name, gradient in slow_gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, **CLOSE, msg=name)
    assert not torch.allclose(fast, FAMILIES[family]()(ids).logits, atol=1e-2)


@attentions
def test_bfloat16_models_come_close_to_float32(family):
    whole, half = grouped(family, 8, 2), grouped(family, 8, 2).to(torch.bfloat16)
    out = half(tokens(), labels=tokens())
    out.loss.backward()
    assert out.logits.dtype == torch.bfloat16 and all(p.grad is not None for p in half.parameters())
    both = torch.stack([out.logits.float().flatten(), whole(tokens()).logits.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.98


@attentions
@pytest.mark.parametrize("sinks", [0, 3])
@pytest.mark.parametrize("border", [1, 8, 15, 31, 40])
def test_a_later_token_never_moves_an_earlier_logit_in_training(family, sinks, border):
    model, ids = grouped(family, 8, sinks), tokens(2, 41)
    changed = ids.clone()
    changed[:, border:] = changed[:, border:] % (VOCABULARY - 1) + 1
    before, after = model(ids).logits, model(changed).logits
    torch.testing.assert_close(after[:, :border], before[:, :border], rtol=0, atol=1e-5)
    assert not torch.allclose(after[:, border], before[:, border], atol=1e-2)


@attentions
@pytest.mark.parametrize("sinks, reach", [(0, 12), (1, 41)])
def test_the_shifted_layer_sees_across_the_border_and_sinks_reach_all(family, sinks, reach):
    """Two layers, G = 8: token 0 fills [0, 8) below and, through token 4 to 7, gets to [4, 12) above; no further."""
    model, ids = grouped(family, 8, sinks), tokens(1, 41)
    changed = ids.clone()
    changed[:, 0] = ids[:, 0] % (VOCABULARY - 1) + 1
    moved = (model(changed).logits - model(ids).logits).abs().amax(dim=(0, 2)) > 1e-5
    assert moved.tolist() == [position < reach for position in range(41)]


@attentions
def test_evaluation_and_the_cache_are_exactly_the_base(family):
    base, model, ids = FAMILIES[family](), grouped(family, 4, 2).eval(), tokens(2, 30)
    left, right = torch.ones_like(ids), torch.ones_like(ids)
    left[0, :7] = 0
    right[0, -7:] = 0
    for mask in (None, left, right):
        assert torch.equal(model(ids, attention_mask=mask).logits, base(ids, attention_mask=mask).logits)
    settings = dict(attention_mask=left, max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(model.generate(ids, **settings), base.generate(ids, **settings))
    caches = [m(ids[:, :20], use_cache=True).past_key_values for m in (model, base)]
    logits = [m(ids[:, 20:], past_key_values=c).logits for m, c in zip((model, base), caches, strict=True)]
    assert torch.equal(*logits)
    caches = [StaticCache(config=base.config, max_cache_len=40) for _ in range(2)]
    pairs = zip((model, base), caches, strict=True)
    assert torch.equal(*(m(ids, attention_mask=right, past_key_values=cache).logits for m, cache in pairs))


@attentions
def test_a_pass_that_reads_a_cache_attends_in_full_even_in_training(family):
    base, model, ids = FAMILIES[family](), grouped(family, 8), tokens(2, 30)
    caches = [base(ids[:, :6], use_cache=True).past_key_values for _ in range(2)]
    after = [m(ids[:, 6:], past_key_values=c).logits for m, c in zip((model, base), caches, strict=True)]
    assert torch.equal(*after)


@pytest.mark.parametrize("skip", [True, False])
def test_a_mask_that_must_be_written_out_is_that_of_sdpa(skip):
    model, real = llama(), torch.ones(2, 6, dtype=torch.bool)
    real[0, -2:] = False
    masks = []
    for implementation in ("sdpa", NAME):
        model.set_attn_implementation(implementation)
        given = (model.config, torch.zeros(2, 6, 32), real, None)
        masks.append(create_causal_mask(*given, allow_is_causal_skip=skip))
    assert torch.equal(masks[1], real) if skip else torch.equal(*masks)


@attentions
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_no_longer_than_a_group_train_with_full_attention(family, side):
    base, model, ids = FAMILIES[family](), grouped(family, 24), tokens(2, 24)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    mask = mask if side == "left" else mask.flip(1)
    assert torch.equal(model(ids, attention_mask=mask).logits, base(ids, attention_mask=mask).logits)


@attentions
@pytest.mark.parametrize("sinks", [0, 3])
def test_right_padding_leaves_real_tokens_and_their_gradients_alone(family, sinks):
    """Rows of three lengths, one shorter than the sinks: each trains as it does alone."""
    model, ids, lengths = grouped(family, 8, sinks), tokens(3, 37), (37, 21, 2)
    mask = (torch.arange(37) < torch.tensor(lengths)[:, None]).long()
    out = model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    out.loss.backward()
    padded = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length], labels=ids[row : row + 1, :length])
        torch.testing.assert_close(out.logits[row, :length], alone.logits[0], **CLOSE)
        (alone.loss * (length - 1) / sum(n - 1 for n in lengths)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(padded[name], parameter.grad, **CLOSE, msg=name)


@attentions
def test_position_ids_that_start_again_in_the_padding_are_not_packing(family):
    model, ids = grouped(family), tokens(2, 24)
    mask = torch.ones_like(ids)
    mask[1, -9:] = 0
    positions = torch.arange(24) * mask
    out = model(ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(out[1, :15], model(ids[1:, :15]).logits[0], **CLOSE)


@attentions
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_under_checkpointing_equal_those_without(family, reentrant):
    """With attention dropout: the second run of a block must drop what the first dropped."""
    gradients = []
    for checkpointing in (False, True):
        model = grouped(family, 8, 2)
        for module in model.modules():
            if hasattr(module, "s2_group_size"):
                module.attention_dropout, module.attn_dropout = 0.3, nn.Dropout(0.3)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(6)
        mask = torch.ones(2, 30, dtype=torch.long)
        mask[0, -9:] = 0
        (model(tokens(2, 30), attention_mask=mask).logits[0, :21].logsumexp(-1).sum()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("shift", [0, 4])
def test_dropout_drops_the_share_it_names(shift):
    """Each weight of the first token of a group is 1: it is kept, doubled, or dropped."""
    torch.manual_seed(7)
    states = [torch.zeros(500, 2, 20, 4), torch.zeros(500, 2, 20, 4), torch.ones(500, 2, 20, 4)]
    out = grouped_attention(*states, 8, shift, dropout=0.5)
    assert set(out[:, 8 + shift].unique().tolist()) == {0.0, 2.0}
    assert 0.95 < out.mean() < 1.05


@attentions
def test_training_drops_attention_as_the_model_is_set_to(family):
    model, ids = grouped(family, 8), tokens()
    assert torch.equal(model(ids).logits, model(ids).logits)
    for module in model.modules():
        if hasattr(module, "s2_group_size"):
            module.attention_dropout, module.attn_dropout = 0.3, nn.Dropout(0.3)
    assert not torch.allclose(model(ids).logits, model(ids).logits, atol=1e-2)


def largest_in_a_step(model: PreTrainedModel, length: int) -> int:
    """One padded row, and the kernel that writes its scores out: the most that attention can ask for."""
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, -5:] = 0
    with LargestTensor() as largest, sdpa_kernel(SDPBackend.MATH):
        model(tokens(1, length), attention_mask=mask).logits.logsumexp(-1).sum().backward()
    return largest.elements


def test_no_tensor_of_length_squared_is_ever_made():
    length, group_size, heads = 2048, 32, 4
    model = grouped("llama", group_size, 4)
    assert largest_in_a_step(model, length) <= length * max(VOCABULARY, heads * (group_size + 4) * 2)
    disable(model)
    assert largest_in_a_step(model, length) >= length * length


def test_work_grows_linearly_with_length_and_full_attention_more():
    def work(model: PreTrainedModel, length: int) -> int:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            model(tokens(1, length)).logits.sum().backward()
        return counter.get_total_flops()

    model = grouped("llama", 32, 4)
    short, middle, long = (work(model, length) for length in (512, 1024, 2048))
    assert long - middle == pytest.approx(2 * (middle - short), rel=0.01)
    assert long == pytest.approx(4 * short, rel=0.02)
    disable(model)
    assert work(model, 2048) > 8 * work(model, 512)


@attentions
def test_an_adapter_trains_through_the_groups_right_padding_included(family):
    config = HyLoRADAConfig(lora_rank=2, use_dora_magnitude=True, lora_dropout=0.0, gradient_checkpointing=True)
    model, ids = without_zeros(adapt(FAMILIES[family](), config)), tokens(2, 30)
    enable(model.base_model, 8, 2)
    model.train()
    mask = torch.ones_like(ids)
    mask[1, -11:] = 0
    out = model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    out.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.trainable_parameters())
    torch.testing.assert_close(out.logits[1, :19], model(ids[1:, :19]).logits[0], **CLOSE)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's tracer looks at it where graphs break
@pytest.mark.parametrize("padding", [9])
def test_compiled_training_gives_the_same_logits(padding):
    model, ids = grouped("llama", 8, 2), tokens(2, 30)
    batch = dict(attention_mask=(torch.arange(30) < 30 - padding).long().expand(2, -1), use_cache=False)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(ids, **batch).logits, model(ids, **batch).logits)
    torch._dynamo.reset()
