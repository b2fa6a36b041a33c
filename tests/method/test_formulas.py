"""The slow formula of every part, written out once in full, and the parts held to it."""

import math

import pytest
import torch
from bases import adapt, llama, tokens, without_zeros
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAUnified, LandmarkLoRA, LearnableBucketLandmark, PositionBias
from hylorada.landmark_redesigns import PooledLandmark
from hylorada.norm import adapted_norm
from hylorada.position_bias import AtPosition
from hylorada.positions import FixedBuckets, PositionIds

D_IN, D_OUT = 6, 5


def layer_of(kind: str, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    if kind == "conv1d":
        layer = Conv1D(D_OUT, D_IN)
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        return layer
    return nn.Linear(D_IN, D_OUT, bias=bias)


def dense(layer: nn.Module) -> torch.Tensor:
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


def off_start(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)


layers = pytest.mark.parametrize("base", [layer_of("linear"), layer_of("linear", bias=False), layer_of("conv1d")])


@layers
@pytest.mark.parametrize(("use_rslora", "scale"), [(True, 4.0 / math.sqrt(2)), (False, 4.0 / 2)])
def test_the_layer_is_the_dense_formula(base, use_rslora, scale):
    """y = x (W + s·BA)^T + b, s = alpha/sqrt(r) or alpha/r."""
    x = torch.randn(2, 3, D_IN)
    layer = HyLoRADAUnified(base.requires_grad_(False), rank=2, alpha=4.0, use_rslora=use_rslora)
    off_start(layer)
    y = x @ (dense(base) + scale * layer.lora.B @ layer.lora.A).T
    torch.testing.assert_close(layer(x), y if base.bias is None else y + base.bias)


@layers
def test_the_magnitude_is_the_dense_formula_and_never_scales_the_bias(base):
    """y = c∘((W + s·BA)x) + b, c = (1-beta)·m_eff/n + beta, m_eff = g·m + (1-g)·||W||, norms of output rows."""
    x = torch.randn(2, 3, D_IN)
    layer = HyLoRADAUnified(base.requires_grad_(False), rank=2, alpha=4.0, magnitude=True)
    assert torch.sigmoid(layer.combine.gate) == 0.5
    torch.testing.assert_close(torch.sigmoid(layer.combine.residual_weight), torch.tensor(0.1))
    torch.testing.assert_close(layer.combine.magnitude, dense(base).norm(dim=1))
    off_start(layer)
    W = dense(base) + 4.0 / math.sqrt(2) * layer.lora.B @ layer.lora.A
    g, beta = torch.sigmoid(layer.combine.gate), torch.sigmoid(layer.combine.residual_weight)
    m_eff = g * layer.combine.magnitude + (1 - g) * dense(base).norm(dim=1)
    c = (1 - beta) * m_eff / W.norm(dim=1) + beta
    y = c * (x @ W.T)
    torch.testing.assert_close(layer(x), y if base.bias is None else y + base.bias)
    torch.testing.assert_close(layer.merged_weight(), c[:, None] * W)


@layers
def test_gradients_of_the_magnitude_are_those_with_the_norm_held_constant(base):
    x = torch.randn(2, 3, D_IN)
    layer = HyLoRADAUnified(base.requires_grad_(False), rank=2, alpha=4.0, magnitude=True)
    off_start(layer)
    mine = [p for p in layer.parameters() if p.requires_grad]
    W = dense(base) + 4.0 / math.sqrt(2) * layer.lora.B @ layer.lora.A
    g, beta = torch.sigmoid(layer.combine.gate), torch.sigmoid(layer.combine.residual_weight)
    m_eff = g * layer.combine.magnitude + (1 - g) * dense(base).norm(dim=1)
    slow = ((1 - beta) * m_eff / W.norm(dim=1).detach() + beta) * (x @ W.T)
    want = torch.autograd.grad(slow.square().sum(), mine)
    bias = 0.0 if base.bias is None else base.bias
    torch.testing.assert_close(torch.autograd.grad((layer(x) - bias).square().sum(), mine), want)


def test_gate_and_blend_fold_into_a_plain_dora_magnitude():
    """They add no function: DoRA with m' = c·||W + s·BA|| is the same layer."""
    base, x = layer_of("linear"), torch.randn(2, 3, D_IN)
    layer = HyLoRADAUnified(base, rank=2, magnitude=True)
    off_start(layer)
    W = dense(base) + layer.lora.scaling * layer.lora.B @ layer.lora.A
    folded = layer.combine.row_factor(base, layer.lora) * W.norm(dim=1)
    torch.testing.assert_close(layer(x), x @ (folded / W.norm(dim=1) * W.T) + base.bias)


@pytest.mark.parametrize("place", ["output", "update"])
def test_the_position_bias_scales_the_output_or_the_update(place):
    """y_p ← y_p·(1 + sigmoid(w)·tanh(bias[bucket(p)])), bucket(p) = floor(B·log(1+p)/log(1+P)) up to B-1."""
    base, x, carrier = layer_of("linear"), torch.randn(2, 30, D_IN), PositionIds()
    bias = PositionBias(num_buckets=4, max_positions=20)
    off_start(bias)
    layer = HyLoRADAUnified(
        base, rank=2, magnitude=True, scale_at_position=AtPosition(bias, carrier), position_bias_on=place
    )
    off_start(layer)
    carrier.set(torch.arange(30)[None])
    bucket = torch.tensor([min(3, math.floor(4 * math.log(1 + p) / math.log(21))) for p in range(30)])
    scale = 1 + torch.sigmoid(bias.weight) * torch.tanh(bias.bias[bucket])[None, :, None]
    c, W = layer.combine.row_factor(base, layer.lora), base.weight
    update = x @ (layer.lora.scaling * layer.lora.B @ layer.lora.A).T
    if place == "output":
        y = (c * (x @ W.T + update) + base.bias) * scale
    else:
        y = c * (x @ W.T + update * scale) + base.bias
    torch.testing.assert_close(layer(x), y)


def test_a_position_part_that_gets_no_positions_raises():
    layer = HyLoRADAUnified(layer_of("linear"), rank=2, scale_at_position=AtPosition(PositionBias(4, 8), PositionIds()))
    with pytest.raises(HyLoRADAError, match="got none"):
        layer(torch.randn(1, 3, D_IN))


def test_landmarks_are_the_slow_formula():
    """mix = softmax(gates[bucket(p)] + content·h), h ← h + scale·(mix @ landmarks), token by token."""
    torch.manual_seed(0)
    part = LandmarkLoRA(hidden_size=6, num_landmarks=3, num_buckets=4, max_positions=20)
    off_start(part)
    hidden = torch.randn(2, 25, 6)
    want = torch.empty_like(hidden)
    for row in range(2):
        for p in range(25):
            h = hidden[row, p]
            k = min(3, math.floor(4 * math.log(1 + p) / math.log(21)))
            mix = (part.position_gates[k] + part.content_gate @ h).softmax(0)
            want[row, p] = h + part.scale * (mix @ part.landmarks)
    torch.testing.assert_close(part(hidden, torch.arange(25)[None]), want)


def test_learnable_buckets_are_the_slow_formula():
    """Bucket weights are differences of neighbouring sigmoid((p/P - t)/0.1), between 1 and 0 at the ends."""
    torch.manual_seed(0)
    part = LearnableBucketLandmark(hidden_size=6, num_landmarks=3, num_buckets=4, max_positions=20)
    off_start(part)
    hidden = torch.randn(2, 25, 6)
    want = torch.empty_like(hidden)
    edges = sorted(part.boundaries.tolist())
    for p in range(25):
        s = [1.0] + [1 / (1 + math.exp(-(p / 20 - t) / 0.1)) for t in edges] + [0.0]
        by_place = sum((s[k] - s[k + 1]) * part.position_gates[k] for k in range(4))
        for row in range(2):
            mix = (by_place + part.content_gate @ hidden[row, p]).softmax(0)
            want[row, p] = hidden[row, p] + part.scale * (mix @ part.landmarks)
    torch.testing.assert_close(part(hidden, torch.arange(25)[None]), want)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("pooling", ["causal", "sequence"])
def test_pooled_landmarks_are_the_slow_formula(pool, pooling):
    """a = softmax(W_g·pool(h)), h ← h + scale·(a @ landmarks), pooled over the real tokens so far, or over all."""
    torch.manual_seed(0)
    part = PooledLandmark(hidden_size=6, num_landmarks=3, pooling=pooling, pool=pool)
    off_start(part)
    hidden, real = torch.randn(2, 9, 6), torch.ones(2, 9, dtype=torch.bool)
    real[0, :2] = False  # padding on the left of one row, on the right of the other
    real[1, 7:] = False
    got = part(hidden, hidden, real)
    for row in range(2):
        for p in range(9):
            span = hidden[row, : p + 1 if pooling == "causal" else 9][real[row, : p + 1 if pooling == "causal" else 9]]
            if not real[row, p]:
                continue
            pooled = span.mean(0) if pool == "mean" else span.amax(0)
            mix = (part.gate @ pooled).softmax(0)
            torch.testing.assert_close(got[row, p], hidden[row, p] + part.scale * (mix @ part.landmarks))


def test_learned_boundaries_start_even_and_come_out_sorted_in_tokens():
    part = LearnableBucketLandmark(hidden_size=6, num_buckets=4, max_positions=400)
    assert part.get_learned_boundaries().tolist() == [100, 200, 300]
    with torch.no_grad():
        part.boundaries.copy_(torch.tensor([0.9, 0.1, 0.5]))
    torch.testing.assert_close(part.get_learned_boundaries(), torch.tensor([40.0, 200.0, 360.0]))


@given(buckets=st.integers(1, 64), limit=st.integers(1, 3000), p=st.integers(0, 5000), log=st.booleans())
@settings(deadline=None, max_examples=60)
def test_buckets_are_the_formula_at_every_position(buckets, limit, p, log):
    share = math.log1p(p) / math.log1p(limit) if log else p / limit
    got = FixedBuckets(buckets, limit, "log" if log else "linear")(torch.tensor([p])).item()
    exact = buckets * share
    if abs(exact - round(exact)) < 1e-9:  # on a boundary, rounding decides
        assert got in {min(buckets - 1, round(exact) - 1), min(buckets - 1, round(exact))}
    else:
        assert got == min(buckets - 1, math.floor(exact))


@pytest.mark.parametrize("rank", [1, 4, 5])
def test_orthogonal_start_has_orthonormal_rows_and_a_zero_update(rank):
    layer = HyLoRADAUnified(layer_of("linear"), rank=rank)
    torch.testing.assert_close(layer.lora.A @ layer.lora.A.T, torch.eye(rank))
    assert not layer.lora.B.any()
    kaiming = HyLoRADAUnified(layer_of("linear"), rank=rank, orthogonal_init=False).lora.A
    assert kaiming.abs().max() <= 1 / math.sqrt(D_IN) and not torch.allclose(kaiming @ kaiming.T, torch.eye(rank))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_algebraic_norm_is_the_direct_one(dtype):
    torch.manual_seed(0)
    W, A, B = torch.randn(64, 48).to(dtype), torch.randn(8, 48) / 7, torch.randn(64, 8)
    direct = (W.double() + 2.0 * B.double() @ A.double()).norm(dim=1).float()
    got = adapted_norm(W, W.float().square().sum(1), A, B, 2.0)
    torch.testing.assert_close(got, direct, rtol=2e-6, atol=0)


def test_rows_that_cancel_are_redone_directly():
    """A row where s·BA is almost -W leaves no digits in the expanded sum; alone it would be wrong by far."""
    torch.manual_seed(0)
    A, B = torch.linalg.qr(torch.randn(48, 8))[0].T, torch.randn(64, 8) * 50
    W = torch.randn(64, 48)
    W[3] = -B[3] @ A + 1e-3 * torch.randn(48)
    direct = (W.double() + B.double() @ A.double()).norm(dim=1).float()
    got = adapted_norm(W, W.square().sum(1), A, B, 1.0)
    torch.testing.assert_close(got, direct, rtol=1e-3, atol=0)
    expanded = W[3].square().sum() + 2 * (W[3] @ A.T) @ B[3] + B[3] @ (A @ A.T) @ B[3]
    assert abs(expanded.clamp(min=0).sqrt() / direct[3] - 1) > 0.1  # what the redo saves us from


def test_magnitude_learns_in_bfloat16_where_one_plus_small_would_round_away():
    """c moves by 0.1 %, below bfloat16's step at 1; the output must move all the same."""
    base = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
    layer = HyLoRADAUnified(base, rank=2, magnitude=True)
    x = torch.ones(1, 1, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.combine.magnitude.mul_(1.002)
    factor = layer.combine.row_factor(base, layer.lora)
    assert (factor > 1).all() and torch.equal(factor.to(torch.bfloat16), torch.ones(64, dtype=torch.bfloat16))
    layer(x).float().sum().backward()
    wanted = F.linear(x, base.weight).float().flatten() * (1 - 0.1) * 0.5 / layer.combine.base_norm_squared.sqrt()
    torch.testing.assert_close(layer.combine.magnitude.grad, wanted, rtol=0.02, atol=1e-3)


def test_dropout_reaches_the_update_alone():
    base, x = layer_of("linear"), torch.randn(1, 4, D_IN)
    layer = HyLoRADAUnified(base, rank=2, dropout=0.5, magnitude=True).train()
    assert torch.equal(layer(x), base(x))  # B is zero: whatever is dropped, the frozen path is whole
    off_start(layer.lora)
    assert not torch.equal(layer(x), layer(x))


def test_autocast_changes_nothing_in_the_norm():
    model = without_zeros(adapt(llama(), HyLoRADAConfig(use_dora_magnitude=True)))
    layer = next(m for m in model.modules() if isinstance(m, HyLoRADAUnified))
    outside = layer.combine.row_factor(layer.base_layer, layer.lora)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.combine.row_factor(layer.base_layer, layer.lora)
        assert model(tokens()).logits.isfinite().all()
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)
