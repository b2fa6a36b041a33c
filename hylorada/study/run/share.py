"""Runs shared out between the processes that a launcher such as torchrun has started, on one machine or on several.

Each process takes the costliest run that no other is at work on, which the run's lock tells, until none is left. What a
process leaves when it dies is taken up by the others. A run is trained by one process alone.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hylorada.errors import BusyError, HyLoRADAError
from hylorada.study.plan.runs import Run, unfinished
from hylorada.study.run.jobs import check_none_failed, cost

JOINED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # what would make the processes one training
CARDS = "CUDA_VISIBLE_DEVICES"
PAUSE = 1.0  # seconds between two looks at what others are at work on


def stand_alone() -> int | None:
    """Make a process that was started among others one that trains by itself, on a card of its own; return its rank.

    To be called before torch sees a graphics card. None: no launcher has started this process.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    joined = {name: int(os.environ.pop(name, 0)) for name in JOINED}
    cards = list(filter(None, os.environ.get(CARDS, "").split(",")))
    local = joined["LOCAL_RANK"]
    os.environ[CARDS] = cards[local % len(cards)] if cards else str(local)
    return joined["RANK"]


def share_out(runs: Sequence[Run], records: Path, make: Callable[[Run], None]) -> None:
    """Call `make` with every run that no other process is at work on, and return when all of them are done.

    Raises:
        HyLoRADAError: some runs failed here; the others are done.
    """
    made, failed = set(), {}
    ordered = sorted(runs, key=cost, reverse=True)
    while left := [run for run in unfinished(ordered, records) if run.name not in made | failed.keys()]:
        for run in left:
            try:
                make(run)
                made.add(run.name)
            except BusyError:
                continue
            except HyLoRADAError as error:
                failed[run.name] = str(error)
            break
        else:
            time.sleep(PAUSE)
    check_none_failed(failed, len(runs))
