"""Folding an adapter into the weights of its base, for good: what allows it, and what remains of the adapter."""

import json
from dataclasses import replace
from hashlib import sha256

from torch import Tensor

from hylorada import rope
from hylorada.build import Parts
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.wiring import Wiring

DYNAMIC = ("position_bias", "landmark", "daa", "sparse")  # what no weight can hold: it differs from token to token

WITHOUT_WEIGHTS = {  # what the merged weights have taken over
    "lora_enabled": False,
    "rank_pattern": None,
    "alpha_pattern": None,
    "init_lora_weights": None,
    "use_dora_magnitude": False,
    "magnitude_gated": True,
    "train_embeddings": False,
    "train_norms": False,
    "rope_scaling_type": None,
    "rope_scaling_factor": 1.0,
}


def dynamic_parts(parts: Parts) -> list[str]:
    """Return the names of the parts that fit no weight."""
    return [part for part in DYNAMIC if getattr(parts, part) is not None]


def check_mergeable(parts: Parts, config: HyLoRADAConfig, tensors: dict[str, Tensor], keep_dynamic: bool) -> None:
    """Hold an adapter, its trained tensors by name, to what a weight can hold.

    Raises:
        HyLoRADAError: there are dynamic parts and they are not kept, the position bias acts on the update alone, or a
            trained number is not finite.
    """
    dynamic = dynamic_parts(parts)
    if dynamic and not keep_dynamic:
        raise HyLoRADAError(
            f"{' and '.join(dynamic)} cannot merge into the weights (their effect differs from token to token); keep "
            "the adapter beside the base, train without them, or pass keep_dynamic=True to merge the rest."
        )
    if parts.position_bias is not None and config.position_bias_on == "update":
        raise HyLoRADAError(
            "position_bias_on='update' scales the update apart from the weight, so the two cannot merge; keep the "
            "adapter beside the base."
        )
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise HyLoRADAError(f"{len(broken)} tensors hold NaN or infinity, {broken[0]} first; nothing is merged.")


def fold_weights(wiring: Wiring, tensors: dict[str, Tensor]) -> None:
    """Write the adapted layers and the RoPE scaling into the base; what it would attach from here on is dynamic.

    tensors: the adapter's by name. The base is marked with what went into it, for it looks like the one it came from:
    what fits one of the two does not fit the other, the very adapter that was merged first of all.
    """
    wiring.detach()
    rope.settle(wiring.base_model)  # the scaling is part of the base model's own configuration now
    layers, scaled = wiring.parts.layers.values(), wiring.config.rope_scaling_type is not None
    if layers or scaled:
        wiring.base_model.config.hylorada_merged = _digest(wiring, tensors)
        wiring.base_model.is_merged_by_hylorada = True  # until it is saved and loaded, its name is that of another
    for layer in layers:
        layer.merge()
    wiring.parts = replace(wiring.parts, layers={})
    if dynamic_parts(wiring.parts):
        wiring.config = replace(wiring.config, **WITHOUT_WEIGHTS)


def _digest(wiring: Wiring, tensors: dict[str, Tensor]) -> str:
    """Return a short digest of an adapter and of what its base was marked with before: the same on every machine."""
    before = getattr(wiring.base_model.config, "hylorada_merged", None)
    seen = sha256(json.dumps([before, wiring.config.to_dict()]).encode())
    for name, tensor in tensors.items():
        seen.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return seen.hexdigest()[:16]
