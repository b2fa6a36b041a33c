"""Runs that a process holds for long, importable from a process of its own."""

import fcntl
import time
from pathlib import Path

from hylorada.study.plan.runs import Run


def make_run(stage: str, tokens: int | None = 64, epochs: int | None = 1) -> Run:
    training = None if epochs is None else {"num_epochs": epochs}
    specification = {"training": training, "train_tokens": tokens, "protocol": {"training_text": None}}
    return Run(stage, None, specification, "base", "corpus", stage)


def hold(lock: Path, run: Run) -> None:
    """Stand in for a long run (in a worker process)."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock.with_suffix(".held").touch()
        time.sleep(120)
