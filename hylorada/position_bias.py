"""The position bias: one table for the whole model, by which every adapted layer scales what it gives of each token.

    y_p ← y_p·(1 + sigmoid(w)·tanh(bias[bucket(p)]))                 of the token at p

`PositionBias` holds the table, `AtPosition` binds it to the positions of the running pass, and `unchanged` stands where
none acts.
"""

import torch
from torch import Tensor, nn

from hylorada.arguments import checked
from hylorada.idle import Kept, RunningSequence
from hylorada.positions import FixedBuckets, PositionIds, check_states


class PositionBias(nn.Module):
    """One table for the whole model: each bucket of positions scales the outputs of every adapted layer.

    Trains `num_buckets` + 1 numbers and is neutral at the start.
    """

    @checked()
    def __init__(self, num_buckets: int = 64, max_positions: int = 1024, spacing: str = "log") -> None:
        super().__init__()
        self.bucket = FixedBuckets(num_buckets, max_positions, spacing)
        self.bias = nn.Parameter(torch.zeros(num_buckets))
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Scale values (batch, seq, d) token by token; positions (batch or 1, seq), token index from 0.

        Raises HyLoRADAError for other shapes.
        """
        check_states(values, values.shape[-1], positions)
        return scaled_by_place(values, self.extra(positions))

    def extra(self, positions: Tensor) -> Tensor:
        """Return by how much more or less than 1 each token is scaled, float32, in the shape of `positions`."""
        table = torch.sigmoid(self.weight) * torch.tanh(self.bias)  # (num_buckets,)
        return table[self.bucket(positions)]


def scaled_by_place(values: Tensor, extra: Tensor) -> Tensor:
    """Return values (batch, seq, d) times 1 + extra (batch or 1, seq), without rounding that sum."""
    return torch.addcmul(values, values, extra.to(values.dtype)[..., None])


class AtPosition:
    """The model's position bias bound to its carrier of position ids: what an adapted layer calls.

    All layers see the same positions, so those that share one share what it derives for a token.
    """

    def __init__(self, bias: PositionBias, positions: PositionIds, sequence: RunningSequence | None = None) -> None:
        self.bias, self.positions = bias, positions
        self.kept = Kept(sequence)

    def __call__(self, values: Tensor) -> Tensor:
        """Scale values (batch, seq, d) by the place of each token in the running pass."""
        return scaled_by_place(values, self._extra(values))

    def extra(self, values: Tensor) -> Tensor | None:
        """Return what `values` (batch, seq, d) would be scaled by, less 1, (batch, seq)."""
        return self._extra(values).expand(values.shape[:-1])

    def _extra(self, values: Tensor) -> Tensor:
        """Return it as it spreads over `values`, in float32, or as it was kept for values of their dtype."""
        bias, shape = self.bias, values.shape[:-1]
        ids = self.positions.of(shape)
        extra = self.kept.get(
            lambda: bias.extra(ids), values.dtype, ids, bias.bias, bias.weight, bias.bucket.table
        )  # (batch or 1, seq)
        if len(shape) == 2:
            return extra
        if len(shape) == 1:  # tokens in one row, as experts see them
            return extra.expand(self.positions.held.rows, -1).flatten()
        return extra.view(len(extra), *[1] * (len(shape) - 2), -1)


class Unchanged:
    """Stands where no position bias acts."""

    def __call__(self, values: Tensor) -> Tensor:
        """Return `values` as they are."""
        return values

    def extra(self, values: Tensor) -> Tensor | None:
        """Return that there is nothing to scale by."""
        return None

    def __reduce__(self) -> str:
        return "unchanged"  # copies and pickles stay this one object


unchanged = Unchanged()
