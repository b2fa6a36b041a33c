"""Two steps of the adapted layer with their derivatives written out, so that a pass keeps and moves less.

Left to autograd, each adapted layer would keep a dropped-out copy of its input and two copies of its output. Here it
keeps the input, which its neighbours keep too, and one output. The formulas are those of `lora.py`; a token's scale is
1 + e, a row's 1 + k.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def dropped_places(count: int, share: float, device: torch.device) -> Tensor:
    """Return which of `count` numbers dropout zeroes, as indices: each with probability `share`, independently.

    Poisson(-count·log(1-share)) darts leave a number unhit with probability 1-share. A small share so takes few random
    numbers, where a mask takes one for every number.
    """
    darts = torch.poisson(torch.full((), -count * math.log1p(-share), dtype=torch.float64))
    throw = _throw_in_graph if torch.compiler.is_compiling() else _throw  # the operator is slower to call
    return throw(darts, count, device)


def _throw(darts: Tensor, count: int, device: torch.device) -> Tensor:
    return torch.randint(count, (int(darts),), device=device)


# How many are thrown is for the draw to say, so a compiled graph holds them as one operator, of unknown length. `darts`
# is drawn outside, because the compiler would take two operators with equal arguments for one.
_throw_in_graph = torch.library.custom_op(
    "hylorada::throw", _throw, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)


@_throw_in_graph.register_fake
def _(darts: Tensor, count: int, device: torch.device) -> Tensor:
    return torch.empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64, device=device)


def project_down(x: Tensor, A: Tensor, scaling: float, dropped: Tensor | None) -> Tensor:
    """Return s·A·dropout(x), (batch, seq, r), in the dtype of x (batch, seq, d_in).

    A: (r, d_in). dropped: what `dropped_places` gave, or None; `scaling` then holds 1/(1 - share) as well.
    """
    return _Down.apply(x, A, scaling, dropped) if torch.is_grad_enabled() else _down(x, A, scaling, dropped)


def scale_rows_and_tokens(z: Tensor, bias: Tensor | None, k: Tensor, e: Tensor | None) -> Tensor:
    """Return (1 + e)·(z + k∘(z - b)), (batch, seq, d_out), for z = v + b; k (d_out,), e (batch, seq) or None."""
    return _Scaled.apply(z, bias, k, e) if torch.is_grad_enabled() else _scaled(z, bias, k, e)[0]


class _Down(torch.autograd.Function):
    """`project_down`: keeps x and the dropped places."""

    @staticmethod
    def forward(ctx, x: Tensor, A: Tensor, scaling: float, dropped: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, A, dropped)
        ctx.scaling = scaling
        return _down(x, A, scaling, dropped)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple:
        x, A, dropped = ctx.saved_tensors
        slope = slope * ctx.scaling  # (batch, seq, r)
        x_slope = (slope @ A.to(slope.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        if x_slope is not None and dropped is not None:
            x_slope.view(-1).index_fill_(0, dropped, 0.0)
        kept = _without(x, dropped).to(slope.dtype)
        A_slope = slope.flatten(0, -2).T @ kept.flatten(0, -2)
        return x_slope, A_slope.to(A.dtype), None, None


class _Scaled(torch.autograd.Function):
    """y_p = (1 + e_p)·(z_p + k∘(z_p - b)) for z = v + b: c = 1 + k by row and 1 + e by token, keeping one tensor, z.

    k and e come apart from the 1: bfloat16 would round 1 + k to 1 while k is small, and nothing would be learned.
    """

    @staticmethod
    def forward(ctx, z: Tensor, bias: Tensor | None, k: Tensor, e: Tensor | None) -> Tensor:
        y, k, e = _scaled(z, bias, k, e)
        ctx.save_for_backward(z, bias, k, e)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple:
        z, bias, k, e = ctx.saved_tensors
        work = slope * z  # (batch, seq, d_out)
        k_slope, e_slope, bias_slope = _over_tokens(work, e), None, None
        if e is not None:
            e_slope = work @ (1.0 + k)  # (batch, seq)
        if bias is not None:
            bias = bias.to(slope.dtype)  # under autocast it is a float32 master
            total = _over_tokens(slope, e)
            k_slope, bias_slope = k_slope - bias * total, -k * total
            if e is not None:
                e_slope -= slope @ (k * bias)
        z_slope = torch.addcmul(slope, slope, k, out=work)
        if e is not None:
            z_slope.addcmul_(z_slope, e)
        return z_slope, bias_slope, k_slope.float(), e_slope


def _down(x: Tensor, A: Tensor, scaling: float, dropped: Tensor | None) -> Tensor:
    return F.linear(_without(x, dropped), A.to(x.dtype)).mul_(scaling)


def _scaled(z: Tensor, bias: Tensor | None, k: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what `scale_rows_and_tokens` does, with k and e in the dtype of z and e as (batch, seq, 1)."""
    k = k.to(z.dtype)  # (d_out,)
    y = torch.addcmul(z, z, k) if bias is None else torch.lerp(z, bias.to(z.dtype), -k)
    if e is not None:
        e = e.to(z.dtype)[..., None]  # (batch, seq, 1)
        y.addcmul_(y, e)
    return y, k, e


def _over_tokens(values: Tensor, e: Tensor | None) -> Tensor:
    """Sum values (batch, seq, d) over all tokens, (d,), weighing each token by 1 + e (batch, seq, 1)."""
    values = values.flatten(0, -2)
    return values.sum(dim=0) if e is None else ((1.0 + e).flatten()[None] @ values)[0]


def _without(x: Tensor, dropped: Tensor | None) -> Tensor:
    if dropped is None:
        return x
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1).index_fill_(0, dropped, 0.0)
    return x
