"""Runs that a process holds for long, importable from a process of its own."""

import fcntl
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path

from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.scales import load_settings


def make_run(stage: str, tokens: int | None = 64, epochs: int | None = 1) -> Run:
    run = plan(load_settings("smoke"), "ablation")["rslora"][0]
    training = None if epochs is None else replace(run.specification.training, num_epochs=epochs)
    specification = replace(run.specification, training=training, train_tokens=tokens)
    return Run(stage, None, specification, "base", "corpus", stage)


def hold(lock: Path, run: Run) -> None:
    """Stand in for a long run (in a worker process)."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock.with_suffix(".held").touch()
        time.sleep(120)


def take_semaphore(run: Run) -> None:
    """Stand in for a run that shows a bar (its lock is a semaphore of the system) in a process that is slow to end."""
    global lock
    lock = get_context("spawn").RLock()
    Finalize(None, time.sleep, (0.5,), exitpriority=1)  # before the semaphore is given back
