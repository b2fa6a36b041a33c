"""What a stopped training goes on from: a folder for each saved step, the last good one never replaced.

A folder holds the adapter, the best adapter so far where there are data for evaluation, `optimizer.pt` (the optimiser's
moments, the schedule, the scale of the loss, the data's generators) and `state.json` (settings, history, seconds).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hylorada import checkpoint
from hylorada.errors import HyLoRADAError
from hylorada.files import discard, read_json, write_json, written_beside
from hylorada.model import HyLoRADAModel

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
    """Write the state of the last step of `state.history` below `folder`, and let go of the one before."""
    older = last_state(folder)
    with written_beside(folder / f"step-{len(state.history):08d}") as step:
        step.mkdir()
        model.save_pretrained(step / ADAPTER_FOLDER)
        torch.save(state.machinery, step / OPTIMIZER_FILE)
        if state.best is not None:
            checkpoint.write_tensors(step / BEST_FILE, state.best)
        write_json(step / STATE_FILE, {"settings": settings, "history": state.history, "seconds": state.seconds})
    if older is not None:
        discard(older)


def load_state(folder: Path, settings: dict[str, Any], model: HyLoRADAModel) -> TrainingState:
    """Return the newest state below `folder`, where there is one, and put its adapter into the model.

    Raises:
        HyLoRADAError: it is of other settings or data, or damaged.
    """
    step = last_state(folder)
    saved, machinery = _read(step)
    if saved["settings"] != settings:
        raise HyLoRADAError(f"{folder} was left by a run with other settings or data; remove it, or train elsewhere.")
    _, _, tensors = checkpoint.read_adapter(step / ADAPTER_FOLDER)
    best = _read_best(step) if any("eval_loss" in row for row in saved["history"]) else None
    model.load_adapter_tensors(tensors, step)
    return TrainingState(saved["history"], saved["seconds"], machinery, best)


def last_state(folder: Path) -> Path | None:
    """Return the folder of the newest saved step, None where there is none."""
    return max(folder.glob("step-*"), default=None)


def _read_best(step: Path) -> dict[str, Tensor]:
    if not (step / BEST_FILE).is_file():
        raise HyLoRADAError(f"{step / BEST_FILE} is missing; remove {step} to go on from an older state.")
    return checkpoint.read_tensors(step / BEST_FILE)


def _read(step: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a saved state says of the run, and of its optimiser.

    Raises:
        HyLoRADAError: a file is missing or damaged, or does not hold what it should.
    """
    advice = f"remove {step} to go on from an older state, or from the start"
    try:
        state, file = read_json(step / STATE_FILE), STATE_FILE
        missing = {"settings", "history", "seconds"} - state.keys()
        if not missing:
            file, machinery = OPTIMIZER_FILE, torch.load(step / OPTIMIZER_FILE, weights_only=True, map_location="cpu")
            missing = {"optimizer", "schedule", "scaler", "generators"} - machinery.keys()
    except FileNotFoundError:
        raise HyLoRADAError(f"{step / OPTIMIZER_FILE} is missing; {advice}.") from None
    except HyLoRADAError as error:
        raise HyLoRADAError(f"{error} Or {advice}.") from error
    except Exception as error:  # what is damaged fails in as many ways as pickles and archives have
        raise HyLoRADAError(f"{step / OPTIMIZER_FILE} is damaged ({type(error).__name__}); {advice}.") from error
    if missing:
        raise HyLoRADAError(f"{step / file} lacks {', '.join(sorted(missing))}; {advice}.")
    return state, machinery
