"""Other landmark designs, beside the position-adaptive one of `landmarks.py`.

Learnable bucketing: soft buckets whose boundaries t_1 ≤ ... ≤ t_{n-1} (shares of the length) are trained,

    s_i = sigmoid((p/P - t_i)/0.1),  weight of bucket k = s_k - s_{k+1} with s_0 = 1 and s_n = 0,
    gates = weights @ position_gates
"""

import torch
from torch import Tensor, nn

from hylorada.errors import HyLoRADAError
from hylorada.landmarks import LandmarkLoRA

BOUNDARY_TEMPERATURE = 0.1


class LearnableBucketLandmark(LandmarkLoRA):
    """`LandmarkLoRA` whose buckets have learned boundaries instead of fixed ones: num_buckets - 1 more numbers.

    Raises:
        HyLoRADAError: fewer than two buckets, which have no boundary.
    """

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
        super().__init__(hidden_size, num_landmarks, num_buckets, max_positions, dropout)
        del self.bucket  # the fixed buckets are what this design replaces
        self.max_positions = max_positions
        self.boundaries = nn.Parameter(torch.linspace(0.0, 1.0, num_buckets + 1)[1:-1].clone())

    def gates_at(self, positions: Tensor) -> Tensor:
        """Return the gate logits that place alone gives, (..., K), for positions (...)."""
        return self.bucket_weights(positions) @ self.position_gates

    def bucket_weights(self, positions: Tensor) -> Tensor:
        """Return how much each token belongs to each bucket, (..., num_buckets); a token's weights sum to 1."""
        share = (positions / self.max_positions)[..., None]  # (..., 1)
        passed = torch.sigmoid((share - self.boundaries.sort().values) / BOUNDARY_TEMPERATURE)  # (..., n-1)
        ones = torch.ones_like(passed[..., :1])
        edges = torch.cat([ones, passed, torch.zeros_like(ones)], dim=-1)  # (..., n+1), falling from 1 to 0
        return edges[..., :-1] - edges[..., 1:]

    def get_learned_boundaries(self) -> Tensor:
        """Return the boundaries in tokens, ascending, (num_buckets - 1,)."""
        return self.boundaries.detach().sort().values * self.max_positions
