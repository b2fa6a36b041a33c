"""Write requirements.lock: one exact version for every package that pyproject.toml reaches, all extras included.

The lock is a flat list of `name==version` without addresses, hashes or build tags, so that the same file serves a
laptop, a cluster with its own package registry and a GPU machine: there `torch==2.13.0` is the registry's own CUDA
build and brings the CUDA packages that belong to it. Run `python tools/lock.py` after a change of pyproject.toml,
in an environment that holds the `dev` extra and sees the CPU build of torch.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PIP_COMPILE = [
    *(sys.executable, "-m", "piptools", "compile", "pyproject.toml"),
    *("--all-extras", "--all-build-deps", "--strip-extras"),
    *("--unsafe-package", "pip"),  # pip stays the machine's own; setuptools is pinned to build the editable install
    *("--no-annotate", "--no-header", "--quiet"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
]
HEADER = """\
# Every package of every extra, for `pip install -r requirements.lock`. Made by tools/lock.py (pip-compile over
# pyproject.toml, local build tags such as "+cpu" cut off) under Python {python}; edit pyproject.toml, not this file.
"""
ACCELERATOR = re.compile(r"nvidia|cuda|triton")


def pins(compiled: str) -> list[str]:
    """Reduce pip-compile's text to sorted `name==version` lines; raises SystemExit on what must not be in the lock."""
    lines = [line.split("#")[0].strip() for line in compiled.splitlines()]
    versions = sorted(re.sub(r"\+\w[\w.]*$", "", line) for line in lines if line)
    for line in versions:
        if not re.fullmatch(r"[\w.-]+==[\w.!]+", line):
            raise SystemExit(f"lock: {line!r} is not of the form name==version; look at the requirement it comes from")
        if ACCELERATOR.search(line):
            raise SystemExit(
                f"lock: {line!r} belongs to a GPU build of torch; run this where pip finds the CPU build of torch "
                "(for example with PIP_FIND_LINKS set to a folder that holds its wheel)"
            )
    return versions


def main() -> None:
    """Resolve, check and replace requirements.lock in one step."""
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        found = Path(scratch) / "found.txt"
        if LOCK.exists() and "--upgrade" not in sys.argv[1:]:
            found.write_text(
                LOCK.read_text(encoding="utf-8"), encoding="utf-8"
            )  # pip-compile keeps the versions it finds here wherever they still fit
        subprocess.run([*PIP_COMPILE, *sys.argv[1:], "--output-file", str(found)], cwd=ROOT, check=True)
        python = "{}.{}".format(*sys.version_info)
        lines = pins(found.read_text(encoding="utf-8"))
        found.write_text(HEADER.format(python=python) + "\n".join(lines) + "\n", encoding="utf-8")
        os.replace(found, LOCK)
    print(f"requirements.lock: {len(lines)} packages")


if __name__ == "__main__":
    main()
