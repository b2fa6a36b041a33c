"""What layers derive from trained numbers that lie idle, kept while tokens are generated one by one.

A pass of one token costs little more than reading the weights once, and the scale of a row, for which c needs WA^T, as
much as the pass itself. So what one pass derives is taken up by the next token, for as long as the sequence lasts and
nothing that it comes from has changed. A pass that begins a sequence, or brings several tokens, derives anew: it can
afford to, and so sees what leaves no trace, such as a write through `.data` into the memory that was there.

The one thing not seen is such a write between two tokens of one sequence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RunningSequence:
    """Which sequence the pass that runs belongs to, and whether it may keep; a model's layers share one."""

    def __init__(self) -> None:
        self.number, self.keeps = 0, False

    def begin_pass(self, goes_on: bool, keeps: bool) -> None:
        """Note a pass. goes_on: it brings the next token of the sequence before. keeps: it may keep what it derives."""
        if not goes_on:
            self.end()
        self.keeps = keeps

    def end_pass(self) -> None:
        """Let what is called outside a pass derive for itself."""
        self.keeps = False

    def end(self) -> None:
        """End the sequence, and with it the use of all that it kept."""
        self.number += 1


class Kept:
    """One derived tensor, with what it comes from; without a sequence never any. Copies and pickles of it are empty."""

    def __init__(self, sequence: RunningSequence | None = None) -> None:
        self.sequence = RunningSequence() if sequence is None else sequence
        self._held: Tensor | None = None
        self._signs: tuple = ()  # of what it was derived from
        self._sources: tuple[Tensor, ...] = ()  # themselves, so that no others take their ids and places

    def get(self, derive: Callable[[], Tensor], dtype: torch.dtype, *sources: Tensor) -> Tensor:
        """Return derive() in `dtype`, or what it gave earlier in this sequence; outside a pass just derive().

        sources: all tensors that `derive` reads. In-place changes of theirs are noticed, and that they are others or
        lie elsewhere. A graph that is compiled or recorded for gradients derives for itself.
        """
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not self.sequence.keeps:
            return derive()
        try:
            signs = (self.sequence.number, dtype, *[(id(s), s._version, s.data_ptr()) for s in sources])
        except RuntimeError:  # made in inference mode, or without memory of their own: changes would not show
            return derive()
        if signs != self._signs:
            self._held, self._signs, self._sources = derive().to(dtype), signs, sources
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None, "_signs": (), "_sources": ()}
