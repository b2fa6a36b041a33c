"""Activation checkpointing: a block runs again in the backward pass, and must see the positions of its own pass.

By then another pass may have run. What a block is called with does not tell its positions in every family (Bloom, MPT
and GPT-Neo have none to give), so the function that checkpoints a block takes them along.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from hylorada.positions import PositionIds

FUNCTION = "_gradient_checkpointing_func"  # where transformers keeps it, on each module that checkpoints


class Recomputed:
    """A checkpointing function whose blocks, whenever they run, hold the positions of the pass that called it."""

    def __init__(self, checkpoint: Callable, positions: PositionIds) -> None:
        self.checkpoint, self.positions = checkpoint, positions

    def __call__(self, block: Callable, *args: Any, **kwargs: Any) -> Any:
        """Checkpoint one call of a block."""
        positions, own = self.positions, self.positions.held

        def run(*args: Any, **kwargs: Any) -> Any:
            before, positions.held = positions.held, own
            try:
                return block(*args, **kwargs)
            finally:
                positions.held = before

        return self.checkpoint(run, *args, **kwargs)


def take_positions_along(modules: Iterable[nn.Module], positions: PositionIds) -> None:
    """Let the modules' checkpointing do so where it is switched on and does not yet: it may come on at any time."""
    for module in modules:
        checkpoint = getattr(module, FUNCTION, None)
        if checkpoint is not None and not isinstance(checkpoint, Recomputed):
            setattr(module, FUNCTION, Recomputed(checkpoint, positions))


def leave_as_it_was(modules: Iterable[nn.Module]) -> None:
    """Give the modules their own checkpointing back."""
    for module in modules:
        if isinstance(checkpoint := getattr(module, FUNCTION, None), Recomputed):
            setattr(module, FUNCTION, checkpoint.checkpoint)
