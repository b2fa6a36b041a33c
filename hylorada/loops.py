"""What a base computes between its products, each as one compiled loop: RMSNorm, rotary positions, the gate of SwiGLU.

One operation at a time, these carry the same numbers through memory over and over, forward and backward. With their
derivatives written out, each way is one loop, which in half precision rounds once, where it ends. A loop is compiled
for any number of rows from the first call on, so that no result depends on what was computed before it, or beside it.
"""

import subprocess
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hylorada.errors import HyLoRADAError

GRAPHS = 64  # of one formula in one process: by width, dtype, layout in memory and device


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return weight∘x/sqrt(mean(x²) + eps), the mean over the last dimension; x (..., d), weight (d,)."""
    return _Norm.apply(x, weight, eps)


def silu_gate(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate)∘up, both (..., d)."""
    return _Gate.apply(gate, up)


def turn(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys (batch, heads, seq, d) turned by the angles of their places.

    Number i of a head and number i + d/2 are a pair. cos, sin: (batch or 1, seq, d), the second half as the first.
    """
    return _Turn.apply(q, k, cos, sin)


@cache
def check_compiler(device: torch.device) -> str:
    """Compile and run a loop on a device; return the compiler in words.

    Raises:
        HyLoRADAError: that does not work.
    """
    try:
        name = _compiler(device)
        _graph(_norm)(torch.ones(2, 8, device=device), torch.ones(8, device=device), 0.0)
    except Exception as error:  # a compiler fails in ways of its own: not there, no headers of Python, no room
        reason = " ".join(str(error).split())[:160]
        raise HyLoRADAError(
            f"nothing can be compiled on {device.type} here ({reason}); install a C++ compiler and the headers of "
            "Python, or leave compile_pieces out (in a scale, compile: no)."
        ) from error
    return name


class _Norm(torch.autograd.Function):
    """`rms_norm`: keeps x and the weight."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return _graph(_norm)(_rows(x), weight.detach(), eps).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        x_slope = _graph(_norm_slope)(_rows(x), weight.detach(), ctx.eps, _rows(slope)).view(x.shape)
        weight_slope = None
        if ctx.needs_input_grad[1]:
            scaled = _graph(_norm)(_rows(x), torch.ones_like(weight), ctx.eps)
            weight_slope = (slope.flatten(0, -2) * scaled).sum(dim=0).to(weight.dtype)
        return x_slope, weight_slope, None


class _Gate(torch.autograd.Function):
    """`silu_gate`: keeps its arguments."""

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _graph(_gate)(_rows(gate), _rows(up)).view(up.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple:
        gate, up = ctx.saved_tensors
        slopes = _graph(_gate_slopes)(_rows(gate), _rows(up), _rows(slope))
        return tuple(each.view(up.shape) for each in slopes)


class _Turn(torch.autograd.Function):
    """`turn`, whose derivative is the turn back; keeps the angles."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        return _turned_by(q, k, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx, q_slope: Tensor, k_slope: Tensor) -> tuple:
        cos, sin = ctx.saved_tensors
        return *_turned_by(q_slope, k_slope, cos, -sin), None, None


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()  # (rows, d)
    return (weight * (wide * _one_over_size(wide, eps))).to(x.dtype)


def _norm_slope(x: Tensor, weight: Tensor, eps: float, slope: Tensor) -> Tensor:
    wide, scaled = x.float(), slope.float() * weight  # (rows, d)
    by = _one_over_size(wide, eps)
    along = (scaled * wide).mean(dim=-1, keepdim=True) * by * by
    return (by * (scaled - along * wide)).to(x.dtype)


def _one_over_size(wide: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)  # (rows, 1)


def _gate(gate: Tensor, up: Tensor) -> Tensor:
    return gate * torch.sigmoid(gate) * up  # silu(g) = g·sigmoid(g)


def _gate_slopes(gate: Tensor, up: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    share = torch.sigmoid(gate)
    passed = slope * share
    return passed * up * (1 + gate * (1 - share)), passed * gate


def _turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    half = q.shape[-1] // 2
    cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
    pairs = ((x[..., :half], x[..., half:]) for x in (q, k))
    return tuple(torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1) for a, b in pairs)


def _turned_by(*tensors: Tensor) -> tuple[Tensor, ...]:
    tensors = tuple(tensor.detach() for tensor in tensors)  # a view that can be marked
    for tensor, places in zip(tensors, ([0, 2], [0, 2], [0, 1], [0, 1]), strict=True):
        torch._dynamo.maybe_mark_dynamic(tensor, places)
    return _graph(_turned)(*tensors)


def _rows(x: Tensor) -> Tensor:
    """Return x (..., d) as (rows, d), the number of rows open."""
    rows = x.detach().flatten(0, -2)
    torch._dynamo.maybe_mark_dynamic(rows, 0)
    return rows


@cache
def _graph(formula: Callable) -> Callable:
    """Return a formula compiled: once for all sizes that are marked as open, and for each other one anew."""
    return torch.compile(formula, fullgraph=True, dynamic=False, isolate_recompiles=True, recompile_limit=GRAPHS)


def _compiler(device: torch.device) -> str:
    if device.type != "cpu":
        from importlib.metadata import version

        return f"triton {version('triton')}"
    from torch._inductor.cpp_builder import get_cpp_compiler

    told = subprocess.run(
        [get_cpp_compiler(), "--version"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
        errors="replace",
    ).stdout
    return told.splitlines()[0]
