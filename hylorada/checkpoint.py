"""Adapter folders: `hylorada_config.json` + `hylorada.safetensors`, written whole or not at all, read strictly."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from hylorada.card import CARD_FILE, is_own_card
from hylorada.errors import HyLoRADAError
from hylorada.files import as_new, check_only, write_json, written_beside
from hylorada.reading import read_json, reading

CONFIG_FILE = "hylorada_config.json"
TENSOR_FILE = "hylorada.safetensors"
SEAL = "hylorada_seal"  # a tensor more in a trainer's checkpoint, which shows a model nothing but tensors: `seal`
INDEX_FILE = "model.safetensors.index.json"  # as transformers names it: in which file each tensor of a model is
FORMAT = 1
DIGEST = "sha256"  # of all tensors of a safetensors file, in its metadata
IN_WORDS = {"merged": "adapter merged into it:"}  # of what `describe_base` tells


def write_adapter(
    folder: Path,
    config: dict[str, Any],
    base: dict[str, Any],
    tensors: dict[str, Tensor],
    card: str | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Write an adapter folder; config and base (what the base model must look like) hold plain values.

    card: the text of a model card, which stands beside it (`hylorada.card`). about: what it says of data and results.

    Raises:
        HyLoRADAError: there is no tensor or one is not finite, the folder holds other things, or the disk refuses; it
            is then as it was.
    """
    check_only_adapter(Path(folder))
    with written_beside(Path(folder)) as beside:
        beside.mkdir()
        told = {"about": about} if about else {}
        write_json(beside / CONFIG_FILE, _description(config, base, tensors) | told)
        write_tensors(beside / TENSOR_FILE, tensors)
        if card is not None:
            (beside / CARD_FILE).write_text(card, encoding="utf-8")


