"""A fetched folder holds what it held when it was made: every file is held to its digest in `source.json`.

Size and time of change tell whether a file is still the one that was read; its bytes are read once a process.
"""

from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.files import sha256_of
from hylorada.reading import read_json

SOURCE_FILE = "source.json"
_known: dict[Path, tuple[tuple[int, int, int], str]] = {}  # of each file: how it looked, and its digest then


def hold_fetched(folder: Path) -> dict[str, Any]:
    """Return what `source.json` says of a fetched model or corpus, once every file of the folder is what it says.

    Raises:
        HyLoRADAError: there is no such file, or a file was changed, taken away or added since.
    """
    folder = Path(folder)
    if not (folder / SOURCE_FILE).is_file():
        raise HyLoRADAError(f"{folder} holds nothing that was fetched; run `hylorada fetch` first.")
    made = read_json(folder / SOURCE_FILE, identity=dict, files=dict)
    again = "remove the folder and run `hylorada fetch`"
    for name, digest in made["files"].items():
        if not (folder / name).is_file():
            raise HyLoRADAError(f"{folder} has lost {name} since it was fetched; {again}.")
        if digest_once(folder / name) != digest:
            raise HyLoRADAError(f"{folder / name} was changed after it was fetched; {again}.")
    there = {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."}
    if added := sorted(there - {SOURCE_FILE} - set(made["files"])):
        raise HyLoRADAError(f"{folder} has {added[0]} beside what was fetched; take it away, or {again}.")
    return made


def is_whole(folder: Path, identity: dict[str, Any]) -> bool:
    """Tell whether a folder holds, unchanged, what was fetched under an identity."""
    try:
        return hold_fetched(folder)["identity"] == identity
    except HyLoRADAError:
        return False


def digest_once(path: Path) -> str:
    """Return the SHA-256 of a file, from memory while its size, time of change and place on the disk stay."""
    path = Path(path)
    state = path.stat()
    look = state.st_size, state.st_mtime_ns, state.st_ino
    if path not in _known or _known[path][0] != look:
        _known[path] = look, sha256_of(path)
    return _known[path][1]
