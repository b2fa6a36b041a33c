"""Install a lock file into the environment that runs this: `python tools/install.py requirements.lock`.

uv takes seconds for what pip takes minutes for, but does not read pip's configuration, so that this passes on where it
looks for packages. Where uv cannot be had, or cannot do it, pip installs the same: the lock names exact versions.
"""

import subprocess
import sys

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
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        print(f"{lock} is installed, by uv")
        return
    print("uv cannot install this here, so pip does, in a few minutes")
    sys.exit(subprocess.run([*pip, "install", "--requirement", lock]).returncode)


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
