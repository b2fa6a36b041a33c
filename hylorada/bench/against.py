"""This code beside older code: two processes, asked in turn, so that a noisy machine tells the truth about their ratio.

Each has the memory allocator that a person gets who uses it: this one's process what the command line chose, the older
one's what it always had. PEFT, in the other tables, shares this process and so its allocator.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import IO, Any

import torch

import hylorada
from hylorada.allocator import KEEPING, in_use
from hylorada.bench.competitors import Setting
from hylorada.bench.timing import Seconds, interleaved, ratio
from hylorada.errors import HyLoRADAError

NOW, BEFORE = "this code", "the code before"
PARTS = {  # what both are asked for, by kind and method, as `worker.py` knows them; and whether ours compiles pieces
    "a training step of rsLoRA": ("step", "rslora", False),
    "a training step of DoRA": ("step", "dora", False),
    "a training step of HyLoRADA": ("step", "hylorada", False),
    "a training step of HyLoRADA, compiled pieces": ("step", "hylorada", True),
    "a scored window of the base": ("window", "base", False),
    "a scored window of HyLoRADA": ("window", "hylorada", False),
    "a scored window of HyLoRADA, compiled pieces": ("window", "hylorada", True),
    "generation by the base": ("generation", "base", False),
    "generation by rsLoRA": ("generation", "rslora", False),
    "generation by DoRA": ("generation", "dora", False),
    "generation by HyLoRADA": ("generation", "hylorada", False),
}


@dataclass(frozen=True)
class Worker:
    """A process that runs the package of one folder."""

    process: subprocess.Popen
    told: IO[str]  # what it writes to stderr

    def ask(self, kind: str, method: str, pieces: bool = False, peak: bool = False) -> float:
        """Return the seconds of one call, or with `peak` the MiB that it allocates at most (HyLoRADAError: it died)."""
        try:
            self.tell({"kind": kind, "method": method, "pieces": pieces, "peak": peak})
            return float(json.loads(self.process.stdout.readline()))
        except (OSError, ValueError) as error:
            self.process.kill()
            self.process.wait()
            self.told.seek(0)
            reason = self.told.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise HyLoRADAError(f"a process of the comparison ended: {reason[0][:300]}") from error

    def tell(self, values: dict[str, Any]) -> None:
        """Send a line."""
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()


def before(setting: Setting, told: Callable[[int], None]) -> list[dict[str, Any]]:
    """Steps, windows and generations of this code against those of an older checkout, each as it is used."""
    here = Path(hylorada.__file__).parents[1]
    with worker(setting, here) as ours, worker(setting, Path(setting.against), untouched=True) as theirs:
        rows = []
        for name, (kind, method, pieces) in PARTS.items():
            sides = {NOW: partial(ours.ask, kind, method, pieces), BEFORE: partial(theirs.ask, kind, method)}
            seconds = measured(sides, setting.rounds, told)
            rows.append({"name": name, "milliseconds": 1e3 * median(seconds[NOW]), "against": BEFORE})
            rows[-1]["ratio"] = ratio(seconds, NOW, BEFORE)
            if kind == "step":
                peaks = {side: ask(peak=True) for side, ask in sides.items()}
                rows[-1] |= {"peak_mib": peaks[NOW], "memory_ratio": peaks[NOW] / peaks[BEFORE]}
        return rows


def measured(sides: dict[str, Callable[[], float]], rounds: int, told: Callable[[int], None]) -> Seconds:
    """Return the seconds that each side's own clock gave, round by round."""
    seconds: Seconds = {name: [] for name in sides}
    calls = {name: lambda name=name: seconds[name].append(sides[name]()) for name in sides}
    interleaved(calls, rounds, told)
    return {name: each[1:] for name, each in seconds.items()}  # the first round loads the model


def check_against(folder: Path) -> str:
    """Return the commit of a checkout of this package (HyLoRADAError where a folder holds none)."""
    if not (folder / "hylorada" / "baselines.py").is_file():
        raise HyLoRADAError(f"--against {folder} is no checkout of hylorada; make one with `git worktree add`.")
    ask = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    told = subprocess.run(ask, capture_output=True, text=True, encoding="utf-8", errors="replace")
    return told.stdout.strip() if told.returncode == 0 else "unknown"


@contextmanager
def worker(setting: Setting, folder: Path, untouched: bool = False) -> Iterator[Worker]:
    """Start a process that runs the package of a folder. untouched: nothing is preloaded into it."""
    environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "HF_HUB_OFFLINE": "1"}
    if untouched:
        environment.pop("LD_PRELOAD", None)
    keep = not untouched and in_use() == KEEPING
    first = {name: getattr(setting, name) for name in ("model", "dtype", "tokens", "rank", "targets")}
    program = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]  # -P: only PYTHONPATH says what it is
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with (
        TemporaryFile("w+", encoding="utf-8") as told,
        subprocess.Popen(program, env=environment, stderr=told, **pipes) as process,
    ):
        started = Worker(process, told)
        try:
            started.tell(first | {"threads": torch.get_num_threads(), "keep": keep, "wide": not untouched})
            yield started
        finally:
            process.kill()
