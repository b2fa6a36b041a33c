"""The adapted linear layer.

x (batch, seq, d_in); W (d_out, d_in), b frozen; A (r, d_in), B (d_out, r) trained; s = alpha/sqrt(r) or alpha/r.

    v = Wx + s·B(A·dropout(x))                                      LoRA, arXiv:2106.09685; rsLoRA, arXiv:2312.03732
    y = v + b                                                        without magnitude
    y = c∘v + b,  c = (1-beta)·m_eff/n + beta                        with magnitude: DoRA, arXiv:2402.09353
        m_eff = g·m + (1-g)·||W||,  n = ||W + sBA|| row by row, a constant for the gradient (DoRA, section 4.3)
    y_p ← y_p·(1 + sigmoid(w)·tanh(bias[bucket(p)]))                 position bias of the token at p: position_bias.py

Gate g and blend beta are sigmoids of trained scalars. Both fold into the magnitude: they add no function to DoRA's
class, only another parametrisation of it. Masters are float32; the products run in the dtype of x.
"""

import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from hylorada.arguments import checked
from hylorada.constants import BLEND_AT_START
from hylorada.errors import HyLoRADAError
from hylorada.fused import dropped_places, project_down, scale_rows_and_tokens
from hylorada.idle import Kept, RunningSequence
from hylorada.norm import adapted_norm
from hylorada.position_bias import AtPosition, PositionBias, Unchanged, unchanged

__all__ = ["GatedMagnitude", "HyLoRADAUnified", "LowRankUpdate", "PositionBias", "Sum", "weight_rows"]
STARTS = (".start_A", ".start_B")  # ends of the names of what never trains and yet is the adapter's own
OPEN = 40.0  # the sigmoid of it is exactly 1 in float32, and one minus that of its negative too


