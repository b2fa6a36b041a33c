"""Adapters in PEFT's layout: `adapter_config.json` + `adapter_model.safetensors`, written and read; PEFT is not needed.

W (d_out, d_in), A (r, d_in), B (d_out, r), s and c as in `hylorada.lora`. PEFT's DoRA computes m'/||W + sBA|| where we
have c, so gate and blend leave through the magnitude:

    m' = c·||W + sBA||                               export_peft, row by row
    c  = m'/||W + sBA||  as without gate and blend   import_peft
    B'A' ≈ c∘(W + sBA) - W                           export_lora: the nearest matrix of rank r (Eckart and Young, 1936)

Trained embeddings and norms leave whole, as PEFT's `modules_to_save`; an output layer tied to the embedding leaves as a
second copy, because PEFT would go on using the base's.
"""

import math
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hylorada.checkpoint import check_same_names, read_tensors, write_tensors
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.files import check_only, read_json, write_json, written_beside
from hylorada.layer_choice import block_number, by_pattern, is_meant, matches
from hylorada.lora import HyLoRADAUnified, weight_rows
from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.targets import find_layers, shortest_names
from hylorada.trained_weights import TrainedWeights

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
SVD_FILE = "svd_error.json"

UNDERSTOOD = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
WITHOUT_EFFECT = {  # on what a finished adapter computes; the kind of layer tells how a weight is stored
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"),
    *("fan_in_fan_out", "megatron_core", "qalora_group_size"),
}
NEUTRAL = {  # else a setting says nothing when it is null, false or empty
    "bias": ("none",),
    "task_type": ("CAUSAL_LM", None),
    "init_lora_weights": (
        True,
        False,
        "gaussian",
        "orthogonal",
        "pissa",
    ),  # others change the base weights, or the ranks
}


def export_peft(model: HyLoRADAModel, folder: str | Path, drop: bool = False) -> None:
    """Write the adapter as PEFT's LoRA, rsLoRA or DoRA, of the same function; the base model is not written.

    drop: leave out, with a warning, what that layout cannot hold; the exported function is then another one.

    Raises:
        HyLoRADAError: such parts are there and `drop` is false (they are named), no layer is adapted, a number is not
            finite, `folder` holds other things, or the disk refuses. The folder is then as it was.
    """
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
        tensors |= _low_rank_tensors(name, layer.lora.whole_A, layer.lora.whole_B)
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
def export_lora(model: HyLoRADAModel, folder: str | Path, rank: int, drop: bool = False) -> dict[str, float]:
    """Write the nearest plain LoRA of `rank` (alpha = rank, so s = 1), for servers that know nothing else.

    Returns the relative Frobenius error ||B'A' - D|| / ||D|| of each layer by name, D being what the adapter adds to W;
    `svd_error.json` in the folder holds the same. A layer without magnitude has no error once `rank` reaches its own.

    Raises:
        HyLoRADAError: as for `export_peft`, or `rank` does not fit every layer.
    """
    layers = _exportable_layers(model, drop)
    most = min(min(weight_rows(layer.base_layer).shape) for layer in layers.values())
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= most:
        raise HyLoRADAError(f"rank {rank!r} does not fit the layers of this model; use 1 to {most}.")
    tensors, errors = {}, {}
    for name, layer in layers.items():
        base_weight = weight_rows(layer.base_layer).float()
        added = layer.combine.row_factor(layer.base_layer, layer.lora)[:, None] * layer.dense_weight() - base_weight
        if not added.isfinite().all():
            raise HyLoRADAError(f"{name} holds NaN or infinity; the adapter is not exported.")
        left, sizes, right = torch.linalg.svd(added, full_matrices=False)
        root = sizes[:rank].sqrt()  # shared out, so that neither factor is much larger than the other
        A, B = root[:, None] * right[:rank], left[:, :rank] * root
        tensors |= _low_rank_tensors(name, A, B)
        size = added.norm().item()
        errors[name] = (B @ A - added).norm().item() / size if size else 0.0
    settings = _settings(model, layers, rank, float(rank))
    _write_folder(Path(folder), settings, tensors, {"rank": rank, "relative_frobenius_error": errors})
    return errors


