"""Write requirements.lock: one exact version for every package that pyproject.toml reaches, all extras included.

The lock is a list of `name==version` with the hashes of all files that the package index has of it, without addresses
or build tags, so that the same file serves a laptop, a cluster with its own mirror and a GPU machine. torch has no
hash: there `torch==2.13.0` is the registry's CUDA build, with the CUDA packages that belong to it, here a CPU build.
requirements.txt is the same list without hashes, for pip in one call and for conda. Run `python tools/lock.py` after a
change of pyproject.toml, in an environment that holds the `dev` extra and sees the CPU build of torch.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from install import UV

ROOT = Path(__file__).resolve().parent.parent
LOCK, PLAIN = ROOT / "requirements.lock", ROOT / "requirements.txt"
PIP_COMPILE = [
    *(sys.executable, "-m", "piptools", "compile", "pyproject.toml"),
    *("--all-extras", "--all-build-deps", "--strip-extras"),
    *("--unsafe-package", "pip"),  # pip stays the machine's own; setuptools is pinned to build the editable install
    *("--no-annotate", "--no-header", "--quiet"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
]
HEADER = """\
# Every package of every extra, for `{command}`. Made by tools/lock.py (pip-compile over
# pyproject.toml, local build tags such as "+cpu" cut off) under Python {python}; edit pyproject.toml, not this file.
"""
WITHOUT_HASH = """\
# torch has no hash, for each machine has a build of its own; pip by itself takes no such list, but requirements.txt.
"""
BUILT_APART = "torch"
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


def with_hashes(pins: list[str], scratch: Path) -> list[str]:
    """Return the pins, each but that of BUILT_APART followed by the SHA-256 of every file that the index has of it."""
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", UV], check=True)
    (scratch / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", str(scratch / "pins.txt"), "--python", sys.executable]
    command += ["--no-deps", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    hashed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout
    lines = re.findall(r"^\S.*(?:\n .*)*", hashed, flags=re.MULTILINE)
    return [line.split(" \\")[0] if line.startswith(f"{BUILT_APART}==") else line for line in lines]


def main() -> None:
    """Resolve, check, and replace requirements.lock and requirements.txt."""
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        found = Path(scratch) / "found.txt"
        if PLAIN.exists() and "--upgrade" not in sys.argv[1:]:
            found.write_text(
                PLAIN.read_text(encoding="utf-8"), encoding="utf-8"
            )  # pip-compile keeps the versions it finds here wherever they still fit
        subprocess.run([*PIP_COMPILE, *sys.argv[1:], "--output-file", str(found)], cwd=ROOT, check=True)
        plain = pins(found.read_text(encoding="utf-8"))
        write(plain, with_hashes(plain, Path(scratch)))
    print(f"requirements.lock: {len(plain)} packages")


def write(plain: list[str], hashed: list[str]) -> None:
    """Replace both lists."""
    python = "{}.{}".format(*sys.version_info)
    for target, command, lines, more in (
        (LOCK, "python tools/install.py requirements.lock", hashed, WITHOUT_HASH),
        (PLAIN, "pip install -r requirements.txt", plain, ""),
    ):
        new = target.with_suffix(".new")
        new.write_text(HEADER.format(command=command, python=python) + more + "\n".join(lines) + "\n", encoding="utf-8")
        os.replace(new, target)


if __name__ == "__main__":
    main()
