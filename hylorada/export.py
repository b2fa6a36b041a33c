"""Adapters written in PEFT's layout, `adapter_config.json` + `adapter_model.safetensors`; PEFT is not needed.

W (d_out, d_in), A (r, d_in), B (d_out, r), s and c as in `hylorada.lora`. PEFT's DoRA computes m'/||W + sBA|| where we
have c, so gate and blend leave through the magnitude:

    m' = c·||W + sBA||          export_peft, row by row
    B'A' ≈ c∘(W + sBA) - W      export_lora: the nearest matrix of rank r (Eckart and Young, 1936)

Trained embeddings and norms leave whole, as PEFT's `modules_to_save`; an output layer tied to the embedding leaves as a
second copy, because PEFT would go on using the base's.
"""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hylorada.arguments import checked
from hylorada.checkpoint import write_tensors
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.files import check_only, write_json, written_beside
from hylorada.layer_choice import by_pattern
from hylorada.lora import HyLoRADAUnified, weight_rows
from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.targets import shortest_names
from hylorada.trained_weights import TrainedWeights
from hylorada.usable_base import require_numbers

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
SVD_FILE = "svd_error.json"
EXPERT_NAMES = {  # by the kind of a model: names that PEFT 0.21 takes for parts of its routed experts
    "mixtral": ("gate", "w1", "w2", "w3"),
    "qwen2_moe": ("gate", "gate_proj", "up_proj", "down_proj"),
}


@checked()
def export_peft(model: HyLoRADAModel, folder: str | Path, drop: bool = False) -> None:
    """Write the adapter as PEFT's LoRA, rsLoRA or DoRA, of the same function; the base model is not written.

    drop: leave out, with a warning, what that layout cannot hold; the exported function is then another one.

    Raises:
        HyLoRADAError: such parts are there and `drop` is false (they are named), no layer is adapted, a number is not
            finite, `folder` holds other things, or the disk refuses. The folder is then as it was.
    """
    _check_adapted(model)
    whole = {n: m for n, m in model.base_model.named_modules() if isinstance(m, TrainedWeights)}
    layers = _exportable_layers(model, drop, whole.values())
    config = model.hylorada_config
    ranks, alphas = _numbers(config, layers)
    tensors = {
        f"base_model.model.{name}.{own}": weight.detach().clone()  # one tensor cannot be written under two names
        for name, layer in whole.items()
        for own, weight in layer.masters.items()
    }
    for name, layer in layers.items():
        tensors |= low_rank_tensors(name, layer.lora.whole_A, layer.lora.whole_B)
        if config.use_dora_magnitude:
            magnitude = folded_magnitude(layer)
            if not magnitude.all():  # PEFT would compute 0/0 there
                raise HyLoRADAError(f"{name} has an output row of zeros, which PEFT's DoRA divides by; merge instead.")
            tensors[f"base_model.model.{name}.lora_magnitude_vector"] = magnitude
    settings = _settings(model, layers, ranks.pop(""), alphas.pop(""))
    settings |= {
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != settings["r"]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != settings["lora_alpha"]},
        "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora_magnitude,
    }
    if whole:
        settings["modules_to_save"] = sorted(whole)
    _write_folder(Path(folder), settings, tensors)


@torch.no_grad()
@checked()
def export_lora(model: HyLoRADAModel, folder: str | Path, rank: int, drop: bool = False) -> dict[str, float]:
    """Write the nearest plain LoRA of `rank` (alpha = rank, so s = 1), for servers that know nothing else.

    Returns the relative Frobenius error ||B'A' - D|| / ||D|| of each layer by name, D being what the adapter adds to W;
    `svd_error.json` in the folder holds the same. A layer without magnitude has no error once `rank` reaches its own.

    Raises:
        HyLoRADAError: as for `export_peft`, or `rank` does not fit every layer.
    """
    _check_adapted(model)
    layers = _exportable_layers(model, drop)
    most = min(min(weight_rows(layer.base_layer).shape) for layer in layers.values())
    if not 1 <= rank <= most:
        raise HyLoRADAError(f"rank {rank} does not fit the layers of this model; use 1 to {most}.")
    tensors, errors = {}, {}
    for name, layer in layers.items():
        base_weight = weight_rows(layer.base_layer).float()
        added = layer.combine.row_factor(layer.base_layer, layer.lora)[:, None] * layer.dense_weight() - base_weight
        if not added.isfinite().all():
            raise HyLoRADAError(f"{name} holds NaN or infinity; the adapter is not exported.")
        left, sizes, right = torch.linalg.svd(added, full_matrices=False)
        root = sizes[:rank].sqrt()  # shared out, so that neither factor is much larger than the other
        A, B = root[:, None] * right[:rank], left[:, :rank] * root
        tensors |= low_rank_tensors(name, A, B)
        size = added.norm().item()
        errors[name] = (B @ A - added).norm().item() / size if size else 0.0
    settings = _settings(model, layers, rank, float(rank))
    _write_folder(Path(folder), settings, tensors, {"rank": rank, "relative_frobenius_error": errors})
    return errors


@torch.no_grad()
def folded_magnitude(layer: HyLoRADAUnified) -> Tensor:
    """Return m' = c·||W + sBA||, (d_out,), float32: the magnitude that makes plain DoRA of a gated, blended layer."""
    return layer.combine.row_factor(layer.base_layer, layer.lora) * layer.dense_weight().norm(dim=1)


