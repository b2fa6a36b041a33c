"""Runs that a process holds for long, importable from a process of its own."""

import fcntl
import time
from dataclasses import replace
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
