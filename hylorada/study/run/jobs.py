"""Several runs at once, for a card or a machine that one small model leaves idle: worker processes take run after run.

A worker keeps what it has imported and takes the costliest run that is left. A run that fails is told at the end and
stops no other; one whose process dies takes that worker with it. However the parent ends, the workers end with it.
"""

import logging
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.runs import Run
from hylorada.study.run.amounts import trained_tokens

LOG = logging.getLogger(__name__)
PATIENCE = 30.0  # seconds that a worker has to end by itself


def run_at_once(runs: Sequence[Run], make: Callable[[Run], None], jobs: int) -> None:
    """Call `make` with every run, `jobs` of them at a time in processes of their own, the costliest first.

    make: a function that a fresh process can import (or a `functools.partial` of one).

    Raises:
        HyLoRADAError: some runs failed, or their processes died; the others are done.
    """
    left, failed, count = deque(sorted(runs, key=cost, reverse=True)), {}, 0
    with _workers(min(jobs, len(runs)), make) as workers:
        at_work: dict[Connection, Run | None] = dict.fromkeys(workers)  # each first says that it is there
        while at_work:
            for worker in wait(list(at_work)):
                run = at_work.pop(worker)
                try:
                    told, alive = worker.recv(), True
                except (EOFError, OSError):
                    workers[worker].join()
                    told, alive = f"its process ended with status {workers[worker].exitcode}.", False
                if run is not None:
                    count += 1
                    LOG.info("%d of %d: %s %s", count, len(runs), run.name, "failed" if told else "is done")
                if told:
                    failed["a worker" if run is None else run.name] = told
                if alive and left:
                    at_work[worker] = left.popleft()
                if alive:
                    worker.send(at_work.get(worker))
    check_none_failed(failed, len(runs), len(left))


def check_none_failed(failed: Mapping[str, str], of: int, left: int = 0) -> None:
    """Raise HyLoRADAError for the runs that failed, by name with what was told, and for those that are left."""
    for name, told in failed.items():
        others = f", and {left} were not begun" if left else ""
        raise HyLoRADAError(
            f"{len(failed)} of {of} runs failed{others}; the same command takes them up again. {name}: {told}"
        )


def cost(run: Run) -> float:
    """Return the tokens that a run trains on, in all epochs; a whole text counts as more than any number of them."""
    tokens = trained_tokens(run.specification, None)
    return inf if tokens is None else tokens


@contextmanager
def _workers(number: int, make: Callable[[Run], None]) -> Iterator[dict[Connection, BaseProcess]]:
    """Start worker processes; they end with the block. An interrupt reaches this process alone, which ends them."""
    context = get_context("spawn")  # a forked process could not use the accelerator
    workers: dict[Connection, BaseProcess] = {}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the new processes inherit it
    try:
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, make), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the connection
            workers[ours] = process
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        yield workers
        for process in workers.values():
            process.join(PATIENCE)  # told that nothing is left, it gives back what the system holds for it
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()


def _work(connection: Connection, make: Callable[[Run], None]) -> None:
    """Say that this worker is there (None), then, after each run that it is given, why that failed, or None."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection.send(None)
    while (run := connection.recv()) is not None:
        connection.send(_failure(make, run))


def _failure(make: Callable[[Run], None], run: Run) -> str | None:
    try:
        make(run)
    except HyLoRADAError as error:
        return str(error)
    except Exception as error:  # a fault of ours must not keep the others from their runs
        traceback.print_exc()
        return f"{type(error).__name__}, a fault of the program; its traceback stands above."
    return None


def _end_with_parent() -> None:
    wait([parent_process().sentinel])
    os._exit(1)
