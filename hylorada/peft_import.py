"""Adapters that PEFT saved, read as ours: `adapter_config.json` + `adapter_model.safetensors`; PEFT is not needed.

PEFT's DoRA computes m'/||W + sBA|| where we have c, so its magnitude is taken over as it is, without gate and blend.
What has no counterpart here is refused by its name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hylorada.arguments import checked
from hylorada.checkpoint import check_same_names, read_tensors
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.export import CONFIG_FILE, TENSOR_FILE, adapted_layers, low_rank_tensors
from hylorada.layer_choice import block_number, is_meant, matches
from hylorada.lora import weight_rows
from hylorada.methods import method_config
from hylorada.model import HyLoRADAModel
from hylorada.reading import read_json, told_of
from hylorada.targets import find_layers
from hylorada.typed import read
from hylorada.usable_base import check_base


@dataclass(frozen=True, kw_only=True)
class Understood:
    """What of PEFT's settings is taken over, under its names there."""

    r: int
    lora_alpha: float
    target_modules: str | list[str]
    lora_dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None


UNDERSTOOD = {field.name for field in fields(Understood)}
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


@checked()
def import_peft(base_model: PreTrainedModel, folder: str | Path) -> HyLoRADAModel:
    """Adapt a fresh base model with the LoRA, rsLoRA or DoRA that PEFT saved.

    Kept: the function, to float32 rounding (factors become float32), and rank, alpha, dropout and layers. An imported
    magnitude has neither gate nor blend, so it also trains on as plain DoRA. Not kept: how A was
    initialised, the base model's name, PEFT's way of applying DoRA's dropout (here it acts on the update alone).

    Raises:
        HyLoRADAError: another method, a setting we do not have (it is named), a tensor missing, unknown or of another
            shape, or a damaged folder. The base model is then as it was.
    """
    check_base(base_model, method_config("lora"))
    given, tensors = _read_folder(Path(folder))
    _refuse_what_is_not_here(given, Path(folder))
    held = {name: value for name, value in given.items() if name in UNDERSTOOD}
    settings = read(Understood, held, str(Path(folder) / CONFIG_FILE))
    with told_of(Path(folder) / CONFIG_FILE):
        try:
            names = _named_layers(base_model, settings)
            layers = find_layers(base_model, names)
            ranks, alphas = (_by_first_match(each, layers) for each in (settings.rank_pattern, settings.alpha_pattern))
        except re.error as error:
            raise HyLoRADAError(f"it holds a pattern that is none: {error}.") from error
        config = HyLoRADAConfig(
            lora_rank=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            lora_target_modules=names,
            use_rslora=settings.use_rslora,
            orthogonal_init=False,
            init_lora_weights="pissa" if given.get("init_lora_weights") == "pissa" else None,
            rank_pattern=ranks or None,
            alpha_pattern=alphas or None,
            use_dora_magnitude=settings.use_dora,
            magnitude_gated=not settings.use_dora,
            position_bias_enabled=False,
            landmark_enabled=False,
        )
    wanted = {}
    for name, layer in layers.items():
        (d_out, d_in), rank = weight_rows(layer).shape, ranks.get(name, config.lora_rank)
        A, B = torch.empty(rank, d_in, device="meta"), torch.empty(d_out, rank, device="meta")
        wanted |= low_rank_tensors(name, A, B)
        if config.use_dora_magnitude:
            wanted[f"base_model.model.{name}.lora_magnitude_vector"] = torch.empty(d_out, device="meta")
    check_same_names(tensors, wanted, Path(folder))  # before the base model is touched
    model = HyLoRADAModel(base_model, config)
    with torch.no_grad():
        for name, layer in adapted_layers(model).items():
            layer.lora.A.copy_(tensors[f"base_model.model.{name}.lora_A.weight"])
            layer.lora.B.copy_(tensors[f"base_model.model.{name}.lora_B.weight"])
            if config.use_dora_magnitude:
                layer.combine.magnitude.copy_(tensors[f"base_model.model.{name}.lora_magnitude_vector"])
    return model


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for name in (CONFIG_FILE, TENSOR_FILE):
        if not (folder / name).is_file():
            raise HyLoRADAError(f"{folder} has no {name}; give a folder that PEFT saved (as safetensors, its default).")
    settings = read_json(folder / CONFIG_FILE)
    if not isinstance(settings, dict) or "peft_type" not in settings:
        raise HyLoRADAError(f"{folder / CONFIG_FILE} names no peft_type; give a folder that PEFT saved.")
    return settings, read_tensors(folder / TENSOR_FILE)


def _refuse_what_is_not_here(settings: dict[str, Any], folder: Path) -> None:
    if settings["peft_type"] != "LORA":
        raise HyLoRADAError(f"{folder} is of peft_type {settings['peft_type']!r}; only 'LORA' can be imported.")
    for name in sorted(settings.keys() - UNDERSTOOD - WITHOUT_EFFECT):
        value = settings[name]
        if value not in NEUTRAL[name] if name in NEUTRAL else value:
            raise HyLoRADAError(
                f"{folder} sets {name} to {value!r}, which has no counterpart here; "
                "let PEFT merge it into the base model, or train without it."
            )


def _named_layers(base_model: PreTrainedModel, settings: Understood) -> tuple[str, ...]:
    """Return layer names that mean here what PEFT's targets mean there: a pattern, or names and dotted ends."""
    targets, excluded = settings.target_modules, settings.exclude_modules or []
    names = [name for name, _ in base_model.named_modules() if name]
    blocks = settings.layers_to_transform if isinstance(targets, list) else None
    blocks = [blocks] if isinstance(blocks, int) else blocks or None
    if blocks:
        names = [name for name in names if _block(name, settings.layers_pattern or []) in blocks]
    layers = tuple(name for name in names if is_meant(name, targets) and not is_meant(name, excluded))
    if not layers:
        told = repr(targets)[:200]
        raise HyLoRADAError(f"target_modules={told} matches no layer of this model; give its own base.")
    if isinstance(targets, str) or excluded or blocks:
        return layers
    return tuple(sorted({end for end in targets if any(is_meant(name, [end]) for name in layers)}))


def _block(name: str, patterns: str | list[str]) -> int | None:
    """Return the number of the block of a layer: behind one of the names that PEFT's layers_pattern gives, if any."""
    if not patterns:
        return block_number(name)
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.search(rf"(?:^|\.){pattern}\.(\d+)\.", name):
            return int(found[1])
    return None


def _by_first_match(pattern: dict[str, Any] | None, names: Iterable[str]) -> dict[str, Any]:
    """Return what PEFT's pattern gives to layers, by full names: there the first key that matches one decides."""
    pattern = pattern or {}
    found = {name: next((key for key in pattern if matches(key, name)), None) for name in names}
    return {name: pattern[key] for name, key in found.items() if key is not None}
