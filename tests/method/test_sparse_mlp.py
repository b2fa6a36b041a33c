"""The sparse bottleneck is its slow formula, forward and backward, and acts on each token alone."""

import math

import pytest
import torch
from bases import FAMILIES, tokens
from torch import nn
from torch.nn import functional as F

from hylorada.errors import HyLoRADAError
from hylorada.sparse_mlp import SparseMLP, largest

WIDTH, UNITS, KEPT = 6, 20, 3


def part_off_start(width: int = WIDTH) -> SparseMLP:
    torch.manual_seed(0)
    part = SparseMLP(width, UNITS, top_share=KEPT / UNITS)
    nn.init.normal_(part.up)
    return part


def slow_mask(z: torch.Tensor, count: int) -> torch.Tensor:
    """Sort the units of every token by falling magnitude, the first of equal ones before the others."""
    mask = torch.zeros_like(z)
    for row, out in zip(z.view(-1, z.shape[-1]), mask.view(-1, z.shape[-1]), strict=True):
        for unit in sorted(range(len(row)), key=lambda i: (-abs(row[i].item()), i))[:count]:
            out[unit] = 1.0
    return mask


def test_forward_is_the_slow_formula():
    """y + up·gelu(m∘(down·y)), m keeping the k units of largest magnitude, token by token."""
    part, y = part_off_start(), torch.randn(2, 5, WIDTH)
    want = torch.empty_like(y)
    for row in range(2):
        for p in range(5):
            z = part.down @ y[row, p]
            want[row, p] = y[row, p] + part.up @ F.gelu(slow_mask(z, KEPT) * z)
    torch.testing.assert_close(part(y), want)


def test_gradients_are_those_of_an_open_gate_except_in_up():
    """With g the gradient of the output: dz = gelu'(z)∘(upᵀg) for all units, dup = g·(m∘gelu(z))ᵀ exactly."""
    part, y, g = part_off_start(), torch.randn(7, WIDTH, requires_grad=True), torch.randn(7, WIDTH)
    z = (y @ part.down.T).detach()
    slope = 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    dz = slope * (g @ part.up.detach())
    want = (g + dz @ part.down.detach(), dz.T @ y.detach(), g.T @ (slow_mask(z, KEPT) * F.gelu(z)))
    torch.testing.assert_close(torch.autograd.grad(part(y), (y, part.down, part.up), g), want)


def test_a_unit_that_never_passes_learns_all_the_same():
    part, y = part_off_start(), torch.randn(4, WIDTH)
    with torch.no_grad():
        part.down[0] *= 1e-3  # always the smallest
    assert not largest((y @ part.down.T).abs(), KEPT)[:, 0].any()
    part(y).square().sum().backward()
    assert part.down.grad[0].abs().max() > 1e-3
    assert not part.up.grad[:, 0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_part_changes_no_bit_and_begins_to_learn(dtype):
    y = torch.randn(2, 5, WIDTH, dtype=dtype)
    part = SparseMLP(WIDTH)
    assert part(y).dtype == dtype and torch.equal(part(y), y)
    part(y).float().square().sum().backward()
    assert part.up.grad.any() and part.down.dtype == part.up.dtype == torch.float32


@pytest.mark.parametrize(
    ("bottleneck", "top_share", "kept"), [(128, 0.05, 6), (4, 0.05, 1), (1, 0.5, 1), (20, 0.2, 4), (10, 1.0, 10)]
)
def test_the_share_of_units_is_rounded_and_never_none(bottleneck, top_share, kept):
    part = SparseMLP(WIDTH, bottleneck, top_share)
    assert part.kept == kept
    assert sum(p.numel() for p in part.parameters()) == 2 * WIDTH * bottleneck


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exactly_k_pass_when_magnitudes_tie_and_the_first_of_them(dtype):
    ties = torch.randint(0, 4, (50, UNITS), generator=torch.Generator().manual_seed(0)).to(dtype)
    assert (largest(ties, KEPT).sum(dim=-1) == KEPT).all()
    assert torch.equal(largest(ties, KEPT).to(dtype), slow_mask(ties, KEPT))
    assert largest(torch.zeros(UNITS), KEPT).nonzero().flatten().tolist() == [0, 1, 2]


def test_all_units_pass_with_a_share_of_one():
    part, y = part_off_start(), torch.randn(2, 5, WIDTH)
    part.kept = UNITS
    torch.testing.assert_close(part(y), y + F.gelu(y @ part.down.T) @ part.up.T)


def test_a_token_hears_of_no_other_token():
    part, y = part_off_start(), torch.randn(2, 9, WIDTH)
    whole = part(y)
    torch.testing.assert_close(torch.cat([part(y[:, :4]), part(y[:, 4:])], dim=1), whole)
    changed = y.clone()
    changed[:, 5] += 1.0
    others = [p for p in range(9) if p != 5]
    torch.testing.assert_close(part(changed)[:, others], whole[:, others])
    assert not torch.allclose(part(changed)[:, 5] - changed[:, 5], whole[:, 5] - y[:, 5])


def test_products_run_in_the_dtype_of_the_input():
    part, y = part_off_start(64), torch.randn(2, 5, 64).bfloat16()
    down, up = part.down.bfloat16(), part.up.bfloat16()
    z = y @ down.T
    want = y + (F.gelu(z) * slow_mask(z, KEPT).bfloat16()) @ up.T
    torch.testing.assert_close(part(y), want)


def test_what_is_not_finite_is_not_hidden_by_the_gate():
    part, y = part_off_start(), torch.randn(1, 2, WIDTH)
    y[0, 1, 3] = float("nan")
    assert part(y)[0, 1].isnan().all() and part(y)[0, 0].isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_after_the_feed_forward_of_a_model_it_is_neutral_learns_and_stays_causal(family):
    model, ids = FAMILIES[family]().requires_grad_(False), tokens()
    before = model(ids).logits
    torch.manual_seed(0)
    parts = [SparseMLP(32, UNITS, KEPT / UNITS) for _ in range(2)]
    blocks = [module for name, module in model.named_modules() if name.endswith(".mlp")]
    for block, part in zip(blocks, parts, strict=True):
        block.register_forward_hook(lambda module, args, output, part=part: part(output))
    assert torch.equal(model(ids).logits, before)
    for part in parts:
        nn.init.normal_(part.up, std=0.3)
    whole = model(ids).logits
    assert not torch.allclose(whole, before, atol=1e-2)
    torch.testing.assert_close(model(ids[:, :10]).logits, whole[:, :10])
    model(ids, labels=ids).loss.backward()
    assert all(p.grad.any() for part in parts for p in part.parameters())
    settings = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    cached = model.generate(ids[:, :8], use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids[:, :8], use_cache=False, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(hidden_size=0), "hidden_size=0, bottleneck=128: use 1 or more"),
        (dict(bottleneck=0), "bottleneck=0: use 1 or more"),
        (dict(top_share=0.0), "top_share=0.0 lets no share of units pass; use above 0.0, up to 1.0"),
        (dict(top_share=1.01), "top_share=1.01"),
        (dict(top_share=-0.1), "top_share=-0.1"),
        (dict(top_share=float("nan")), "top_share=nan"),
    ],
)
def test_sizes_and_shares_that_make_no_part_are_refused(settings, message):
    with pytest.raises(HyLoRADAError, match=message):
        SparseMLP(**{"hidden_size": WIDTH} | settings)
