"""How far runs are and how long they still take, told while they are made: a line a minute, on a terminal a bar.

It is read from the records and from the hidden folders of runs at work, so that it speaks of all processes that make
these runs: the workers of `--jobs`, or those that Snakemake starts, of which one at a time has its say (`Shared`).
"""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Event, Thread

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from hylorada.errors import HyLoRADAError
from hylorada.files import work_of
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run
from hylorada.study.run.amounts import Amounts
from hylorada.study.run.forecast import brief, read_records
from hylorada.study.run.paces import Paces

LOG = logging.getLogger(__name__)
MINUTE, MOMENT = 60.0, 2.0  # seconds between two lines, and between two looks
NEWEST = 200  # records that the paces are taken from
Planned = Mapping[str, tuple[str, Run]]  # by the name of a run: the study that it is of, and the run


@dataclass(frozen=True)
class Standing:
    """done, total: tokens of training. words: all of it in one line."""

    done: int
    total: int
    words: str


class Progress:
    """How planned runs stand whose records go to a folder.

    references: folders of records, for kinds of run that are not done here yet. since: when the first of the processes
    that are at work began, so that a run that was stopped before does not count. jobs: runs at once; None: as many as
    are at work.
    """

    def __init__(
        self, planned: Planned, records: Path, references: Sequence[Path], data: Path, since: float, jobs: int | None
    ) -> None:
        self._planned, self._records, self._since, self._jobs = planned, Path(records), since, jobs
        self._reference, self._amounts = cache(partial(read_records, *references)), Amounts(data)
        self._read: dict[Path, Record] = {}
        self._paces: Paces | None = None

    def standing(self, begun: str | None = None) -> Standing:
        """Look, and say what is at work (`begun` too, a name), what is done and left, and the last result."""
        last = self._look()
        tokens = {name: self._paces.amount(run).trained or 0 for name, (_, run) in self._planned.items()}
        left = [name for name in self._planned if not (self._records / name / "record.json").is_file()]
        spent = {name: time.time() - since for name in left if (since := self._begun(name)) >= self._since}
        at_work = [name for name in left if name in spent or name == begun]
        total, done = sum(tokens.values()), sum(tokens.values()) - sum(tokens[name] for name in left)
        words = []
        if at_work:
            more = f" and {len(at_work) - 1} more" if len(at_work) > 1 else ""
            words.append(f"{self._planned[at_work[0]][0]}, {called(at_work[0])}{more}")
        words.append(f"{len(self._planned) - len(left)} of {len(self._planned)} runs done")
        words.append(f"{done:,} of {total:,} tokens")
        words.append(self._time_left(left, spent))
        if last is not None:
            words.append(f"last {called(last.name)}: perplexity {last.results['perplexity']:.3f}")
        return Standing(done, total, "; ".join(words))

    def _time_left(self, left: Sequence[str], spent: Mapping[str, float]) -> str:
        """Say how long the rest takes, some of which was begun so many seconds ago."""
        estimates = {name: self._paces.of(self._planned[name][1]).seconds for name in left}
        known = {name: seconds for name, seconds in estimates.items() if seconds is not None}
        if left and not known:
            return "time left not known before a first run is done"
        rest = [max(seconds - spent.get(name, 0.0), seconds / 10) for name, seconds in known.items()]
        at_once = max(1, min(self._jobs or len(spent), len(left)))
        seconds = max(sum(rest) / at_once, max(rest, default=0.0))
        return f"about {brief(seconds)} left" + f" without {len(left) - len(known)} runs" * (len(known) < len(left))

    def _look(self) -> Record | None:
        """Read the records that are new, and take the paces from them; return the newest of these runs."""
        paths = sorted(self._records.glob("[!.]*/record.json"), key=lambda path: path.stat().st_mtime)
        new = {path: read_record(path) for path in paths[-NEWEST:] if path not in self._read}
        if new or self._paces is None:
            self._read |= new
            self._paces = Paces(self._read.values(), self._reference, self._amounts)
        own = (path for path in reversed(paths[-NEWEST:]) if path.parent.name in self._planned)
        return next((self._read[path] for path in own), None)

    def _begun(self, name: str) -> float:
        """Return when a process began to work on a run, by its lock; 0 where none does."""
        try:
            return (work_of(self._records / name) / "lock").stat().st_mtime
        except FileNotFoundError:
            return 0.0


