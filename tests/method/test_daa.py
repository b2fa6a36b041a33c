"""Direct attention adaptation: held to attention written out entry by entry, in every pass a model makes."""

import copy

import pytest
import torch
from attention import CLOSE, LENGTH, LargestTensor, adapters, batch_of, direct
from bases import FAMILIES, VOCABULARY, attentions, tokens
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    StaticCache,
)
from transformers.masking_utils import sdpa_mask

from hylorada import s2_attention
from hylorada.daa import DirectAttention, enable, visible_mean


def slow_mean(visible: Tensor, value: Tensor) -> Tensor:
    """The mean of the visible values, query by query; visible (batch, heads, queries, keys), value with all heads."""
    share = visible / visible.sum(dim=-1, keepdim=True).clamp_min(1)
    return share.to(value.dtype) @ value


def slow_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """alpha·P + beta/n on what is visible, as one matrix, times V; the mask is always written out."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    within = attention_mask & slow_groups(module, query.shape[2])
    weights = scores.masked_fill(~within, torch.finfo(scores.dtype).min).softmax(dim=-1)
    alpha, beta = (p[:, None, None] for p in (module.direct_attention.alpha, module.direct_attention.beta))
    weights = alpha * weights + beta * attention_mask / attention_mask.sum(dim=-1, keepdim=True).clamp_min(1)
    return (weights @ value).transpose(1, 2), None


def slow_groups(module: nn.Module, length: int) -> Tensor:
    """What S²-Attn lets P see in training, (query, key); everything where it is off."""
    size = getattr(module, "s2_group_size", None)
    if size is None or not module.training:
        return torch.tensor(True)
    shift = size // 2 if module.layer_idx % 2 else 0
    group = (torch.arange(length) + size - shift) // size if shift else torch.arange(length) // size
    return (group[:, None] == group) | (torch.arange(length) < module.s2_sink_tokens)


AttentionInterface.register("slow_daa", slow_attention)
AttentionMaskInterface.register("slow_daa", lambda **kw: sdpa_mask(**(kw | {"allow_is_causal_skip": False})))


KINDS = ("unmasked", "all real", "right", "left", "holes", "packed", "own")
kinds = pytest.mark.parametrize("kind", KINDS)


def real(batch: dict) -> Tensor:
    mask = batch.get("attention_mask")
    return torch.ones(2, LENGTH, dtype=torch.bool) if mask is None or mask.ndim == 4 else mask.bool()


def logits_and_gradients(model: PreTrainedModel, made: nn.ModuleList, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the real tokens alone; padding may come out as anything finite."""
    named = dict([*model.named_parameters(), *made.named_parameters(prefix="daa")])
    for parameter in named.values():
        parameter.grad = None
    out = model(**batch).logits
    assert out.isfinite().all()
    (out[real(batch)].logsumexp(dim=-1).sum()).backward()
    return out[real(batch)], {name: p.grad for name, p in named.items() if p.grad is not None}


def assert_same(fast: tuple[Tensor, dict], slow: tuple[Tensor, dict]) -> None:
    torch.testing.assert_close(fast[0], slow[0], **CLOSE)
    assert fast[1].keys() == slow[1].keys()
    for name, gradient in slow[1].items():
        torch.testing.assert_close(fast[1][name], gradient, rtol=1e-3, atol=1e-3, msg=name)


@attentions
@kinds
@pytest.mark.parametrize("training", [False, True])
def test_a_model_has_the_logits_and_gradients_of_the_matrix_written_out(family, kind, training):
    (model, made), batch = direct(family), batch_of(kind)
    model.train(training)
    fast = logits_and_gradients(model, made, batch)
    model.set_attn_implementation("slow_daa")
    assert_same(fast, logits_and_gradients(model, made, batch))
    base = FAMILIES[family]()(**batch).logits[real(batch)]
    assert not torch.allclose(fast[0], base, atol=0.1)
    assert all(fast[1][f"daa.{name}"].abs().max() > 1e-2 for name, _ in made.named_parameters())