def write_adapter_into(folder: Path, config: dict[str, Any], base: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write an adapter among the other files of a trainer's checkpoint, which stay, each of its own files whole.

    With an index, by which transformers' Trainer finds the tensors to go on with. It shows a model nothing but tensors,
    so one more, which the index leaves out as no model has it, says what the others were and belong to.

    Raises:
        HyLoRADAError: a tensor is not finite, or the disk refuses.
    """
    with written_beside(folder / TENSOR_FILE) as beside:
        write_tensors(beside, tensors | {SEAL: seal(config, base, tensors)})
    write_json(folder / CONFIG_FILE, _description(config, base, tensors))
    write_json(folder / INDEX_FILE, {"metadata": {}, "weight_map": dict.fromkeys(tensors, TENSOR_FILE)})


def _description(config: dict[str, Any], base: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return what CONFIG_FILE holds: settings and base, with digests of these and of the tensors beside them."""
    held = {"format": FORMAT, "adapter": config, "base": base}
    return held | {"sha256": _digests(config, base, tensors)} if tensors else held


def _digests(config: dict[str, Any], base: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, str]:
    text = json.dumps({"adapter": config, "base": base}, sort_keys=True)
    return {"settings": sha256(text.encode()).hexdigest(), "tensors": tensors_digest(tensors)}


def seal(config: dict[str, Any], base: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    """Return two SHA-256, 64 bytes: of an adapter's settings and what its base looks like, and of its tensors."""
    digests = _digests(config, base, tensors)
    return torch.tensor(list(bytes.fromhex(digests["settings"] + digests["tensors"])), dtype=torch.uint8)


def check_seal(given: Tensor, config: dict[str, Any], base: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Hold the tensors of a trainer's checkpoint, and the model that takes them, to the seal that lay with them.

    Raises:
        HyLoRADAError: the tensors are not those that were saved, or the settings or the base are others.
    """
    own = seal(config, base, tensors)
    if given.shape != own.shape or not torch.equal(given[:32].cpu(), own[:32]):
        raise HyLoRADAError(
            "the checkpoint is of an adapter with other settings, or on another base; go on with the model that wrote "
            f"it, whose settings stand in its {CONFIG_FILE}."
        )
    if not torch.equal(given.cpu(), own):
        raise HyLoRADAError("the checkpoint is damaged: its tensors are not those saved; go on from an earlier one.")


def check_only_adapter(folder: Path) -> None:
    """Hold a folder to write to against what is in it, for the new adapter takes its place.

    Raises:
        HyLoRADAError: it is there and holds more than an earlier adapter and its card.
    """
    own = [CARD_FILE] if is_own_card(folder / CARD_FILE) else []
    check_only(folder, (CONFIG_FILE, TENSOR_FILE, *own), "adapter")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Return config, base and tensors of an adapter folder.

    Raises:
        HyLoRADAError: a file is absent, unreadable or of another format.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, TENSOR_FILE):
        if not (folder / name).is_file():
            is_pefts = (folder / "adapter_config.json").is_file()
            advice = "PEFT's adapters are read by import_peft" if is_pefts else "give one that was saved whole"
            raise HyLoRADAError(f"{folder} is no adapter folder: {name} is not in it; {advice}.")
    description = read_json(folder / CONFIG_FILE, dict)
    if description.get("format") != FORMAT:
        raise HyLoRADAError(
            f"{folder / CONFIG_FILE} is not of format {FORMAT}; read it with the version that wrote it."
        )
    for name in ("adapter", "base"):
        if not isinstance(description.get(name), dict):
            raise HyLoRADAError(f"{folder / CONFIG_FILE} says nothing of {name!r}; save the adapter again.")
    tensors, digests = read_tensors(folder / TENSOR_FILE), description.get("sha256")
    tensors.pop(SEAL, None)
    if digests is not None and digests != _digests(description["adapter"], description["base"], tensors):
        raise HyLoRADAError(
            f"{folder / CONFIG_FILE} was changed after it was saved, or is of another adapter than {TENSOR_FILE}; "
            "take the adapter as it was saved."
        )
    return description["adapter"], description["base"], tensors


def read_about(folder: Path) -> Any:
    """Return what a whole adapter folder says of data and results; None where it says nothing."""
    return read_json(Path(folder) / CONFIG_FILE).get("about")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        HyLoRADAError: there is none, one is not finite, or the disk refuses.
    """
    if not tensors:
        raise HyLoRADAError(f"there is no tensor to write to {path.name}; the adapter is not saved.")
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise HyLoRADAError(f"{len(broken)} tensors hold NaN or infinity, {broken[0]} first; the adapter is not saved.")
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(held, path, {DIGEST: tensors_digest(held)} if metadata is None else metadata)
        as_new(path)
    except SafetensorError as error:  # how the library reports a full disk
        raise HyLoRADAError(f"{path.name} could not be written ({error}); the adapter is not saved.") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, and hold its tensors to their digest where the file has one.

    Raises:
        HyLoRADAError: it is damaged, changed or not there.
    """
    with reading(path, "safetensors file", "save the adapter again"), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dictionary)
        digest = (file.metadata() or {}).get(DIGEST)
    if digest is not None and digest != tensors_digest(tensors):
        raise HyLoRADAError(f"{path} is damaged: its tensors are not those that were saved; save the adapter again.")
    return tensors


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: of their names, dtypes, shapes and bytes, in hexadecimal."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def describe_base(base_model: PreTrainedModel) -> dict[str, Any]:
    """Return the shape that tells one base model from another that an adapter would not fit."""
    config = base_model.config.get_text_config()
    shape = {name: getattr(config, name) for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")}
    merged = getattr(base_model.config, "hylorada_merged", None)
    return shape if merged is None else shape | {"merged": merged}


def check_same_base(there: dict[str, Any], here: dict[str, Any], folder: Path) -> None:
    """Hold the base that a folder's adapter was trained on to the one at hand, as `describe_base` has them.

    Raises:
        HyLoRADAError: they differ.
    """
    if there != here:
        differing = ", ".join(
            f"{IN_WORDS.get(name, name)} {there.get(name, 'none')} there, {here.get(name, 'none')} here"
            for name in sorted(here.keys() | there.keys())
            if there.get(name) != here.get(name)
        )
        raise HyLoRADAError(f"{folder} is for another base model: {differing}; load it on the one it was trained on.")


def check_same_names(given: dict[str, Tensor], wanted: dict[str, Tensor], folder: Path) -> None:
    """Hold the tensors of a folder to those of the model, by name and shape.

    Raises:
        HyLoRADAError: some are missing, unknown or of another shape.
    """
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        differences = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise HyLoRADAError(
            f"{folder} does not fit this model: {' and '.join(differences)}; load it on the base it was trained on."
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            raise HyLoRADAError(
                f"{folder} does not fit this model: {name} is {tuple(given[name].shape)}, "
                f"here {tuple(tensor.shape)}; load it on the base it was trained on."
            )
