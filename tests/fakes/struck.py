"""Work in a process of its own, which dies or finds the disk full at one of its file-system events.

An event is what Python is about to ask of the system that changes something below a folder. Events are numbered from 1.
"""

import errno
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
GROWS = ("open", "os.mkdir", "os.link", "os.symlink")  # what a full disk refuses
CHANGES = (*GROWS, "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime")
HANGS = 120  # seconds after which a process is ended
FOREVER = resource.RLIM_INFINITY


@dataclass(frozen=True)
class Outcome:
    """How it ended: exit status (negative: by a signal), what it said, and its events."""

    status: int
    out: str
    err: str
    events: int

    @property
    def is_told(self) -> bool:
        """Whether it ended as bad input does: exit status 2, and one line that says why."""
        return self.status == 2 and self.err.splitlines()[-1:] != [] and "Traceback" not in self.err


def struck(work: Callable[[], int | None], folder: Path, at: int | None = None, kind: str = "kill") -> Outcome:
    """Call `work` in a forked process that is struck at event `at` below `folder`; None: never.

    kind: "kill" ends it as `kill -9` does; from there on "full" lets no file grow, and "no space" none begin.
    """
    pipes = [os.pipe() for _ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, which wait where this is used
        pid = os.fork()
    if pid == 0:
        _be_struck(work, _Strike(str(folder), at, kind, pipes[2][1]), *(end for _, end in pipes[:2]))
    for _, end in pipes:
        os.close(end)
    with ThreadPoolExecutor(3) as readers:
        out, err, events = readers.map(_all_of, [end for end, _ in pipes])
    _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), out, err, len(events))


def _all_of(end: int) -> str:
    with open(end, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _be_struck(work: Callable[[], int | None], strike: "_Strike", out: int, err: int) -> None:
    """Do the work in the child, and end it without what Python does at its end."""
    status = 1
    try:
        signal.alarm(HANGS)
        os.dup2(out, 1), os.dup2(err, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.addaudithook(strike)
        try:
            status = work() or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        os._exit(status)


@dataclass
class _Strike:
    """An audit hook that counts events into a pipe and strikes."""

    folder: str
    at: int | None
    kind: str
    tell: int
    count: int = 0

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in CHANGES or not self._is_ours(event, arguments):
            return
        self.count += 1
        os.write(self.tell, b".")
        if self.at is None or self.count < self.at:
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "full" and self.count == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif self.kind == "no space" and event in GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])

    def _is_ours(self, event: str, arguments: tuple) -> bool:
        path = arguments[0]
        if event == "open" and (isinstance(path, int) or not arguments[2] & WRITES):
            return False
        path = os.fsdecode(path)
        return path.startswith(self.folder) or not os.path.isabs(path)  # within a folder that is being removed