def import_peft(base_model: PreTrainedModel, folder: str | Path) -> HyLoRADAModel:
    """Adapt a fresh base model with the LoRA, rsLoRA or DoRA that PEFT saved.

    Kept: the function, to float32 rounding (factors become float32), and rank, alpha, dropout and layers. An imported
    magnitude has neither gate nor blend, so it also trains on as plain DoRA. Not kept: how A was
    initialised, the base model's name, PEFT's way of applying DoRA's dropout (here it acts on the update alone).

    Raises:
        HyLoRADAError: another method, a setting we do not have (it is named), a tensor missing, unknown or of another
            shape, or a damaged folder. The base model is then as it was.
    """
    settings, tensors = _read_folder(Path(folder))
    _refuse_what_is_not_here(settings, Path(folder))
    names = _named_layers(base_model, settings, Path(folder))
    layers = find_layers(base_model, names)
    ranks, alphas = (_by_first_match(settings, name, layers) for name in ("rank_pattern", "alpha_pattern"))
    config = HyLoRADAConfig(
        lora_rank=settings["r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings.get("lora_dropout", 0.0),
        lora_target_modules=names,
        use_rslora=settings.get("use_rslora", False),
        orthogonal_init=False,
        init_lora_weights="pissa" if settings.get("init_lora_weights") == "pissa" else None,
        rank_pattern=ranks or None,
        alpha_pattern=alphas or None,
        use_dora_magnitude=settings.get("use_dora", False),
        magnitude_gated=not settings.get("use_dora", False),
        position_bias_enabled=False,
        landmark_enabled=False,
    )
    wanted = {}
    for name, layer in layers.items():
        (d_out, d_in), rank = weight_rows(layer).shape, ranks.get(name, config.lora_rank)
        A, B = torch.empty(rank, d_in, device="meta"), torch.empty(d_out, rank, device="meta")
        wanted |= _low_rank_tensors(name, A, B)
        if config.use_dora_magnitude:
            wanted[f"base_model.model.{name}.lora_magnitude_vector"] = torch.empty(d_out, device="meta")
    check_same_names(tensors, wanted, Path(folder))  # before the base model is touched
    model = HyLoRADAModel(base_model, config)
    with torch.no_grad():
        for name, layer in _adapted_layers(model).items():
            layer.lora.A.copy_(tensors[f"base_model.model.{name}.lora_A.weight"])
            layer.lora.B.copy_(tensors[f"base_model.model.{name}.lora_B.weight"])
            if config.use_dora_magnitude:
                layer.combine.magnitude.copy_(tensors[f"base_model.model.{name}.lora_magnitude_vector"])
    return model


@torch.no_grad()
def folded_magnitude(layer: HyLoRADAUnified) -> Tensor:
    """Return m' = c·||W + sBA||, (d_out,), float32: the magnitude that makes plain DoRA of a gated, blended layer."""
    return layer.combine.row_factor(layer.base_layer, layer.lora) * layer.dense_weight().norm(dim=1)


def _adapted_layers(model: HyLoRADAModel) -> dict[str, HyLoRADAUnified]:
    modules = model.base_model.named_modules()
    return {name: module for name, module in modules if isinstance(module, HyLoRADAUnified)}


def _exportable_layers(
    model: HyLoRADAModel, drop: bool, whole: Iterable[TrainedWeights] = ()
) -> dict[str, HyLoRADAUnified]:
    """Return the adapted layers by name, once it is settled what becomes of everything else that trains.

    whole: what is written beside them.
    """
    layers = _adapted_layers(model)
    if not layers:
        raise HyLoRADAError(
            "this model has no adapted layer to export: merged, disabled, or made with lora_enabled=False."
        )
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
        warnings.warn(f"left out of the export: {omitted}; it computes something else than this model.", stacklevel=3)
    return layers


def _low_rank_tensors(name: str, A: Tensor, B: Tensor) -> dict[str, Tensor]:
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


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for name in (CONFIG_FILE, TENSOR_FILE):
        if not (folder / name).is_file():
            raise HyLoRADAError(f"{folder} has no {name}; give a folder that PEFT saved (as safetensors, its default).")
    settings = read_json(folder / CONFIG_FILE)
    if not isinstance(settings, dict) or settings.keys().isdisjoint({"peft_type"}):
        raise HyLoRADAError(f"{folder / CONFIG_FILE} names no peft_type; give a folder that PEFT saved.")
    return settings, read_tensors(folder / TENSOR_FILE)


def _refuse_what_is_not_here(settings: dict[str, Any], folder: Path) -> None:
    if settings["peft_type"] != "LORA":
        raise HyLoRADAError(f"{folder} is of peft_type {settings['peft_type']!r}; only 'LORA' can be imported.")
    for name in ("r", "lora_alpha", "target_modules"):
        if settings.get(name) is None:
            raise HyLoRADAError(f"{folder / CONFIG_FILE} sets no {name}; save the adapter again with PEFT.")
    if not isinstance(settings["target_modules"], str | list):
        raise HyLoRADAError(f"{folder / CONFIG_FILE}: target_modules is neither a pattern nor a list of layer names.")
    for name in sorted(settings.keys() - UNDERSTOOD - WITHOUT_EFFECT):
        value = settings[name]
        if value not in NEUTRAL[name] if name in NEUTRAL else value:
            raise HyLoRADAError(
                f"{folder} sets {name} to {value!r}, which has no counterpart here; "
                "let PEFT merge it into the base model, or train without it."
            )


def _named_layers(base_model: PreTrainedModel, settings: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Return layer names that mean here what PEFT's targets mean there: a pattern, or names and dotted ends."""
    targets, excluded = settings["target_modules"], settings.get("exclude_modules") or []
    names = [name for name, _ in base_model.named_modules() if name]
    blocks = settings.get("layers_to_transform") if isinstance(targets, list) else None
    blocks = [blocks] if isinstance(blocks, int) else blocks or None
    if blocks:
        names = [name for name in names if _block(name, settings.get("layers_pattern") or []) in blocks]
    try:
        layers = tuple(name for name in names if is_meant(name, targets) and not is_meant(name, excluded))
    except re.error as error:
        raise HyLoRADAError(
            f"{folder / CONFIG_FILE}: target_modules or exclude_modules is no pattern: {error}."
        ) from error
    if not layers:
        raise HyLoRADAError(f"{folder}: target_modules={targets!r} matches no layer of this model; give its own base.")
    if isinstance(targets, str) or excluded or blocks:
        return layers
    return tuple(sorted(end for end in targets if any(is_meant(name, [end]) for name in layers)))


def _block(name: str, patterns: str | list[str]) -> int | None:
    """Return the number of the block of a layer: behind one of the names that PEFT's layers_pattern gives, if any."""
    if not patterns:
        return block_number(name)
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.search(rf"(?:^|\.){pattern}\.(\d+)\.", name):
            return int(found[1])
    return None


def _by_first_match(settings: dict[str, Any], setting: str, names: Iterable[str]) -> dict[str, Any]:
    """Return what PEFT's pattern gives to layers, by full names: there the first key that matches one decides."""
    pattern = settings.get(setting) or {}
    found = {name: next((key for key in pattern if matches(key, name)), None) for name in names}
    return {name: pattern[key] for name, key in found.items() if key is not None}
