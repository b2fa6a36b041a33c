"""This checkout, its scales as they are written, and Python in a process of its own."""

import subprocess
import sys
from typing import Any

import yaml

from hylorada.study.checkout import project_root

ROOT = project_root()
CPU_BENCHMARK = ROOT / "benchmarks" / "cpu.json"


def scale_file(name: str) -> dict[str, Any]:
    """Return what config/<name>.yaml says, to be changed and written as a scale of a test's own."""
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())


def printed(program: str) -> str:
    """Return what a program prints in a process of its own, where nothing is imported yet."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
