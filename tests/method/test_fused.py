"""The written-out derivatives of the adapted layer against those that autograd finds, and its way of dropping out."""

import pytest
import torch
from torch.autograd import gradcheck

from hylorada.fused import dropped_places, project_down, scale_rows_and_tokens
from hylorada.lora import HyLoRADAUnified, LowRankUpdate
from hylorada.norm import adapted_norm


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("dropped", [None, torch.tensor([0, 7, 7, 31])])
def test_the_projection_is_the_formula_and_so_is_its_derivative(dropped):
    x, A = drawn(2, 4, 6), drawn(3, 6)
    kept = torch.ones(48, dtype=torch.float64)
    if dropped is not None:
        kept[dropped] = 0
    torch.testing.assert_close(project_down(x, A, 0.7, dropped), 0.7 * (x * kept.view(2, 4, 6)) @ A.T)
    assert gradcheck(lambda x, A: project_down(x, A, 0.7, dropped), (x, A))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("placed", [False, True])
def test_the_scaling_is_the_formula_and_so_is_its_derivative(biased, placed):
    z, k = drawn(2, 4, 5), drawn(5)
    bias, e = drawn(5, seed=1) if biased else None, drawn(2, 4) if placed else None
    v = z - bias if biased else z
    slow = (1 + k) * v + (bias if biased else 0)
    slow = slow * (1 + e[..., None]) if placed else slow
    torch.testing.assert_close(scale_rows_and_tokens(z, bias, k, e), slow)
    inputs = [tensor for tensor in (z, bias, k, e) if tensor is not None]

    def scaled(*given):
        held = iter(given)
        return scale_rows_and_tokens(
            next(held), next(held) if biased else None, next(held), next(held) if placed else None
        )

    found = torch.autograd.grad(scaled(*inputs).square().sum(), inputs)
    wanted = torch.autograd.grad(slow.square().sum(), inputs)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)  # those of the rows come as float32


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
def test_darts_leave_each_number_unhit_with_the_right_chance(share):
    torch.manual_seed(0)
    count, rounds = 1000, 400
    hits = torch.zeros(rounds, count)
    for row in hits:
        row[dropped_places(count, share, torch.device("cpu"))] = 1
    deviation = (share * (1 - share)) ** 0.5
    assert abs(hits.mean().item() - share) < 5 * deviation / (count * rounds) ** 0.5
    # independent: the number of hits in a round spreads as a binomial's does
    spread = hits.sum(dim=1).var().item() / (count * deviation**2)
    assert 0.7 < spread < 1.4


def test_dropout_scales_what_it_keeps_and_blocks_the_gradient_of_what_it_drops():
    update = LowRankUpdate(40, 40, 40, alpha=40**0.5, dropout=0.3)
    with torch.no_grad():
        update.A.copy_(torch.eye(40))
    x = torch.randn(1, 30, 40).requires_grad_()
    down = update.train()(x)
    dropped = down == 0
    assert 0.2 < dropped.float().mean() < 0.4
    torch.testing.assert_close(down, torch.where(dropped, 0.0, x / 0.7))
    down.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(dropped, 0.0, torch.full_like(x, 1 / 0.7)))
    assert torch.equal(update.eval()(x), x)


def test_a_norm_taken_from_half_precision_products_is_close_and_exact_at_the_start():
    torch.manual_seed(0)
    weight = torch.randn(64, 48).to(torch.bfloat16)
    squared = weight.float().square().sum(dim=1)
    A, B = torch.randn(4, 48).to(torch.bfloat16), 0.3 * torch.randn(64, 4)
    direct = (weight.float() + 0.5 * B @ A.float()).norm(dim=1)
    torch.testing.assert_close(adapted_norm(weight, squared, A, B, 0.5), direct, rtol=2e-3, atol=0)
    assert torch.equal(adapted_norm(weight, squared, A, torch.zeros_like(B), 0.5), squared.sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_used_twice_in_one_pass_adds_up_its_gradients(dtype):
    torch.manual_seed(0)
    layer = HyLoRADAUnified(torch.nn.Linear(8, 8, dtype=dtype), rank=2, magnitude=True)
    with torch.no_grad():
        layer.lora.B.normal_()
    x = torch.randn(1, 3, 8, dtype=dtype)
    (layer(x) + layer(2 * x)).float().sum().backward()
    both = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    for part in (x, 2 * x):
        layer(part).float().sum().backward()
    for name, gradient in both.items():
        torch.testing.assert_close(layer.get_parameter(name).grad, gradient, rtol=2e-2, atol=1e-3, msg=name)