@pytest.mark.parametrize("kv_heads, mask_heads, mask_batch", [(4, 1, 2), (2, 1, 2), (2, 1, 1), (2, 4, 2), (1, 4, 1)])
@pytest.mark.parametrize("hidden", [None, -torch.inf, torch.finfo(torch.float32).min, -1e9])
def test_the_mean_under_any_mask_is_the_slow_one_forward_and_backward(kv_heads, mask_heads, mask_batch, hidden):
    """hidden: None for a mask of booleans, else what a float mask adds to what is not seen (-2 to the rest)."""
    torch.manual_seed(4)
    value = torch.randn(2, kv_heads, 13, 8, requires_grad=True)
    visible = torch.rand(mask_batch, mask_heads, 9, 13) < 0.4
    visible[0, 0, :2] = False  # rows that see nothing
    mask = visible if hidden is None else torch.where(visible, -2.0, hidden)
    fast = visible_mean(value, 9, mask)
    repeats = max(1, mask_heads // kv_heads)
    slow = slow_mean(visible, value.repeat_interleave(repeats, dim=1)).transpose(1, 2)
    torch.testing.assert_close(fast, slow)
    assert (fast[0, :2, 0] == 0).all()
    weights = torch.randn(fast.shape)
    gradients = [torch.autograd.grad((mean * weights).sum(), value)[0] for mean in (fast, slow)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "length, keys, causal", [(9, 9, True), (9, 13, True), (1, 1, True), (1, 13, True), (9, 9, False), (9, 13, False)]
)
def test_without_a_mask_the_mean_sees_what_sdpa_sees(length, keys, causal):
    torch.manual_seed(4)
    value = torch.randn(2, 2, keys, 8)
    visible = torch.ones(length, keys, dtype=torch.bool)
    visible = visible.tril() if causal and length > 1 else visible
    mean = visible_mean(value, length, None, causal).expand(-1, length, -1, -1)
    torch.testing.assert_close(mean, slow_mean(visible[None, None], value).transpose(1, 2))


def test_the_mean_under_right_padding_sees_the_real_tokens_only():
    torch.manual_seed(4)
    value, real = torch.randn(3, 2, 9, 8, requires_grad=True), torch.arange(9) < torch.tensor([9, 4, 0])[:, None]
    visible = torch.ones(9, 9, dtype=torch.bool).tril() & real[:, None, None]
    mean = visible_mean(value, 9, real)
    torch.testing.assert_close(mean, slow_mean(visible, value).transpose(1, 2))
    assert torch.autograd.grad(mean.sum(), value)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("written_out", [False, True])
def test_a_long_row_of_few_digits_loses_none_in_the_sum(dtype, written_out):
    torch.manual_seed(4)
    value = (torch.randn(1, 1, 4096, 8) + 30).to(dtype)
    mask = torch.ones(1, 1, 4096, 4096, dtype=torch.bool).tril() if written_out else None
    exact = value.double().cumsum(dim=2) / torch.arange(1, 4097)[:, None]
    mean = visible_mean(value, 4096, mask)
    assert mean.dtype == dtype
    torch.testing.assert_close(mean.double(), exact.transpose(1, 2), rtol=2 * torch.finfo(dtype).eps, atol=0)


@attentions
@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_leaves_the_base_as_it_was_to_the_bit(family, kind, dtype):
    model, batch = direct(family, fresh=True)[0].to(dtype), batch_of(kind)
    base = FAMILIES[family]().to(dtype)
    for training in (False, True):
        assert torch.equal(model.train(training)(**batch).logits, base.train(training)(**batch).logits)


@attentions
def test_a_fresh_adapter_generates_what_the_base_generates(family):
    model, _ = direct(family, fresh=True)
    batch = batch_of("left") | dict(
        max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None, use_cache=True
    )
    assert torch.equal(model.generate(**batch), FAMILIES[family]().generate(**batch))


def test_a_change_of_alpha_finer_than_bfloat16_at_one_is_not_rounded_away():
    adapter, mixed = DirectAttention(2), torch.linspace(1, 2, 128, dtype=torch.bfloat16).view(1, 16, 2, 4)
    nn.init.constant_(adapter.alpha, 1 + 3 * 2**-10)
    assert torch.equal(adapter(mixed, torch.zeros_like(mixed)), (mixed.float() * (1 + 3 * 2**-10)).bfloat16())


@attentions
def test_bfloat16_models_come_close_to_float32(family):
    (whole, _), (half, made) = direct(family), direct(family)
    half.to(torch.bfloat16)
    for kind in KINDS:
        batch = batch_of(kind)
        logits, gradients = logits_and_gradients(half.train(), made, batch)
        assert logits.dtype == torch.bfloat16 and gradients["daa.0.beta"].dtype == torch.float32
        both = torch.stack([logits.float().flatten(), whole(**batch).logits[real(batch)].flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.98, kind


@attentions
@kinds
def test_under_autocast_a_fresh_adapter_is_neutral_and_a_moved_one_learns(family, kind):
    batch = batch_of(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fresh = direct(family, fresh=True)[0].train()(**batch).logits
        assert torch.equal(fresh, FAMILIES[family]().train()(**batch).logits)
        _, gradients = logits_and_gradients(*direct(family), batch)
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients.values())
    assert gradients["daa.0.beta"].all() and gradients["daa.1.alpha"].all()


def test_before_the_softmax_beta_would_do_nothing_and_alpha_be_a_temperature():
    """Why alpha and beta act after it: on the scores, beta has neither effect nor gradient."""
    torch.manual_seed(4)
    query, key, value = torch.randn(3, 2, 9, 8, dtype=torch.float64).unbind()
    visible = torch.ones(9, 9, dtype=torch.bool).tril()

    def attend(scores: Tensor) -> Tensor:
        return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ value

    scores, beta = query @ key.transpose(-1, -2), torch.tensor([0.7, -2.0], dtype=torch.float64, requires_grad=True)
    shifted = attend(scores + beta[:, None, None])
    torch.testing.assert_close(shifted, attend(scores))
    (shifted * torch.randn_like(shifted)).sum().backward()
    assert beta.grad.abs().max() < 1e-12
    torch.testing.assert_close(attend(1.7 * scores), attend((1.7 * query) @ key.transpose(-1, -2)))


@attentions
@pytest.mark.parametrize("chunks", [[1] * LENGTH, [10, 1, 13], [5, 19], [23, 1]])
@pytest.mark.parametrize("padding", [0, 7])
def test_a_cache_filled_in_pieces_gives_the_logits_of_one_pass(family, chunks, padding):
    (model, _), ids = direct(family), tokens(2, LENGTH)
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    whole = model(ids, attention_mask=mask, position_ids=positions).logits
    cache, out, end = None, [], 0
    for size in chunks:
        start, end = end, end + size
        piece = dict(attention_mask=mask[:, :end], position_ids=positions[:, start:end], past_key_values=cache)
        step = model(ids[:, start:end], **piece, use_cache=True)
        cache, out = step.past_key_values, [*out, step.logits]
    torch.testing.assert_close(torch.cat(out, dim=1)[mask == 1], whole[mask == 1], **CLOSE)


@attentions
def test_a_cache_with_room_behind_gives_the_logits_of_one_pass(family):
    (model, _), ids = direct(family), tokens(2, LENGTH)
    whole = model(ids).logits
    cache = StaticCache(config=model.config, max_cache_len=40)
    first = model(ids[:, :10], past_key_values=cache).logits
    steps = [model(ids[:, i : i + 1], past_key_values=cache).logits for i in range(10, LENGTH)]
    torch.testing.assert_close(torch.cat([first, *steps], dim=1), whole, **CLOSE)


@attentions
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_no_real_logit_and_no_gradient(family, side, training):
    """Rows of three lengths: each comes out, and trains, as it does alone."""
    (model, made), lengths = direct(family), (LENGTH, 15, 1)
    model.train(training)
    rows = [tokens(1, length, seed=length) for length in lengths]
    summed, alone = None, []
    for row in rows:
        out = model(row).logits
        out.logsumexp(dim=-1).sum().backward()
        alone.append(out[0])
    named = dict([*model.named_parameters(), *made.named_parameters(prefix="daa")])
    summed = {name: p.grad for name, p in named.items()}
    for parameter in named.values():
        parameter.grad = None
    gaps = [torch.zeros(1, LENGTH - length, dtype=torch.long) for length in lengths]
    order = slice(None, None, 1 if side == "left" else -1)
    ids = torch.cat([torch.cat([gap, row][order], dim=1) for gap, row in zip(gaps, rows, strict=True)])
    mask = (ids > 0).long()
    out = model(ids, attention_mask=mask, position_ids=(mask.cumsum(dim=1) - 1).clamp_min(0)).logits
    assert out.isfinite().all()
    torch.testing.assert_close(out[mask == 1], torch.cat(alone), **CLOSE)
    out[mask == 1].logsumexp(dim=-1).sum().backward()
    for name, parameter in named.items():
        torch.testing.assert_close(parameter.grad, summed[name], rtol=1e-3, atol=1e-3, msg=name)


@attentions
@kinds
@pytest.mark.parametrize("border", [1, 8, 23])
def test_a_later_token_never_moves_an_earlier_logit(family, kind, border):
    (model, _), batch = direct(family), batch_of(kind)
    before = model(**batch).logits
    ids = batch["input_ids"].clone()
    ids[:, border:] = ids[:, border:] % (VOCABULARY - 1) + 1
    after = model(**(batch | {"input_ids": ids})).logits
    torch.testing.assert_close(after[:, :border], before[:, :border], rtol=0, atol=1e-5)
    assert not torch.allclose(after[:, border:], before[:, border:], atol=1e-2)


@attentions
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_under_checkpointing_equal_those_without(family, reentrant):
    """Two passes of unequal lengths and masks before one backward: each block runs again with its own."""
    results = []
    for checkpointing in (False, True):
        model, made = direct(family)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        losses = [model(**batch_of(kind)).logits[:, -3:].logsumexp(-1).sum() for kind in ("left", "unmasked")]
        losses.append(model(tokens(2, 9), attention_mask=torch.ones(2, 9).tril(-8).flip(0, 1)).logits.sum())
        sum(losses).backward()
        named = [*model.named_parameters(), *made.named_parameters(prefix="daa")]
        results.append({name: parameter.grad for name, parameter in named})
    for name, gradient in results[0].items():
        assert gradient.any(), name
        torch.testing.assert_close(results[1][name], gradient, rtol=1e-5, atol=1e-5, msg=name)


@attentions
def test_alpha_and_beta_learn_from_the_first_step_over_a_frozen_base(family):
    model, made = direct(family, fresh=True)
    model.requires_grad_(False).train()
    optimizer, ids = torch.optim.SGD(made.parameters(), lr=0.05), tokens()
    losses = []
    for _ in range(5):
        loss = model(ids, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.all() for p in made.parameters())
        optimizer.step()
    assert losses == sorted(losses, reverse=True)


@attentions
def test_attention_dropout_drops_from_the_attention_and_never_from_the_mean(family):
    model, made = direct(family)
    whole = FAMILIES[family]()
    for module in model.modules():
        if hasattr(module, "direct_attention"):
            module.attention_dropout, module.attn_dropout = 0.5, nn.Dropout(0.5)
    model.train()
    assert not torch.allclose(model(tokens()).logits, model(tokens()).logits, atol=1e-2)
    for adapter in made:
        nn.init.zeros_(adapter.alpha)
    enable(whole, made)
    torch.testing.assert_close(model(tokens()).logits, whole(tokens()).logits)


def test_without_padding_no_tensor_of_length_squared_is_made():
    (model, _), length = direct("llama"), 1024
    with LargestTensor() as largest:
        model.train()(tokens(1, length), use_cache=False).logits.sum().backward()
    assert largest.elements <= length * VOCABULARY


def test_a_pass_told_not_to_be_causal_averages_over_the_whole_row():
    model, made = direct("llama")
    batch = dict(input_ids=tokens(2, LENGTH), use_cache=False)
    fast = logits_and_gradients(model, made, batch | {"is_causal": False})
    whole = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)
    assert_same(fast, logits_and_gradients(model, made, batch | {"attention_mask": whole}))


def windowed() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return MistralForCausalLM(MistralConfig(**sizes, vocab_size=VOCABULARY, sliding_window=6)).eval()


@pytest.mark.parametrize("kind", ["unmasked", "right", "left"])
def test_the_mean_keeps_to_a_sliding_window_with_and_without_a_cache(kind):
    model, made, batch = windowed(), adapters(), batch_of(kind)
    enable(model, made)
    fast = logits_and_gradients(model, made, batch)
    step, cache = [], None
    for i in range(LENGTH) if kind == "unmasked" else ():
        out = model(batch["input_ids"][:, i : i + 1], past_key_values=cache, use_cache=True)
        step, cache = [*step, out.logits], out.past_key_values
    if step:
        torch.testing.assert_close(torch.cat(step, dim=1).flatten(0, 1), fast[0], **CLOSE)
    model.set_attn_implementation("slow_daa")
    assert_same(fast, logits_and_gradients(model, made, batch))


def test_attention_across_to_an_encoder_is_left_alone():
    torch.manual_seed(0)
    sizes = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=VOCABULARY, add_cross_attention=True)
    base = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    model, made = copy.deepcopy(base), adapters(fresh=True)
    enable(model, made)
    batch = dict(input_ids=tokens(), encoder_hidden_states=torch.randn(2, 5, 32))
    assert torch.equal(model(**batch).logits, base(**batch).logits)
    nn.init.ones_(made[1].beta)
    assert [hasattr(block.crossattention, "direct_attention") for block in model.transformer.h] == [False, False]
    assert not torch.allclose(model(**batch).logits, base(**batch).logits, atol=1e-3)


def in_groups(family: str, fresh: bool = False, sinks: int = 3) -> tuple[PreTrainedModel, nn.ModuleList]:
    """A tiny base in training, S²-Attn on, DAA around it."""
    model, made = FAMILIES[family](), adapters(fresh)
    s2_attention.enable(model, 8, sinks)
    enable(model, made)
    return model.train(), made


@attentions
@pytest.mark.parametrize("kind", ["unmasked", "all real", "right"])
@pytest.mark.parametrize("sinks", [0, 3])
def test_over_groups_in_training_the_mean_still_sees_the_whole_row(family, kind, sinks):
    (model, made), batch = in_groups(family, sinks=sinks), batch_of(kind)
    fast = logits_and_gradients(model, made, batch)
    model.set_attn_implementation("slow_daa")
    assert_same(fast, logits_and_gradients(model, made, batch))
    full, _ = direct(family)
    assert not torch.allclose(fast[0], full(**batch).logits[real(batch)], atol=1e-2)


@attentions
@kinds
def test_with_groups_evaluation_is_that_of_full_attention(family, kind):
    (model, _), (full, _), batch = in_groups(family), direct(family), batch_of(kind)
    assert torch.equal(model.eval()(**batch).logits, full(**batch).logits)


@attentions
def test_over_groups_a_fresh_adapter_changes_nothing(family):
    model, _ = in_groups(family, fresh=True)
    alone = FAMILIES[family]().train()
    s2_attention.enable(alone, 8, 3)
    for kind in ("unmasked", "right"):
        assert torch.equal(model(**batch_of(kind)).logits, alone(**batch_of(kind)).logits)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's tracer looks at it where graphs break
@pytest.mark.parametrize("kind", ["unmasked", "right"])
def test_compiled_training_gives_the_same_logits_and_gradients(kind):
    (model, made), batch = direct("llama"), batch_of(kind)
    plain = logits_and_gradients(model.train(), made, batch)
    compiled = torch.compile(model, backend="aot_eager")
    out = compiled(**batch).logits[real(batch)]
    torch.testing.assert_close(out, plain[0], **CLOSE)
    for adapter in made:
        adapter.zero_grad()
    out.logsumexp(dim=-1).sum().backward()
    for name, parameter in made.named_parameters(prefix="daa"):
        torch.testing.assert_close(parameter.grad, plain[1][name], **CLOSE)
    torch._dynamo.reset()
