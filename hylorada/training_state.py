"""What a stopped training goes on from: a folder for each saved step, the last good one never replaced.

One that is not whole is passed over, in words; the one before it serves, or the start.

A folder holds the adapter, the best adapter so far where there are data for evaluation, `optimizer.pt` (the optimiser's
moments, the schedule, the scale of the loss, the data's generators) and `state.json` (settings, history, seconds).
"""

import json
import logging
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hylorada import checkpoint
from hylorada.errors import HyLoRADAError
from hylorada.files import retire, write_json, written_beside
from hylorada.model import HyLoRADAModel
from hylorada.reading import hold, read_json, reading

LOG = logging.getLogger(__name__)
STATE_FILE, OPTIMIZER_FILE, ADAPTER_FOLDER = "state.json", "optimizer.pt", "adapter"
BEST_FILE = "best.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """One saved step: plain values, what `torch.save` holds, and the best adapter's tensors where there is one."""

    history: list[dict[str, float]]
    seconds: float
    machinery: dict[str, Any]
    best: dict[str, Tensor] | None


def save_state(folder: Path, settings: dict[str, Any], model: HyLoRADAModel, state: TrainingState) -> None:
    """Write the state of the last step of `state.history` below `folder`, and let go of those before."""
    new, machinery = folder / f"step-{len(state.history):08d}", BytesIO()
    torch.save(state.machinery, machinery)  # not to the disk: a full one is no OSError there
    with written_beside(new) as step:
        step.mkdir()
        model.save_pretrained(step / ADAPTER_FOLDER)
        (step / OPTIMIZER_FILE).write_bytes(machinery.getbuffer())
        if state.best is not None:
            checkpoint.write_tensors(step / BEST_FILE, state.best)
        saved = {"settings": settings, "history": state.history, "seconds": state.seconds}
        saved = json.loads(json.dumps(saved))  # as it will be read
        write_json(step / STATE_FILE, saved | {"sha256": _digest(saved, machinery.getbuffer())})
    for step in set(folder.glob("step-*")) - {new}:
        retire(step)


def load_state(folder: Path, settings: dict[str, Any], model: HyLoRADAModel) -> TrainingState | None:
    """Return the newest whole state below `folder`, None where there is none, and put its adapter into the model.

    Raises:
        HyLoRADAError: it is of other settings or data.
    """
    for step in sorted(folder.glob("step-*"), reverse=True):
        try:
            saved, machinery, tensors, best = _read(step)
        except HyLoRADAError as error:
            LOG.warning("%s is not whole, so training goes on from before it: %s", step, error)
            continue
        if saved["settings"] != settings:
            raise HyLoRADAError(
                f"{folder} was left by a run with other settings or data; remove it, or train elsewhere."
            )
        model.load_adapter_tensors(tensors, step)
        return TrainingState(saved["history"], saved["seconds"], machinery, best)
    return None


def _read(step: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    """Return what a saved state says of the run, the machinery, the adapter, and the best one where there is one.

    Raises:
        HyLoRADAError: a file is missing or damaged, or does not hold what it should.
    """
    saved = read_json(step / STATE_FILE, settings=dict, history=list, seconds=float | int)
    path, advice = step / OPTIMIZER_FILE, "its state is of no use"
    with reading(path, "state of an optimiser", advice):
        kept = path.read_bytes()
        if saved.pop("sha256", None) not in (None, _digest(saved, kept)):
            raise HyLoRADAError(f"{path} is damaged, or {STATE_FILE} beside it: they do not fit; {advice}.")
        machinery = torch.load(BytesIO(kept), weights_only=True, map_location="cpu")
    hold(machinery, path, optimizer=dict, schedule=dict, scaler=dict, generators=object)
    if not all(isinstance(row, dict) for row in saved["history"]):
        raise HyLoRADAError(f"{step / STATE_FILE} has a history that is none; {advice}.")
    _, _, tensors = checkpoint.read_adapter(step / ADAPTER_FOLDER)
    has_best = any("eval_loss" in row for row in saved["history"])
    return saved, machinery, tensors, checkpoint.read_tensors(step / BEST_FILE) if has_best else None


def _digest(saved: dict[str, Any], machinery: bytes | memoryview) -> str:
    """Return the SHA-256 of what a state says of the run, and of its optimiser, in hexadecimal."""
    return sha256(json.dumps(saved, sort_keys=True).encode() + bytes(machinery)).hexdigest()
