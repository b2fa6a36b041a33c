"""The kinds of parts that an adapter trains, and how many numbers each of them has."""

from torch import nn

from hylorada.daa import DirectAttention
from hylorada.decoder import decoder_of
from hylorada.find import find_experts
from hylorada.landmark_redesigns import ConstantVector, PooledLandmark
from hylorada.landmarks import PositionGatedLandmark
from hylorada.lora import GatedMagnitude, HyLoRADAUnified, LowRankUpdate
from hylorada.position_bias import PositionBias
from hylorada.sparse_mlp import SparseMLP
from hylorada.trained_weights import TrainedEmbedding, TrainedNorm

PARTS = {  # no module is of two kinds, and none lies inside one of another
    LowRankUpdate: "lora",
    GatedMagnitude: "magnitude",
    PositionBias: "position_bias",
    PositionGatedLandmark: "landmark",
    PooledLandmark: "landmark",
    ConstantVector: "landmark",
    DirectAttention: "daa",
    SparseMLP: "sparse",
    TrainedEmbedding: "embeddings",
    TrainedNorm: "norms",
}


def part_of(module: nn.Module) -> str | None:
    """Return the name of the part that a module is, None where it is none (but may hold some)."""
    return next((part for kind, part in PARTS.items() if isinstance(module, kind)), None)


def owners(model: nn.Module) -> dict[nn.Parameter, str]:
    """Return the part that each parameter lies in, frozen originals inside a part too; those in none are left out."""
    parts = [(module, part) for module in model.modules() if (part := part_of(module)) is not None]
    return {parameter: part for module, part in parts for parameter in module.parameters()}


def count_trained(model: nn.Module) -> dict[str, int]:
    """Return the trained numbers of each part and of all ("trainable"), and how many the model has ("total")."""
    counts = dict.fromkeys(PARTS.values(), 0)
    for parameter, part in owners(model).items():
        counts[part] += parameter.numel() if parameter.requires_grad else 0
    counts["trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    counts["total"] = sum(p.numel() for p in model.parameters())
    return counts


def left_alone(base_model: nn.Module) -> str:
    """Say which routed experts have no adapter, if any: the layers that are named may be those of shared ones alone."""
    experts = find_experts(decoder_of(base_model))
    alone = [e for e in experts if not any(isinstance(m, HyLoRADAUnified) for m in e.modules())]
    if not alone:
        return ""
    numbers = sum(p.numel() for e in alone for p in e.parameters())
    kinds = ", ".join(sorted({type(e).__name__ for e in alone}))
    return f"; not adapted: the routed experts of {len(alone)} blocks ({kinds}, {numbers:,} numbers)"
