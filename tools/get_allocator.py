"""Put tcmalloc beside this Python, where neither it nor the system has one: `python tools/get_allocator.py`.

`make setup` calls this. It takes Debian's or Ubuntu's package by apt-get, which checks the signature, and unpacks it
without being root: the library and its licence (gperftools, BSD-3-Clause) go to <sys.prefix>/lib, where
`hylorada.allocator` looks first. Set-up does not fail for it: where it cannot be had, one line says so.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hylorada.allocator import LIBRARY, find_tcmalloc, has_glibc
from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside

PACKAGES = ("libtcmalloc-minimal4", "libtcmalloc-minimal4t64")  # the second since Debian 13 and Ubuntu 24.04
PATIENCE = 120  # seconds for one command
NETWORK = [
    *("-o", "Acquire::Retries=0"),
    *(word for kind in ("http", "https") for word in ("-o", f"Acquire::{kind}::Timeout=15")),  # seconds
]


def get_tcmalloc(folder: Path) -> Path:
    """Download, unpack and try the library; put it and its licence into a folder, and return its path there.

    Raises:
        HyLoRADAError: one of these steps failed; nothing of the library is in the folder then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        package = _download(Path(scratch))
        _call("dpkg-deb", "--extract", package, "unpacked", folder=Path(scratch))
        unpacked = Path(scratch, "unpacked")
        library, licence = next(unpacked.rglob(LIBRARY), None), next(unpacked.rglob("copyright"), None)
        if library is None or licence is None:
            raise HyLoRADAError(f"{package} holds no {LIBRARY}, or no licence")
        _call(sys.executable, "-c", "", folder=Path(scratch), environment={"LD_PRELOAD": str(library)})
        for source, target in ((licence, folder / f"{LIBRARY}.copyright"), (library, folder / LIBRARY)):
            with written_beside(target) as beside:
                shutil.copyfile(source, beside)
    return folder / LIBRARY


def _download(folder: Path) -> str:
    """Get the package by one of its names, by the system's lists or else by lists of our own; return its file."""
    own = ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache", "-o", "APT::Sandbox::User="]
    for options in ([], own):  # a system's own lists may be absent or old, and only root may renew them
        if options:
            for part in ("lists/partial", "cache/archives/partial"):
                (folder / part).mkdir(parents=True)
            _call("apt-get", *NETWORK, *options, "update", folder=folder)
        for name in PACKAGES:
            try:
                _call("apt-get", *NETWORK, *options, "download", name, folder=folder)
                return next(folder.glob("*.deb")).name
            except HyLoRADAError as error:
                failed = error
    raise failed


def _call(*command: str, folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command in a folder, silently; a library that cannot be preloaded fails it too.

    Raises:
        HyLoRADAError: it is not there, fails or takes too long, with its last line.
    """
    environment = os.environ | {"LC_ALL": "C"} | (environment or {})
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HyLoRADAError(str(error)) from error
    if done.returncode or "cannot be preloaded" in done.stderr:
        raise HyLoRADAError((done.stderr.strip().splitlines() or [f"{command[0]} fails"])[-1])


def main() -> None:
    """Get the library unless it is there, and say in one line what came of it."""
    if not has_glibc():
        print("tcmalloc is of no use here: it takes glibc's place, and this system has none.")
    elif found := find_tcmalloc():
        print(f"{found} is there.")
    else:
        try:
            print(get_tcmalloc(Path(sys.prefix, "lib")))
        except HyLoRADAError as error:
            reason = " ".join(str(error).split())
            print(f"No tcmalloc, with which training on a processor is faster ({reason}); install {PACKAGES[0]}.")


if __name__ == "__main__":
    main()
