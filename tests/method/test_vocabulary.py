"""Blocks of the vocabulary give the logits' loss and slope, nearer to float64 than whole logits, and leave no trace."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hylorada import HyLoRADAError, vocabulary
from hylorada.loss import IGNORED, chunked_nll
from hylorada.vocabulary import bfloat16_products, float32_nll, is_plain, nll_and_slope

WIDTH, WORDS, ROWS = 16, 101, 37


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(vocabulary, "BLOCK", 8)  # 12 whole ones, and 5 words


def case(dtype: torch.dtype, bias: bool = False) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    """Hidden states with a large logit here and there, an output layer, and targets with the first and last word."""
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, WORDS, bias=bias).to(dtype).requires_grad_(False)
    targets = torch.randint(0, WORDS, (ROWS,))
    targets[:2] = torch.tensor([0, WORDS - 1])
    return (3 * torch.randn(ROWS, WIDTH)).to(dtype), head, targets


def in_float64(hidden: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-log softmax(logits)[target] and its derivative, from whole logits."""
    hidden = hidden.double().requires_grad_()
    logits = F.linear(hidden, head.weight.double(), None if head.bias is None else head.bias.double())
    nll = F.cross_entropy(logits, targets, reduction="none")
    return nll.detach(), torch.autograd.grad(nll.sum(), hidden)[0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_slope_are_those_of_whole_logits(dtype, bias):
    hidden, head, targets = case(dtype, bias)
    nll, slope = in_float64(hidden, head, targets)
    near = dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(float32_nll(hidden, head, targets).double(), nll, **near)
    own, own_slope = nll_and_slope(hidden, head, targets)
    torch.testing.assert_close(own.double(), nll, **near)
    assert own.dtype == torch.float32 and own_slope.dtype == dtype
    torch.testing.assert_close(
        own_slope.double(), slope, **(near if dtype == torch.float32 else dict(rtol=1e-2, atol=1e-2))
    )


def test_a_bfloat16_slope_is_no_farther_from_float64_than_that_of_bfloat16_logits():
    hidden, head, targets = case(torch.bfloat16)
    _, slope = in_float64(hidden, head, targets)
    rows = hidden.clone().requires_grad_()
    (rounded,) = torch.autograd.grad(F.cross_entropy(head(rows).float(), targets, reduction="sum"), rows)
    _, own = nll_and_slope(hidden, head, targets)
    assert (own.double() - slope).norm() <= (rounded.double() - slope).norm()


def test_logits_far_from_zero_neither_overflow_nor_vanish():
    hidden, head, targets = case(torch.float32)
    far = 400 * hidden
    nll, slope = in_float64(far, head, targets)
    torch.testing.assert_close(nll_and_slope(far, head, targets)[0].double(), nll, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(nll_and_slope(far, head, targets)[1].double(), slope, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(float32_nll(far, head, targets).double(), nll, rtol=1e-5, atol=1e-3)


def test_the_loss_takes_blocks_for_a_plain_layer_alone(monkeypatch):
    hidden, head, targets = case(torch.float32)
    called = []
    for name in ("float32_nll", "nll_and_slope"):
        whole = getattr(vocabulary, name)
        spied = lambda rows, head, targets, name=name, whole=whole: called.append(name) or whole(rows, head, targets)  # noqa: E731
        monkeypatch.setattr(f"hylorada.loss.{name}", spied)
    targets[3] = IGNORED
    chunked_nll(hidden, head, targets, 10, fp32_logits=True)
    chunked_nll(hidden.requires_grad_(), head, targets, 10).sum().backward()
    assert called == ["float32_nll"] * 4 + ["nll_and_slope"] * 4
    head.register_forward_hook(lambda module, args, output: 2 * output)
    doubled = F.cross_entropy(head(hidden), targets, reduction="none")
    torch.testing.assert_close(chunked_nll(hidden, head, targets, 10), doubled)
    assert len(called) == 8 and not is_plain(head) and not is_plain(nn.Identity())


def test_the_processs_precision_is_put_back_whatever_happens():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with pytest.raises(KeyError), bfloat16_products():
        assert matmul.fp32_precision == "bf16"
        raise KeyError
    assert matmul.fp32_precision == before


@pytest.mark.parametrize(("dtype", "half"), [(torch.bfloat16, True), (torch.float32, False)])
def test_products_are_rounded_only_where_that_rounds_nothing(monkeypatch, dtype, half):
    seen, linear = [], F.linear

    def spied(*args):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return linear(*args)

    monkeypatch.setattr(vocabulary.F, "linear", spied)
    hidden, head, targets = case(dtype)
    float32_nll(hidden, head, targets)
    nll_and_slope(hidden, head, targets)
    assert set(seen) == {"bf16" if half else torch.backends.mkldnn.matmul.fp32_precision}


def test_a_mixed_layer_and_hidden_state_are_not_rounded():
    hidden, head, targets = case(torch.float32)
    half = nn.Linear(WIDTH, WORDS, bias=False).bfloat16().requires_grad_(False)
    half.weight.copy_(head.weight)
    nll, _ = in_float64(hidden, half, targets)
    torch.testing.assert_close(float32_nll(hidden, half, targets).double(), nll, rtol=1e-5, atol=1e-5)


def test_a_target_that_is_no_word_is_refused():
    hidden, head, targets = case(torch.float32)
    targets[5] = WORDS
    for of in (float32_nll, nll_and_slope):
        with pytest.raises(HyLoRADAError, match=f"targets of 0 to {WORDS} do not fit an output layer of {WORDS} words"):
            of(hidden, head, targets)
