"""Where a result comes from: a digest of the code it depends on, versions, hardware and git state. Needs no torch."""

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import hylorada
from hylorada.study.plan.digest import PACKAGE
from hylorada.study.plan.record import Commit

VERSIONED = ("torch", "transformers", "accelerate", "safetensors", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return versions, processor, cores, threads and operating system, as plain values."""
    own = {"python": platform.python_version(), PACKAGE: hylorada.__version__}
    return {
        "versions": own | {name: version(name) for name in VERSIONED},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def git_state(root: Path) -> Commit:
    """Return commit and whether tracked files differ from it; both None outside a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                timeout=20,
                encoding="utf-8",
                errors="replace",
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return Commit(commit=ask("rev-parse", "HEAD"), changed=None if changed is None else bool(changed))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def add_up_in_one_order() -> None:
    """Let a graphics card add up in the same order every time, so that equal runs are equal there too.

    Where torch has no such way it warns. cuBLAS reads its setting before its first product.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


def device_name() -> str:
    """Return the accelerator's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak_memory_gib() -> dict[str, float]:
    """Return the largest memory of this process so far, and of the accelerator if there is one, in GiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform != "darwin" else 1024)
    peak = {"process": kib / 2**20}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated() / 2**30
    return peak
