"""Sparse bottleneck adapters after the feed-forward blocks: of each token's hidden units only the largest pass.

y (batch, seq, d) is the output of the frozen block; D (b, d) and U (d, b) are trained, neither has a bias.

    z = D·y,   h = gelu(z),   m = 1 for the k units of largest |z|, else 0,   k = max(1, round(top_share·b))
    y ← y + U(m∘h)                                      the same as U·gelu(m∘z), because gelu(0) = 0
    dL/dh := Uᵀg,   dL/dz = gelu'(z)∘(Uᵀg)              g = dL/dy of the output; the exact gate would give m∘(Uᵀg)

So a unit that was held back still learns when to come forward (straight-through estimator, arXiv:1308.3432). U itself
gets the exact gradient, from the units that passed. The bottleneck with a residual is that of Houlsby et al.
(arXiv:1902.00751); the method called SparseAdapter in arXiv:2210.04284 prunes weights instead of gating units.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hylorada.errors import HyLoRADAError


class SparseMLP(nn.Module):
    """A top-k gated bottleneck, zero at the start because U is; trains 2·d·b numbers.

    Acts on each token alone: causal, and the same with padding or a cache. (The choice of units is not continuous: two
    nearly equal ones may change places where another batch shape rounds z in another way.) Masters are float32; the
    products run in the dtype of y.

    Raises:
        HyLoRADAError: a size below one, or a share that is not above 0 and at most 1.
    """

    def __init__(self, hidden_size: int, bottleneck: int = 128, top_share: float = 0.05) -> None:
        super().__init__()
        if hidden_size < 1 or bottleneck < 1:
            raise HyLoRADAError(f"hidden_size={hidden_size}, bottleneck={bottleneck}: use 1 or more of each.")
        if not 0.0 < top_share <= 1.0:
            raise HyLoRADAError(f"top_share={top_share} lets no share of units pass; use above 0.0, up to 1.0.")
        self.down = nn.Parameter(torch.empty(bottleneck, hidden_size))
        self.up = nn.Parameter(torch.zeros(hidden_size, bottleneck))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as nn.Linear starts
        self.kept = max(1, round(top_share * bottleneck))

    def forward(self, y: Tensor) -> Tensor:
        """Add to y (batch, seq, d) what the k strongest units of each token say; same shape and dtype."""
        z = F.linear(y, self.down.to(y.dtype))  # (batch, seq, b)
        units = F.gelu(z)
        gated = units + (units * largest(z.abs(), self.kept) - units).detach()  # exactly m∘h; gradient of h
        return y + F.linear(gated, self.up.to(y.dtype))


def largest(values: Tensor, count: int) -> Tensor:
    """Return a mask, shaped as values (..., n), of the `count` largest along the last dimension, never more or fewer.

    Of equal ones the first are taken. (`topk` leaves that open, and in bfloat16 equal magnitudes are common.)
    """
    least = values.topk(count, dim=-1).values[..., -1:]  # (..., 1)
    above, tied = values > least, values == least
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=-1) <= room))