class Shared:
    """A folder through which processes that make runs of one plan take turns: one line a minute among all of them.

    All of them lock the file `session`, so that a process that is alone knows it and begins a new one; the file `told`
    says when the last line was written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._told = folder / "told"
        self._session = (folder / "session").open("a", encoding="utf-8")
        try:
            fcntl.flock(self._session, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(self._session.name)
        except BlockingIOError:
            pass  # others are at work
        fcntl.flock(self._session, fcntl.LOCK_SH)
        self.since = Path(self._session.name).stat().st_mtime

    def is_due(self) -> bool:
        """Tell whether a minute has gone by since any process wrote a line; the next one is then for this to write."""
        with self._told.open("a", encoding="utf-8") as told:
            fcntl.flock(told, fcntl.LOCK_EX)
            before = os.fstat(told.fileno())
            if before.st_size and time.time() - before.st_mtime < MINUTE:
                return False
            told.write("\n" * (not before.st_size))
            told.flush()
            os.utime(told.name)
            return True

    def close(self) -> None:
        """Leave the session."""
        self._session.close()


def called(name: str) -> str:
    """Return the name of a run without the digits that tell it from the same run of other settings."""
    return name.rpartition("-")[0]


@contextmanager
def told(
    make: Callable[[float, int | None], Progress], shared: Path | None, jobs: int | None
) -> Iterator[Callable[[str], None]]:
    """Tell the progress while the block works; yield what it calls with the name of a run that it begins.

    make: makes the `Progress`, of what was begun since a time, by so many jobs (None: as many as are at work). shared:
    the folder of processes that take turns. In a log there is a line a minute. On a terminal a single process, whose
    steps have a bar, says the line before each run; several have one bar for all.
    """
    if not LOG.isEnabledFor(logging.INFO):
        yield lambda name: None
        return
    if (on_terminal := sys.stderr.isatty()) and jobs == 1:
        progress = make(time.time(), jobs)
        yield lambda name: LOG.info("%s", progress.standing(name).words)
        return
    turns, over = None if shared is None else Shared(shared), Event()
    progress = make(time.time(), jobs) if turns is None else make(turns.since, None)
    speaker = Thread(target=_speak, args=(_show if on_terminal else _log, progress, over, turns), daemon=True)
    speaker.start()
    try:
        yield lambda name: None
    finally:
        over.set()
        speaker.join()
        if turns is not None:
            turns.close()


def _speak(how: Callable, progress: Progress, over: Event, turns: Shared | None) -> None:
    """Show the progress until it is over; what cannot be read is told once, and stops no run."""
    try:
        how(progress, over, turns)
    except HyLoRADAError as error:
        LOG.warning("no progress is told: %s", error)


def _log(progress: Progress, over: Event, turns: Shared | None) -> None:
    while not over.wait(MINUTE if turns is None else MOMENT):
        if turns is None or turns.is_due():
            LOG.info("%s", progress.standing().words)


def _show(progress: Progress, over: Event, turns: Shared | None) -> None:
    bar = tqdm(bar_format="{percentage:3.0f}%|{bar:16}| {desc}", dynamic_ncols=True)
    with logging_redirect_tqdm(), bar:
        is_over = False
        while not is_over:
            is_over = over.wait(MOMENT)  # and once more, so that what stays says the end
            standing = progress.standing()
            bar.total, bar.n, bar.desc = standing.total, standing.done, standing.words
            bar.refresh()
