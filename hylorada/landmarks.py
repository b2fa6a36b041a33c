"""Position-adaptive landmarks at the final norm: every token adds a gated mix of K trained vectors.

    mix = softmax(position_gates[bucket(p)] + content_gate·h),   h ← h + scale·dropout(mix @ landmarks)

Not neutral at the start: landmarks and gates begin near, not at, zero (standard deviation 0.02, scale 0.1), so a fresh
adapter moves the logits a little. With all-zero landmarks the gates would begin to learn a step later.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hylorada.arguments import checked
from hylorada.constants import LANDMARK_SCALE, LANDMARK_STD
from hylorada.errors import HyLoRADAError
from hylorada.positions import FixedBuckets, check_states


class PositionGatedLandmark(nn.Module, ABC):
    """K landmarks, gated by a token's content and by its place; how place becomes gates is left to `gates_at`.

    Trains 2·K·d + num_buckets·K + 1 numbers. Causal: a token's mix depends on its own state and place alone.

    Raises:
        HyLoRADAError: fewer than one landmark, or a dropout that is no share.
    """

    def __init__(self, hidden_size: int, num_landmarks: int, num_buckets: int, dropout: float) -> None:
        super().__init__()
        if num_landmarks < 1 or hidden_size < 1:
            raise HyLoRADAError(f"num_landmarks={num_landmarks}, hidden_size={hidden_size}: use 1 or more of each.")
        if not 0.0 <= dropout < 1.0:
            raise HyLoRADAError(f"dropout={dropout} is not a share; use 0.0 up to, not including, 1.0.")
        self.landmarks = nn.Parameter(torch.randn(num_landmarks, hidden_size) * LANDMARK_STD)
        self.position_gates = nn.Parameter(torch.randn(num_buckets, num_landmarks) * LANDMARK_STD)
        self.content_gate = nn.Parameter(torch.randn(num_landmarks, hidden_size) * LANDMARK_STD)
        self.scale = nn.Parameter(torch.tensor(LANDMARK_SCALE))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor:
        """Add each token's mix of landmarks; hidden (batch, seq, d), positions (batch or 1, seq), index from 0.

        Without positions the tokens stand at 0 to seq-1: right for whole rows without padding on the left, as in a hook
        of one's own; a `HyLoRADAModel` says them. Raises HyLoRADAError for other shapes.
        """
        check_states(hidden, self.landmarks.shape[1], positions)
        if positions is None:
            positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        by_place = self.gates_at(positions)  # (batch or 1, seq, K)
        by_content = hidden @ self.content_gate.T.to(hidden.dtype)  # (batch, seq, K)
        mix = (by_place + by_content.float()).softmax(dim=-1)  # (batch, seq, K), each token's weights sum to 1
        context = mix.to(hidden.dtype) @ self.landmarks.to(hidden.dtype)  # (batch, seq, d)
        return hidden + self.scale.to(hidden.dtype) * self.dropout(context)

    @abstractmethod
    def gates_at(self, positions: Tensor) -> Tensor:
        """Return the gate logits that place alone gives, (..., K), for positions (...)."""


class LandmarkLoRA(PositionGatedLandmark):
    """Landmarks with one row of gates for each of a fixed number of buckets that positions fall into.

    Raises:
        HyLoRADAError: as `PositionGatedLandmark` and `FixedBuckets`.
    """

    @checked()
    def __init__(
        self,
        hidden_size: int,
        num_landmarks: int = 8,
        num_buckets: int = 32,
        max_positions: int = 1024,
        dropout: float = 0.0,
        bucket_spacing: str = "log",
    ) -> None:
        bucket = FixedBuckets(num_buckets, max_positions, bucket_spacing)
        super().__init__(hidden_size, num_landmarks, num_buckets, dropout)
        self.bucket = bucket

    def gates_at(self, positions: Tensor) -> Tensor:
        """Return the gates of each token's own bucket, (..., K), for positions (...)."""
        return self.position_gates[self.bucket(positions)]