def adapted_layers(model: HyLoRADAModel) -> dict[str, HyLoRADAUnified]:
    """Return the adapted layers by their full names, in the model's order."""
    modules = model.base_model.named_modules()
    return {name: module for name, module in modules if isinstance(module, HyLoRADAUnified)}


def _check_adapted(model: Any) -> None:
    if not isinstance(model, HyLoRADAModel):
        raise HyLoRADAError(f"a {type(model).__name__} has no adapter to export; make a HyLoRADAModel of it.")


def _exportable_layers(
    model: HyLoRADAModel, drop: bool, whole: Iterable[TrainedWeights] = ()
) -> dict[str, HyLoRADAUnified]:
    """Return the adapted layers by name, once it is settled what becomes of everything else that trains.

    whole: what is written beside them.
    """
    require_numbers(model.base_model)
    layers = adapted_layers(model)
    if not layers:
        raise HyLoRADAError(
            "this model has no adapted layer to export: merged, disabled, or made with lora_enabled=False."
        )
    _check_not_taken_for_experts(model, layers)
    parts = [part for layer in layers.values() for part in (layer.lora, layer.combine)]
    written = {p for part in (*parts, *whole) for p in part.parameters()}
    held = owners(model)
    others = {  # a dictionary for its order
        held.get(p, name.removeprefix("base_model.")): None
        for name, p in model.named_parameters()
        if p not in written and (p in held or p.requires_grad)
    }
    if model.hylorada_config.rope_scaling_type is not None:
        others["RoPE scaling"] = None
    omitted = " and ".join(list(others)[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    if others and not drop:
        raise HyLoRADAError(
            f"PEFT's layout cannot hold {omitted}; train without, or export with drop=True (--drop) to leave that out, "
            "which changes what the model computes."
        )
    if others:
        warnings.warn(f"left out of the export: {omitted}; it computes something else than this model.", stacklevel=4)
    return layers


def _check_not_taken_for_experts(model: HyLoRADAModel, layers: Iterable[str]) -> None:
    """Refuse layers whose names PEFT moves to the routed experts of a model, whose weights lie together since then."""
    from transformers.conversion_mapping import _MODEL_TO_CONVERSION_PATTERN  # by which PEFT knows such models

    kind = model.base_model.config.model_type
    taken = EXPERT_NAMES.get(_MODEL_TO_CONVERSION_PATTERN.get(kind), ())
    if named := [name for name in layers if name.rpartition(".")[2] in taken]:
        raise HyLoRADAError(
            f"PEFT takes the name of {named[0]} for the routed experts of a {kind}, and would put its update there; "
            "adapt other layers, or merge instead."
        )


def low_rank_tensors(name: str, A: Tensor, B: Tensor) -> dict[str, Tensor]:
    """Return the two factors of a layer by the names that PEFT gives them."""
    return {f"base_model.model.{name}.lora_A.weight": A, f"base_model.model.{name}.lora_B.weight": B}


def _numbers(config: HyLoRADAConfig, names: Iterable[str]) -> tuple[dict[str, int], dict[str, float]]:
    """Return rank and alpha by layer, and by "" what is theirs without a pattern, as PEFT is to read them.

    A start that is taken off makes an update of twice the rank with the same scale.
    """
    ranks = {"": config.lora_rank} | dict.fromkeys(names, config.lora_rank)
    alphas = {"": config.lora_alpha} | dict.fromkeys(names, config.lora_alpha)
    ranks |= by_pattern(config.rank_pattern, "rank_pattern", names)
    alphas |= by_pattern(config.alpha_pattern, "alpha_pattern", names)
    if config.init_lora_weights == "pissa":
        more = math.sqrt(2) if config.use_rslora else 2
        return {n: 2 * rank for n, rank in ranks.items()}, {n: more * alpha for n, alpha in alphas.items()}
    return ranks, alphas


def _settings(model: HyLoRADAModel, layers: dict[str, HyLoRADAUnified], rank: int, alpha: float) -> dict[str, Any]:
    """Return what PEFT is to read; targets mean the same layers there as here."""
    base, is_merged = model.base_model.config, getattr(model.base_model, "is_merged_by_hylorada", False)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None if is_merged else _findable(base.name_or_path),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "target_modules": shortest_names(model.base_model, layers),
        "fan_in_fan_out": any(not isinstance(layer.base_layer, nn.Linear) for layer in layers.values()),
        "bias": "none",
        "inference_mode": True,
    }


def _findable(name: str) -> str | None:
    """Return the name of a base by which it is found from any folder: of a folder its whole path, else as it is."""
    local = Path(name).expanduser()
    return (str(local.resolve()) if name and local.is_dir() else name) or None


def _write_folder(
    folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor], svd: dict[str, Any] | None = None
) -> None:
    check_only(folder, (CONFIG_FILE, TENSOR_FILE, SVD_FILE), "export")
    with written_beside(folder) as beside:
        beside.mkdir()
        write_json(beside / CONFIG_FILE, settings)
        if svd is not None:
            write_json(beside / SVD_FILE, svd)
        write_tensors(beside / TENSOR_FILE, tensors, {"format": "pt"})
