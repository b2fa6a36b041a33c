"""Training watched from outside: each step's loss and rate, and each epoch's score, through accelerate to a tracker.

TensorBoard writes files. Whether W&B sends what it writes is up to its own settings (WANDB_MODE=offline: it does not).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hylorada.errors import HyLoRADAError, near
from hylorada.files import make_folder

PROJECT = "hylorada"
TRACKERS = ("tensorboard", "wandb")
LOGGED = ("loss", "learning_rate", "eval_loss", "eval_perplexity")  # the last two at the end of an epoch
OnStep = Callable[[dict[str, float], int], None]


@contextmanager
def tracked(tracker: str, folder: Path, run: str, settings: dict[str, Any]) -> Iterator[OnStep]:
    """Yield what a `HyLoRADATrainer` calls after each step; what it logged is complete when the block ends.

    tracker: one of TRACKERS. folder: where their files go. run: the name it is shown under. settings: plain values,
    nested or not.

    Raises:
        HyLoRADAError: the tracker is not known, or its package is not installed.
    """
    if tracker not in TRACKERS:
        raise HyLoRADAError(f"tracker {tracker!r} is not known; {near(tracker, TRACKERS)}")
    if find_spec(tracker) is None:
        raise HyLoRADAError(f"the tracker {tracker!r} is not installed; python -m pip install {tracker}")
    make_folder(folder)
    accelerator = Accelerator(log_with=tracker, project_dir=folder)
    places = {"wandb": {"dir": str(folder), "name": run}} if tracker == "wandb" else {}  # else it writes where it runs
    accelerator.init_trackers(run if tracker == "tensorboard" else PROJECT, _flat(settings), places)

    def on_step(row: dict[str, float], total_steps: int) -> None:
        accelerator.log({name: row[name] for name in LOGGED if name in row}, step=int(row["step"]))

    try:
        yield on_step
    finally:
        accelerator.end_training()


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Return nested settings with dotted names and values that every tracker takes."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
