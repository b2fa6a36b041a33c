"""Other landmark designs, beside the position-adaptive one of `landmarks.py`.

Learnable bucketing: soft buckets whose boundaries t_1 ≤ ... ≤ t_{n-1} (shares of the length) are trained,

    s_i = sigmoid((p/P - t_i)/0.1),  weight of bucket k = s_k - s_{k+1} with s_0 = 1 and s_n = 0,
    gates = weights @ position_gates

Pooled landmarks ("original", at the final norm) and per-layer landmarks (after every block) gate on a summary of the
sequence instead of place and content: a = softmax(W_g·pool(h)), h ← h + scale·dropout(a @ landmarks), pool the mean or
the maximum. Over the whole sequence, as published, a token's gate sees later tokens: such a model's perplexity is none.
The causal pool runs over the tokens up to each one. `ConstantVector` is what all designs are to be held against.
"""

import torch
from torch import Tensor, nn

from hylorada.arguments import checked
from hylorada.constants import BOUNDARY_TEMPERATURE, LANDMARK_SCALE, LANDMARK_STD, PER_LAYER_SCALE
from hylorada.errors import HyLoRADAError
from hylorada.landmarks import PositionGatedLandmark
from hylorada.positions import check_buckets, check_states


class LearnableBucketLandmark(PositionGatedLandmark):
    """Landmarks whose buckets have learned boundaries, num_buckets - 1 more numbers than `LandmarkLoRA` has.

    Raises:
        HyLoRADAError: as `PositionGatedLandmark`, no position, or fewer than two buckets, which have no boundary.
    """

    @checked()
    def __init__(
        self,
        hidden_size: int,
        num_landmarks: int = 8,
        num_buckets: int = 32,
        max_positions: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        if num_buckets < 2:
            raise HyLoRADAError(f"num_buckets={num_buckets} leaves no boundary to learn; use 2 or more.")
        check_buckets(num_buckets, max_positions)
        super().__init__(hidden_size, num_landmarks, num_buckets, dropout)
        self.max_positions = max_positions
        self.boundaries = nn.Parameter(torch.linspace(0.0, 1.0, num_buckets + 1)[1:-1].clone())

    def gates_at(self, positions: Tensor) -> Tensor:
        """Return the gates of all buckets, each weighed by how much a token belongs to it, (..., K)."""
        return self.bucket_weights(positions) @ self.position_gates.float()

    def bucket_weights(self, positions: Tensor) -> Tensor:
        """Return how much each token belongs to each bucket, (..., num_buckets); a token's weights sum to 1."""
        share = (positions / self.max_positions)[..., None]  # (..., 1)
        passed = torch.sigmoid((share - self.boundaries.sort().values) / BOUNDARY_TEMPERATURE)  # (..., n-1)
        ones = torch.ones_like(passed[..., :1])
        edges = torch.cat([ones, passed, torch.zeros_like(ones)], dim=-1)  # (..., n+1), falling from 1 to 0
        return edges[..., :-1] - edges[..., 1:]

    @property
    def bucket_boundaries(self) -> nn.Parameter:
        """The published name of `boundaries`, (num_buckets - 1,), shares of `max_positions`, not sorted."""
        return self.boundaries

    def get_learned_boundaries(self) -> Tensor:
        """Return the boundaries in tokens, ascending, (num_buckets - 1,)."""
        return self.boundaries.detach().sort().values * self.max_positions


class PooledLandmark(nn.Module):
    """K landmarks with one gate from a pool of the sequence's hidden states: 2·K·d + 1 numbers.

    pool: "mean" or "max". pooling: "causal" (over the tokens up to each one) or "sequence" (over all real tokens, the
    future included; as published). Not neutral at the start, for the reason given in `landmarks.py`.

    Raises:
        HyLoRADAError: fewer than one landmark, or an unknown pool or pooling.
    """

    def __init__(
        self,
        hidden_size: int,
        num_landmarks: int = 8,
        dropout: float = 0.0,
        pooling: str = "causal",
        pool: str = "mean",
        start_scale: float = LANDMARK_SCALE,
    ) -> None:
        super().__init__()
        if num_landmarks < 1 or hidden_size < 1:
            raise HyLoRADAError(f"num_landmarks={num_landmarks}, hidden_size={hidden_size}: use 1 or more of each.")
        if (pool, pooling) not in POOLS:
            raise HyLoRADAError(f"pool={pool!r}, pooling={pooling!r} is not known; use one of {sorted(POOLS)}.")
        self.causal = pooling == "causal"
        self.pool = POOLS[pool, pooling]
        self.landmarks = nn.Parameter(torch.randn(num_landmarks, hidden_size) * LANDMARK_STD)
        self.gate = nn.Parameter(torch.randn(num_landmarks, hidden_size) * LANDMARK_STD)
        self.scale = nn.Parameter(torch.tensor(start_scale))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, seen: Tensor, real: Tensor) -> Tensor:
        """Add the gated mix to hidden (batch, seq, d).

        seen: (batch, past + seq, d), all states of the sequence so far, `hidden` last. real: (batch, past + seq), False
        where `seen` is padding. Raises HyLoRADAError for other shapes.
        """
        check_states(hidden, self.landmarks.shape[1])
        if seen.shape[:2] != real.shape or seen.shape[1] < hidden.shape[1] or seen.shape[::2] != hidden.shape[::2]:
            raise HyLoRADAError(
                f"hidden states in {tuple(hidden.shape)}, seen in {tuple(seen.shape)} and real in {tuple(real.shape)} "
                "do not fit; give (batch, seq, d), (batch, past + seq, d) and (batch, past + seq)."
            )
        pooled = self.pool(seen.float(), real[..., None])[:, -hidden.shape[1] :]  # (batch, seq or 1, d)
        mix = (pooled @ self.gate.float().T).softmax(dim=-1)  # (batch, seq or 1, K)
        context = mix.to(hidden.dtype) @ self.landmarks.to(hidden.dtype)
        return hidden + self.scale.to(hidden.dtype) * self.dropout(context)


