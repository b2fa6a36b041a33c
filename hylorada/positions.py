"""From a token's index to its bucket, and the carrier that brings the indices to the parts that use them.

With B buckets over P positions: log spacing is floor(B·log(1+p)/log(1+P)), linear floor(B·p/P), both clipped to B-1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hylorada.errors import HyLoRADAError


class FixedBuckets(nn.Module):
    """The bucket of every position, looked up in a table so that all devices round alike.

    Raises:
        HyLoRADAError: fewer than one bucket or position, or a spacing other than "log" and "linear".
    """

    def __init__(self, num_buckets: int, max_positions: int, spacing: str = "log") -> None:
        super().__init__()
        check_buckets(num_buckets, max_positions)
        places = torch.arange(max_positions + 1, dtype=torch.float64)
        if spacing == "log":
            share = torch.log1p(places) / math.log1p(max_positions)
        elif spacing == "linear":
            share = places / max_positions
        else:
            raise HyLoRADAError(f"bucket spacing {spacing!r} is not known; use 'log' or 'linear'.")
        table = (num_buckets * share).floor().long().clamp(max=num_buckets - 1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return the bucket of each token; positions and result are whole numbers of one shape, from 0.

        Positions at or beyond `max_positions` share the last bucket.
        """
        return self.table[positions.clamp(max=len(self.table) - 1)]


def check_buckets(num_buckets: int, max_positions: int) -> None:
    """Raise HyLoRADAError unless there is a bucket or more, and a position or more to put into it."""
    if num_buckets < 1 or max_positions < 1:
        raise HyLoRADAError(
            f"num_buckets={num_buckets} over max_positions={max_positions} is empty; use 1 or more of each."
        )


def check_states(hidden: Tensor, size: int, positions: Tensor | None = None) -> None:
    """Hold what a part is called with to (batch, seq, size) states and, where given, (batch or 1, seq) whole positions.

    Raises:
        HyLoRADAError: another shape, or positions that are no whole numbers.
    """
    if hidden.ndim != 3 or hidden.shape[-1] != size:
        raise HyLoRADAError(f"hidden states in the shape {tuple(hidden.shape)}; give (batch, seq, {size}).")
    if positions is None:
        return
    batch, seq = hidden.shape[:2]
    if tuple(positions.shape) not in ((batch, seq), (1, seq)) or positions.is_floating_point():
        raise HyLoRADAError(
            f"positions of {positions.dtype} in the shape {tuple(positions.shape)} for hidden states in "
            f"{tuple(hidden.shape)}; give whole numbers from 0 as ({batch}, {seq}) or (1, {seq})."
        )


class PositionIds:
    """Carries the running forward pass's position ids, (batch or 1, seq), to parts that get hidden states alone.

    held: what is known of the pass, one value, so that a block that runs again can be given that of its own pass.
    """

    def __init__(self) -> None:
        self.held = Pass()

    def set(self, ids: Tensor | None, rows: int | None = None, whole: "Whole | None" = None) -> None:
        """Hold the ids of the pass that begins, or None when they are not known.

        rows: its batch size, None where it is not known. whole: makes the ids of all tokens that the pass sees,
        those in the cache first, for their number: (batch or 1, past + seq).
        """
        self.held = Pass(ids, rows, whole)

    def get(self) -> Tensor:
        """Return the ids of the running pass.

        Raises:
            HyLoRADAError: none were delivered, so a part would silently act as if every token stood at one place.
        """
        if self.held.ids is None:
            raise HyLoRADAError(
                "a part that uses token positions got none: call the model itself (not a layer of it), "
                "and pass position_ids when the attention mask is not a plain (batch, seq) one."
            )
        return self.held.ids

    def of(self, shape: torch.Size) -> Tensor:
        """Return the ids (batch or 1, seq) of vectors that lie in `shape`: (batch, ..., seq), or tokens in one row.

        seq is the pass's own, or past + seq where a layer runs over what the cache holds too.

        Raises:
            HyLoRADAError: as `get`, or vectors in this shape are not the tokens of the pass.
        """
        ids, rows = self.get(), self.held.rows
        several, seq = len(shape) > 1 and rows in (None, shape[0]), ids.shape[1]
        if (several and shape[-1] == seq) or (rows and shape == (rows * seq,)):
            return ids
        whole = self.held.all_ids(shape[-1]) if several else None
        if whole is None:
            raise HyLoRADAError(
                f"an adapted layer sees vectors in the shape {tuple(shape)}, and the pass has {rows} x {seq} tokens, "
                "so their positions are not known; leave that layer out of lora_target_modules, or set "
                "position_bias_enabled=False."
            )
        return whole


Whole = Callable[[int], Tensor | None]


@dataclass
class Pass:
    """One pass: see `PositionIds.set`."""

    ids: Tensor | None = None
    rows: int | None = None
    whole: Whole | None = None
    made: dict[int, Tensor | None] = field(default_factory=dict)

    def all_ids(self, length: int) -> Tensor | None:
        """Return the ids of all tokens that the pass sees, if these are `length` many and known; made once."""
        if length not in self.made:
            self.made[length] = None if self.whole is None else self.whole(length)
        return self.made[length]
