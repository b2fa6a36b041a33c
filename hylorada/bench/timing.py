"""Time and memory of competing calls, measured so that a noisy machine tells the truth about their ratios.

Absolute times drift with whatever else runs. So all competitors run in turn, round after round, each time in another
order, and a ratio is taken within a round; the table gives its median and quartiles over the rounds.
"""

import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles

import torch
from torch.profiler import ProfilerActivity, profile

Seconds = dict[str, list[float]]  # of each competitor, one number a round


def interleaved(
    competitors: dict[str, Callable[[], object]], rounds: int, told: Callable[[int], None] = lambda done: None
) -> Seconds:
    """Run every competitor once a round; one round more, first, is not counted.

    told: called with the number of finished rounds, for a progress line.
    """
    seconds: Seconds = {name: [] for name in competitors}
    shuffle = random.Random(0).sample
    for number in range(-1, rounds):
        for name in shuffle(list(competitors), len(competitors)):
            _synchronize()
            start = time.perf_counter()
            competitors[name]()
            _synchronize()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
        told(number + 1)
    return seconds


def ratio(seconds: Seconds, name: str, against: str) -> dict[str, float]:
    """Return median and quartiles of a competitor's time over another's, round by round."""
    each = [mine / theirs for mine, theirs in zip(seconds[name], seconds[against], strict=True)]
    low, _, high = quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return {"median": median(each), "low": low, "high": high}


def peak_mib(call: Callable[[], object]) -> float:
    """Return the most memory, in MiB, that a call allocates through torch beyond what was there before it."""
    gc.collect()
    if torch.cuda.is_available():
        call()  # what is made once and kept (workspaces, optimiser states) is not the call's
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    call()
    with _quiet_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = sorted(
        (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what the profiler's own library writes to the terminal when it starts and stops."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