class PerLayerLandmark(nn.ModuleList):
    """K/2 landmarks after each block, gated on the maximum: `PooledLandmark` once a layer, scale 0.05 at the start."""

    def __init__(
        self, num_layers: int, hidden_size: int, num_landmarks: int = 8, dropout: float = 0.0, pooling: str = "causal"
    ) -> None:
        each = num_landmarks // 2
        super().__init__(
            PooledLandmark(hidden_size, each, dropout, pooling, "max", PER_LAYER_SCALE) for _ in range(num_layers)
        )


class ConstantVector(nn.Module):
    """One trained vector added to every state at the final norm, zero at the start: a control, not a design.

    What landmarks give beyond it, they owe to their gates. Trains d numbers.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Add the vector to hidden (batch, seq, d), wherever a token stands."""
        return hidden + self.vector.to(hidden.dtype)


def running_mean(seen: Tensor, real: Tensor) -> Tensor:
    """Mean over the real tokens up to each one; seen (batch, seq, d), real (batch, seq, 1). Zero before the first."""
    return (seen * real).cumsum(dim=1) / real.cumsum(dim=1).clamp(min=1)


def running_max(seen: Tensor, real: Tensor) -> Tensor:
    """Maximum over the real tokens up to each one; zero before the first."""
    highest = seen.masked_fill(~real, -torch.inf).cummax(dim=1).values
    return highest.masked_fill(real.cumsum(dim=1) == 0, 0.0)


def whole_mean(seen: Tensor, real: Tensor) -> Tensor:
    """Mean over all real tokens, (batch, 1, d)."""
    return (seen * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(min=1)


def whole_max(seen: Tensor, real: Tensor) -> Tensor:
    """Maximum over all real tokens, (batch, 1, d)."""
    return seen.masked_fill(~real, -torch.inf).amax(dim=1, keepdim=True)


POOLS = {
    ("mean", "causal"): running_mean,
    ("max", "causal"): running_max,
    ("mean", "sequence"): whole_mean,
    ("max", "sequence"): whole_max,
}
