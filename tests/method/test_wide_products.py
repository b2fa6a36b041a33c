"""Products of half precision by float32 units: the formula, what stays torch's, and who takes them."""

import pytest
import torch
from bases import llama
from torch.nn import functional as F

from hylorada import HyLoRADAConfig, HyLoRADAModel, HyLoRADATrainer, TrainingConfig, wide_products
from hylorada.evaluation import token_nll
from hylorada.wide_products import HALVES, UNITS, widened

torch_alone = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch cannot tell of its units")
AS_TORCH_SAYS = wide_products.without_units


@pytest.fixture(autouse=True)
def no_units(monkeypatch):
    """A processor without units for any half type, whatever this one has."""
    monkeypatch.setattr(wide_products, "without_units", lambda: tuple(HALVES))


@pytest.fixture(params=HALVES, ids=str)
def half(request):
    return request.param


def random(*shape, dtype):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


def test_each_product_is_the_float32_one_rounded_once(half):
    a, b, bias = random(33, 40, dtype=half), random(40, 17, dtype=half), random(17, dtype=half)
    many, others = random(3, 5, 40, dtype=half), random(3, 40, 7, dtype=half)
    slow = [a.float() @ b.float(), F.linear(a.float(), b.T.float(), bias.float()), many.float() @ others.float()]
    slow.append(torch.baddbmm(torch.ones(3, 5, 7), many.float(), others.float(), beta=0.5, alpha=2.0))
    with wide_products.wide_products():
        ones = torch.ones(3, 5, 7, dtype=half)
        fast = [a @ b, F.linear(a, b.T, bias), many @ others, torch.baddbmm(ones, many, others, beta=0.5, alpha=2.0)]
    for product, formula in zip(fast, slow, strict=True):
        assert product.dtype == half and torch.equal(product, formula.to(half))


def test_gradients_of_attention_are_nearer_to_float64_than_torch_s_own():
    q, k, v = (random(1, 2, 48, 16, dtype=torch.bfloat16) * scale for scale in (1.0, 2.0, 3.0))
    slope = random(1, 2, 48, 16, dtype=torch.bfloat16)

    def gradients(dtype):
        inputs = [each.clone().to(dtype).requires_grad_() for each in (q, k, v)]
        (F.scaled_dot_product_attention(*inputs, is_causal=True) * slope.to(dtype)).sum().backward()
        return torch.cat([each.grad.double() for each in inputs])

    exact, own = gradients(torch.float64), gradients(torch.bfloat16)
    with wide_products.wide_products():
        wide = gradients(torch.bfloat16)
    assert 0 < (wide - exact).norm() < (own - exact).norm() < 2e-2 * exact.norm()


def test_other_types_are_torch_s_as_before(half):
    a, b = random(9, 8, dtype=torch.float32), random(8, 7, dtype=torch.float32)
    own, own64 = a @ b, a.double() @ b.double()
    with wide_products.wide_products():
        assert torch.equal(a @ b, own) and torch.equal(a.double() @ b.double(), own64)
        with pytest.raises(RuntimeError, match="dtype"):
            torch.mm(a.to(half), b)
        with pytest.raises(RuntimeError, match="same type|dtype"):
            torch.addmm(torch.zeros(7), a.to(half), b.to(half))


def test_torch_s_own_way_is_back_when_the_last_block_ends_whatever_happens(monkeypatch):
    made, original = [], wide_products._registered
    monkeypatch.setattr(wide_products, "_registered", lambda halves: made.append(original(halves)) or made[-1])
    with pytest.raises(ZeroDivisionError), wide_products.wide_products():
        with wide_products.wide_products():
            pass
        assert wide_products._library is made[0]
        raise ZeroDivisionError
    assert wide_products._library is None and wide_products._users == 0 and len(made) == 1
    with wide_products.wide_products():
        assert wide_products._library is made[1]


@torch_alone
def test_nothing_is_set_where_the_processor_has_the_units(monkeypatch):
    for name in HALVES.values():
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda: True)
    monkeypatch.setattr(wide_products, "without_units", AS_TORCH_SAYS)
    with wide_products.wide_products():
        assert wide_products._library is None


def test_what_multiplies_is_named_by_type_and_device():
    assert widened(torch.bfloat16, "cpu") == UNITS
    assert widened(torch.float32, "cpu") is widened(torch.bfloat16, "cuda:0") is None


def test_training_and_scoring_take_them(monkeypatch):
    """The trainer's steps, their backward passes included, and every scored window."""
    seen, original = [], wide_products._widened

    def counted(own, factors, halves):
        kernel = original(own, factors, halves)
        return lambda keys, *args, **kwargs: (seen.append(args[0].dtype), kernel(keys, *args, **kwargs))[1]

    monkeypatch.setattr(wide_products, "_widened", counted)
    model = HyLoRADAModel(llama().bfloat16(), HyLoRADAConfig(lora_rank=2))
    HyLoRADATrainer(model, TrainingConfig(batch_size=1), [{"input_ids": [1, 2, 3, 4]}], progress=False).train()
    trained = seen.count(torch.bfloat16)
    token_nll(model, [[1, 2, 3, 4, 5]], 8, progress=False)
    assert trained > 0 and seen.count(torch.bfloat16) > trained
