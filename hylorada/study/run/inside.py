"""What a record keeps of a trained adapter itself: its readable numbers, its magnitudes, and what moved how far."""

from collections.abc import Iterable
from typing import Any

import torch

from hylorada.lora import GatedMagnitude, HyLoRADAUnified
from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.study.plan.record import MagnitudeQuantiles, Moved

READABLE = (  # ends of the names of trained tensors that mean something alone
    *(".combine.gate", ".combine.residual_weight", ".scale", ".boundaries", ".position_gates", ".alpha", ".beta"),
    *("position_bias.bias", "position_bias.weight"),
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # over the rows of a layer


def readable_tensors(model: HyLoRADAModel) -> dict[str, Any]:
    """Return the small trained tensors that mean something alone: gates, blends, position tables, boundaries."""
    named = model.adapter_tensors().items()
    return {name: tensor.tolist() for name, tensor in named if name.endswith(READABLE)}


def parameters_named(model: HyLoRADAModel, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return copies of parameters by the names that `adapter_tensors` has."""
    held = dict(model.named_parameters())
    return {name: held[name].detach().clone() for name in names}


def movement(model: HyLoRADAModel, before: dict[str, torch.Tensor]) -> dict[str, Moved]:
    """Return, by kind of part, how many trained numbers there are, how many left their start, and how far the farthest.

    before: `parameters_named` of the fresh model, in the type that the protocol gives them.
    """
    after = parameters_named(model, before)
    parts = owners(model)
    part_of = {name: parts[parameter] for name, parameter in model.named_parameters() if name in before}
    moved: dict[str, Moved] = {}
    for name, start in before.items():
        so_far = moved.get(part_of[name], Moved(entries=0, changed=0, largest=0.0))
        difference = (after[name].float() - start.float()).abs()
        moved[part_of[name]] = Moved(
            entries=so_far.entries + difference.numel(),
            changed=so_far.changed + int((difference > 0).sum()),
            largest=max(so_far.largest, float(difference.max())),
        )
    return moved


@torch.no_grad()
def magnitude_quantiles(model: HyLoRADAModel) -> dict[str, MagnitudeQuantiles]:
    """Return, for each layer with a magnitude, `QUANTILES` over its rows of m/||W||, which began at 1, and of c."""
    quantiles = {}
    for name, layer in model.base_model.named_modules():
        if isinstance(layer, HyLoRADAUnified) and isinstance(layer.combine, GatedMagnitude):
            norm = layer.combine.base_norm_squared.sqrt()
            drift = (layer.combine.magnitude / norm)[norm > 0]
            factor = layer.combine.row_factor(layer.base_layer, layer.lora)
            at = torch.tensor(QUANTILES, device=drift.device)
            quantiles[name] = MagnitudeQuantiles(
                magnitude=drift.quantile(at).tolist(), factor=factor.quantile(at).tolist()
            )
    return quantiles
