"""Install a lock file into the environment that runs this: `python tools/install.py requirements.lock`.

uv takes seconds for what pip takes minutes for, but does not read pip's configuration, so that this passes on where it
looks for packages. Where uv cannot be had, or cannot do it, pip installs the same: the lock names exact versions. Both
hold a file to its hash, where the lock has one for it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

UV = "uv>=0.9"
OPTIONS = {  # of pip, as a variable or in one of its files, and what uv calls them
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}


def main() -> None:
    """Install by uv, or by pip."""
    pip, lock = [sys.executable, "-m", "pip"], sys.argv[1]
    subprocess.run([*pip, "install", "--quiet", UV], capture_output=True)
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    uv += ["--index-strategy=unsafe-best-match"]  # several indexes are taken as one, as pip takes them
    listed = subprocess.run(
        [*pip, "config", "list"], capture_output=True, text=True, encoding="utf-8", errors="replace"
    ).stdout
    done = subprocess.run(
        [*uv, *options(listed), "--requirement", lock],
        env=certificate(listed) | os.environ,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        print(f"{lock} is installed, by uv")
        return
    print("uv cannot install this here, so pip does, in a few minutes")
    for arguments in by_pip(Path(lock).read_text(encoding="utf-8")):
        if status := subprocess.run([*pip, "install", *arguments]).returncode:
            sys.exit(status)


def certificate(listed: str) -> dict[str, str]:
    """Return pip's file of certificates, from what `pip config list` says, as the variable that tells uv of it."""
    files = [
        value.strip("'\"")
        for name, _, value in (line.partition("=") for line in listed.splitlines())
        if name.endswith(".cert")
    ]
    return {"SSL_CERT_FILE": files[-1]} if files else {}


def by_pip(lock: str) -> Iterator[list[str]]:
    """Yield what pip is told, one call after the other: it holds either all packages of a call to hashes or none."""
    lines = [line for line in lock.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    hashed = [line for line in lines if "--hash=" in line]
    if hashed:
        with TemporaryDirectory() as folder:
            (Path(folder) / "hashed.txt").write_text("\n".join(hashed), encoding="utf-8")
            yield ["--no-deps", "--requirement", str(Path(folder) / "hashed.txt")]
    if bare := [line for line in lines if line not in hashed]:
        yield bare  # with what belongs to each where it is built for a graphics card


def options(listed: str) -> list[str]:
    """Return pip's sources as options of uv, from what `pip config list` says: lines like global.find-links='/x /y'."""
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        scope, _, key = name.rpartition(".")
        if key in OPTIONS and (key not in found or scope == ":env:"):  # a variable takes the place of a file
            found[key] = value.strip("'\"").replace("\\n", " ").split()
    return [word for key, values in found.items() for value in values for word in (OPTIONS[key], value)]


if __name__ == "__main__":
    main()
