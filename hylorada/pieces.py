"""Pieces of a base model swapped for compiled ones (`loops.py`), and back.

A piece is known by its code: a module whose `forward` is, instruction by instruction, that of Llama's norm or
feed-forward block, or one that calls Llama's rotary function. Many families of transformers have them. The compiled
`forward` is set on the module itself, beside that of its class: no other model notices, and taking it away gives the
module back as it was.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hylorada import loops

LOG = logging.getLogger(__name__)
TURN, HALF = "apply_rotary_pos_emb", "rotate_half"  # functions of transformers, each family's own copy
Forward = Callable[..., Tensor | tuple]
_told: set[str] = set()  # classes of models that were said to have no pieces


class Pieces:
    """The pieces of one model that are compiled now; none until `swap_in`."""

    def __init__(self) -> None:
        self._modules: list[nn.Module] = []

    def swap_in(self, model: nn.Module) -> None:
        """Compile the pieces of a model; a forward that is set on a module already stays.

        Raises:
            HyLoRADAError: nothing can be compiled here.
        """
        found = find_pieces(model)
        if found:
            loops.check_compiler(next(model.parameters()).device)
        elif (name := type(model).__name__) not in _told:
            LOG.warning("no piece of a %s can be compiled; it runs as it is", name)
            _told.add(name)
        for module, (_, forward) in found.items():
            if "forward" not in vars(module):
                self._modules.append(module)
                module.forward = MethodType(forward, module)

    def swap_out(self) -> None:
        """Give every module the forward of its class back."""
        while self._modules:
            vars(self._modules.pop()).pop("forward", None)


@contextmanager
def compiled(model: nn.Module) -> Iterator[nn.Module]:
    """Compile the pieces of a base model for the length of a `with` block (HyLoRADAError without a compiler)."""
    pieces = Pieces()
    try:
        pieces.swap_in(model)
        yield model
    finally:
        pieces.swap_out()


def describe_pieces(model: nn.Module) -> str | None:
    """Say which pieces of a model can be compiled, and by what; None where it has none.

    Raises:
        HyLoRADAError: nothing can be compiled here.
    """
    names = sorted({name for name, _ in find_pieces(model).values()})
    if not names:
        return None
    return f"{', '.join(names)} by {loops.check_compiler(next(model.parameters()).device)}"


def find_pieces(model: nn.Module) -> dict[nn.Module, tuple[str, Forward]]:
    """Return the modules that have a piece, each with the name of the piece and the forward that compiles it."""
    from transformers.models.llama import modeling_llama as llama  # what is compared with, needed by those who ask

    found: dict[nn.Module, tuple[str, Forward]] = {}
    for module in model.modules():
        own = type(module).forward
        if _same(own, llama.LlamaRMSNorm.forward):
            found[module] = "RMSNorm", _norm(own)
        elif _same(own, llama.LlamaMLP.forward) and type(module.act_fn).__name__ in ("SiLUActivation", "SiLU"):
            found[module] = "SwiGLU", _feed_forward(own)
        elif _calls_turn(own) and all(_same(own.__globals__.get(name), getattr(llama, name)) for name in (TURN, HALF)):
            found[module] = "rotary positions", _attention(own)
    return found


def _norm(own: Forward) -> Forward:
    def forward(self: nn.Module, hidden_states: Tensor) -> Tensor:
        if _is_short(hidden_states):
            return own(self, hidden_states)
        return loops.rms_norm(hidden_states, self.weight, self.variance_epsilon)

    return forward


def _feed_forward(own: Forward) -> Forward:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        if _is_short(x):
            return own(self, x)
        return self.down_proj(loops.silu_gate(self.gate_proj(x), self.up_proj(x)))

    return forward


def _attention(own: FunctionType) -> Forward:
    """Return the forward of an attention module with another function in the place of its rotary one."""
    turn = own.__globals__[TURN]

    def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        if unsqueeze_dim != 1 or _is_short(q):
            return turn(q, k, cos, sin, unsqueeze_dim)
        return loops.turn(q, k, cos, sin)

    names = {**own.__globals__, TURN: turned}
    other = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    other.__kwdefaults__ = own.__kwdefaults__

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> tuple:
        return (own if torch.compiler.is_compiling() else other)(self, *args, **kwargs)

    return forward


def _calls_turn(own: Callable) -> bool:
    """Whether a function itself calls the rotary one; a decorator around it would hide what it is."""
    return isinstance(own, FunctionType) and not hasattr(own, "__wrapped__") and TURN in own.__code__.co_names


def _same(one: object, other: FunctionType) -> bool:
    """Whether two functions do the same, instruction by instruction."""
    read = ("co_code", "co_names", "co_consts", "co_varnames")
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    return None not in codes and all(getattr(codes[0], name) == getattr(codes[1], name) for name in read)


def _is_short(x: Tensor) -> bool:
    """Whether x (..., seq, d) is of one token or none, not worth a loop, or a graph is made around all of it."""
    return x.shape[-2] <= 1 or torch.compiler.is_compiling()