class HyLoRADAUnified(nn.Module):
    """One frozen linear layer with its low-rank update, and what the configuration puts around them.

    base_layer: `nn.Linear`, or GPT-2's `Conv1D`, whose weight is stored transposed. magnitude: rescale each output
    row (gated DoRA). init_lora_weights: "pissa", or None for the start that `orthogonal_init` chooses.
    scale_at_position: the model's position bias bound to its position ids, acting on the whole output ("output") or on
    the update alone ("update"). sequence: tells when derived tensors may be kept; without one they never are.

    Raises:
        HyLoRADAError: another kind of layer, or a rank, alpha or dropout that makes no adapter.
    """

    @checked()
    def __init__(
        self,
        base_layer: nn.Module,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        use_rslora: bool = True,
        orthogonal_init: bool = True,
        magnitude: bool = False,
        magnitude_gated: bool = True,
        init_lora_weights: str | None = None,
        scale_at_position: AtPosition | None = None,
        position_bias_on: str = "output",
        sequence: RunningSequence | None = None,
    ) -> None:
        super().__init__()
        if position_bias_on not in ("output", "update"):
            raise HyLoRADAError(f"position_bias_on={position_bias_on!r} is not known; use 'output' or 'update'.")
        weight = weight_rows(base_layer)
        d_out, d_in = weight.shape
        self.base_layer = base_layer
        self.sequence = sequence = RunningSequence() if sequence is None else sequence
        update = LowRankUpdate(d_in, d_out, rank, alpha, dropout, use_rslora, orthogonal_init, sequence)
        self.lora = update.to(weight.device)
        if init_lora_weights == "pissa":
            self.lora.start_at_top_of(weight)
        self.combine = GatedMagnitude(weight, magnitude_gated, sequence) if magnitude else Sum()
        self.at_position = scale_at_position  # plain attribute: the model owns the shared table, not its layers
        self.place_output = self.place_update = unchanged
        if scale_at_position is not None:
            setattr(self, f"place_{position_bias_on}", scale_at_position)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, seq, d_in) to y (batch, seq, d_out): y = (1 + e)·(c∘v + b), v = Wx + s·B(A·dropout(x)).

        1 + e is the scale of a token by the position bias; on the update it scales s·A·dropout(x) instead of y.
        """
        frozen = self.base_layer(x)  # Wx + b, (batch, seq, d_out)
        down = self.place_update(self.lora(x))  # s·A·dropout(x), (batch, seq, r)
        summed = self.lora.added_to(frozen, down)  # v + b = (Wx + b) + B·down, (batch, seq, d_out)
        excess = self.combine.excess_for(summed.dtype, self.base_layer, self.lora)  # c - 1; None without magnitude
        return self.combine(summed, self.base_layer.bias, excess, self.place_output)  # (1 + e)·(c∘v + b)

    def train(self, mode: bool = True) -> "HyLoRADAUnified":
        """Switch between training and evaluation, after either of which nothing is kept."""
        self.sequence.end()
        return super().train(mode)

    @torch.no_grad()
    def merge(self) -> None:
        """Write `merged_weight` into the layer inside, rounded once; a position bias is left to act on its output."""
        rows = weight_rows(self.base_layer)
        rows.copy_(self.merged_weight().to(rows.dtype))

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """Return c∘(W + sBA) in float32, (d_out, d_in): the one matrix that replaces layer and adapter.

        Raises:
            HyLoRADAError: a position bias acts on the update alone, which a single matrix does not keep apart.
        """
        if self.place_update is not unchanged:
            raise HyLoRADAError("a layer whose position bias acts on the update cannot merge the update into W.")
        return self.combine.row_factor(self.base_layer, self.lora)[:, None] * self.dense_weight()

    @torch.no_grad()
    def dense_weight(self) -> Tensor:
        """Return W + sBA in float32, (d_out, d_in): the weight before the magnitude."""
        return weight_rows(self.base_layer).float() + self.lora.scaling * self.lora.whole_B @ self.lora.whole_A


class LowRankUpdate(nn.Module):
    """s·B(A·dropout(x)); zero at the start, because B is. A's rows are orthonormal there (QR in float32).

    `start_at_top_of` gives it the start of PiSSA (arXiv:2404.02948) instead: A₀ and B₀ hold the largest singular
    directions of W, s·B₀A₀ is its nearest matrix of rank r. There W itself becomes W - s·B₀A₀; here W stays, and the
    update is s·(BA - B₀A₀) = s·[B, -B₀][A; A₀]: the same function with the same gradients, and zero at the start.

    Orthonormal rows have norm 1, Kaiming-uniform ones about 1/sqrt(3): a matter of step size, not of function class.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        use_rslora: bool = True,
        orthogonal_init: bool = True,
        sequence: RunningSequence | None = None,
    ) -> None:
        super().__init__()
        if rank < 1 or rank > d_in:  # one output, as of a gate, takes any rank, to no use
            raise HyLoRADAError(f"rank {rank} does not fit a {d_out} x {d_in} layer; use 1 to {d_in}.")
        if not (math.isfinite(alpha) and alpha > 0):
            raise HyLoRADAError(f"alpha={alpha} is not allowed; use a positive number.")
        if not 0.0 <= dropout < 1.0:
            raise HyLoRADAError(f"dropout={dropout} is not a share; use 0.0 up to, not including, 1.0.")
        self.A = nn.Parameter(torch.empty(rank, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        self.start_A: nn.Parameter | None = None  # A₀ and B₀, which never train
        self.start_B: nn.Parameter | None = None
        if orthogonal_init:
            nn.init.orthogonal_(self.A)
        else:
            nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)  # holds the share; a module, so that tools which switch dropout off find it
        self.scaling = alpha / math.sqrt(rank) if use_rslora else alpha / rank
        self.kept_A, self.kept_B = Kept(sequence), Kept(sequence)  # in the dtypes of the products

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, seq, d_in) to s·A·dropout(x), (batch, seq, r), in the dtype of x."""
        share = self.dropout.p if self.training else 0.0
        dropped = dropped_places(x.numel(), share, x.device) if share else None
        A = self.whole_A
        A = A if A.dtype == x.dtype else self.kept_A.get(lambda: A, x.dtype, self.A)
        return project_down(x, A, self.scaling / (1.0 - share), dropped)

    def added_to(self, frozen: Tensor, down: Tensor) -> Tensor:
        """Return frozen + B·down, (batch, seq, d_out), in the dtype of `frozen`; down (batch, seq, r)."""
        rows, down = frozen.flatten(0, -2), down.to(frozen.dtype).flatten(0, -2)
        return torch.addmm(rows, down, self._B_transposed(frozen)).view(frozen.shape)

    def _B_transposed(self, frozen: Tensor) -> Tensor:
        """Return B (r, d_out) in the dtype of `frozen`; one token's cast copy lies as its product reads it fastest."""
        B, dtype = self.whole_B, frozen.dtype
        if B.dtype == dtype or torch.is_grad_enabled() or frozen.shape[-2] > 1:
            return B.to(dtype).T
        return self.kept_B.get(lambda: B.to(dtype).T.contiguous(), dtype, self.B)

    @property
    def whole_A(self) -> Tensor:
        """A (r, d_in), or [A; A₀] (2r, d_in) where the start is taken off."""
        return self.A if self.start_A is None else torch.cat([self.A, self.start_A])

    @property
    def whole_B(self) -> Tensor:
        """B (d_out, r), or [B, -B₀] (d_out, 2r) where the start is taken off."""
        return self.B if self.start_B is None else torch.cat([self.B, -self.start_B], dim=1)

    @torch.no_grad()
    def start_at_top_of(self, weight: Tensor) -> None:
        """Start at the r largest singular directions of W (d_out, d_in), from which the update then is the distance.

        Raises:
            HyLoRADAError: W has fewer than r.
        """
        if len(self.A) > min(weight.shape):
            raise HyLoRADAError(
                f"rank {len(self.A)} is more than the {min(weight.shape)} singular directions of a {weight.shape[0]} x "
                f"{weight.shape[1]} layer; use a lower rank there, or another init_lora_weights."
            )
        left, sizes, right = torch.linalg.svd(weight.detach().float(), full_matrices=False)
        root = (sizes[: len(self.A)] / self.scaling).sqrt()
        self.A.copy_(root[:, None] * right[: len(self.A)])
        self.B.copy_(left[:, : len(self.A)] * root)
        self.start_A = nn.Parameter(self.A.detach().clone(), requires_grad=False)
        self.start_B = nn.Parameter(self.B.detach().clone(), requires_grad=False)


class Sum(nn.Module):
    """y = (1 + e)·(v + b): the layer without magnitude, whose c is 1."""

    def forward(self, summed: Tensor, bias: Tensor | None, excess: None, place: AtPosition | Unchanged) -> Tensor:
        """Scale v + b (batch, seq, d_out) by position."""
        return place(summed)

    def excess_for(self, dtype: torch.dtype, base_layer: nn.Module, lora: LowRankUpdate) -> None:
        """Return that rows have no scale."""

    def row_factor(self, base_layer: nn.Module, lora: LowRankUpdate) -> Tensor:
        """Return the scale of each output row, (d_out,): all one."""
        return torch.ones_like(lora.B[:, 0])


class GatedMagnitude(nn.Module):
    """DoRA's magnitude with a trained gate towards ||W|| and a trained blend with the unscaled layer."""

    def __init__(self, weight: Tensor, gated: bool = True, sequence: RunningSequence | None = None) -> None:
        super().__init__()
        self.kept = Kept(sequence)  # c - 1, in the dtype of the output
        squared = weight.detach().float().square().sum(dim=1)
        self.register_buffer("base_norm_squared", squared, persistent=False)  # ||w||^2, (d_out,)
        self.magnitude = nn.Parameter(squared.sqrt())
        gate, blend = (0.0, math.log(BLEND_AT_START / (1 - BLEND_AT_START))) if gated else (OPEN, -OPEN)
        self.gate = nn.Parameter(torch.full((), gate, device=weight.device), requires_grad=gated)
        self.residual_weight = nn.Parameter(torch.full((), blend, device=weight.device), requires_grad=gated)

    def forward(self, summed: Tensor, bias: Tensor | None, excess: Tensor, place: AtPosition | Unchanged) -> Tensor:
        """Scale v + b (batch, seq, d_out) by row, but for b (d_out,), and by position; excess: c - 1, (d_out,)."""
        return scale_rows_and_tokens(summed, bias, excess, place.extra(summed))

    def row_factor(self, base_layer: nn.Module, lora: LowRankUpdate) -> Tensor:
        """Return c of each output row, float32 (d_out,); exactly 1 before training."""
        return 1.0 + self.excess(base_layer, lora)

    def excess_for(self, dtype: torch.dtype, base_layer: nn.Module, lora: LowRankUpdate) -> Tensor:
        """Return c - 1 (d_out,), in float32 or as it was kept for an output of `dtype`."""
        sources = base_layer.weight, self.base_norm_squared, lora.A, lora.B, *self._parameters.values()
        return self.kept.get(lambda: self.excess(base_layer, lora), dtype, *sources)

    def excess(self, base_layer: nn.Module, lora: LowRankUpdate) -> Tensor:
        """Return c - 1, float32 (d_out,)."""
        weight = weight_rows(base_layer)
        A = lora.whole_A.detach().to(weight.dtype)  # as the forward pass has it: WA^T runs in the dtype of the base
        norm = adapted_norm(weight, self.base_norm_squared, A, lora.whole_B, lora.scaling)
        kept = torch.lerp(self.base_norm_squared.sqrt(), self.magnitude.float(), self.gate.float().sigmoid())  # m_eff
        return (kept / norm - 1.0) * torch.sigmoid(-self.residual_weight)


def weight_rows(layer: nn.Module) -> Tensor:
    """Return the weight as (d_out, d_in), a view, whether the layer stores it so or transposed.

    Raises:
        HyLoRADAError: the layer is neither `nn.Linear` nor `Conv1D`, or its weight is quantised.
    """
    if isinstance(layer, nn.Linear):
        weight = layer.weight
    elif type(layer).__name__ == "Conv1D":  # by name, so that this file needs torch alone
        weight = layer.weight.T
    else:
        raise HyLoRADAError(f"a {type(layer).__name__} cannot be adapted; name Linear or Conv1D layers.")
    if not weight.is_floating_point():
        raise HyLoRADAError(f"a weight of dtype {weight.dtype} cannot be adapted; load the model unquantised.")
    return weight


def __getattr__(name: str) -> Any:
    if name == "LandmarkLoRA":  # the published list of files has it here
        return import_module("hylorada.landmarks").LandmarkLoRA
    raise AttributeError(f"module {__name__!r} has no {name!r}")
