"""Writing without half-written results: everything is made beside its place and renamed into it."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hylorada.errors import HyLoRADAError


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or folder to; it takes the place of `target` when all went well.

    A link stays, and what it stands for is written. What is neither file nor folder, such as /dev/stdout or a pipe,
    stays too, and is written to.

    Raises:
        HyLoRADAError: the disk refuses, what the path leads through is no folder, or a folder was to take the place of
            such a thing.
    """
    target = Path(target)
    if target.is_symlink():
        target = target.resolve()
    if _is_special(target):
        with TemporaryDirectory() as folder:
            yield Path(folder) / "made"
            _pass_on(Path(folder) / "made", target)
        return
    make_folder(target.parent)
    beside = target.parent / f".{target.name}.{os.getpid()}.part"
    discard_remains(target)
    try:
        yield beside
        if beside.is_dir() and target.is_dir():
            _swap(beside, target)
        else:
            beside.replace(target)
    except FileNotFoundError:
        raise  # something else was missing: not a matter of writing
    except OSError as error:
        if error.filename is not None and not _is_at(error.filename, target.parent):
            raise  # what was read could not be, or another place is full
        raise HyLoRADAError(f"{target} could not be written: {error.strerror or error}; it is as it was.") from error
    finally:
        discard(beside)


def make_folder(folder: Path) -> None:
    """Make a folder that is to be written to, and those that it lies in, where they are not there.

    Raises:
        HyLoRADAError: it cannot be made, and what is in its way.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        check_output(folder, folder=True)
        raise HyLoRADAError(f"{folder} could not be made ({error.strerror or error}); name another place.") from error


def check_output(target: Path, folder: bool) -> None:
    """Hold a place to what is to be written there, before the work is done. folder: a folder, not a file.

    Raises:
        HyLoRADAError: it is of the other kind, or lies in what is no folder or may not be written to.
    """
    target = Path(target).resolve()
    if os.path.isdir(target) if not folder else os.path.exists(target) and not os.path.isdir(target):
        raise HyLoRADAError(f"{target} is {'no' if folder else 'a'} folder; name a {'folder' if folder else 'file'}.")
    there = next(path for path in (target, *target.parents) if os.path.exists(path))
    if there != target and not there.is_dir():
        raise HyLoRADAError(f"{there} is no folder, so {target.name} cannot lie in it; name another place.")
    if not os.access(there if there.is_dir() or _is_special(there) else there.parent, os.W_OK):
        raise HyLoRADAError(f"{there} may not be written to; allow it, or name another place.")


def check_only(folder: Path, names: Collection[str], kind: str) -> None:
    """Hold a folder that is to be replaced to the files that one of its kind has.

    Raises:
        HyLoRADAError: it holds anything else.
    """
    others = sorted({path.name for path in folder.iterdir()} - set(names)) if folder.is_dir() else []
    if others:
        raise HyLoRADAError(f"{folder} holds other things ({others[0]}); give a new folder, or an earlier {kind}.")


def discard(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; another process may be at that too."""
    while path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def retire(folder: Path) -> None:
    """Remove a folder that is whole at every moment or not there: it is renamed first.

    What a killed process leaves of it goes with the next `discard_remains(folder)`.
    """
    discard(folder.rename(folder.parent / f".{folder.name}.{os.getpid()}.gone"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, so that equal values are equal files."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def as_new(path: Path) -> None:
    """Give a file the mode that a new one gets in its folder; some libraries write what only its owner may read."""
    probe = path.with_name(f".{path.name}.{os.getpid()}.mode")
    probe.touch()
    path.chmod(probe.stat().st_mode & 0o777)
    probe.unlink()


def _is_at(path: str | bytes | int, folder: Path) -> bool:
    """Tell whether a path that an error names lies in a folder."""
    return not isinstance(path, int) and Path(os.fsdecode(path)).absolute().is_relative_to(folder.absolute())


def _swap(beside: Path, target: Path) -> None:
    """Put a new folder where a filled one stands, which no single rename can; the old one comes back on failure."""
    retired = target.parent / f".{target.name}.{os.getpid()}.old"
    target.rename(retired)
    try:
        beside.rename(target)
    except OSError:
        retired.rename(target)
        raise
    discard(retired)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _pass_on(made: Path, target: Path) -> None:
    """Write the bytes of a file to a device, a pipe or the like."""
    if made.is_dir():
        raise HyLoRADAError(f"{target} is no folder, and a folder is wanted there; name another place.")
    with made.open("rb") as source, target.open("wb", buffering=0) as sink:
        shutil.copyfileobj(source, sink)


def discard_remains(target: Path) -> None:
    """Remove what killed processes left half-written beside `target`; bring back what one had just moved away."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        pid, _, kind = left.name.removeprefix(f".{target.name}.").partition(".")
        if (
            kind not in ("part", "old", "gone")
            or not pid.isdigit()
            or (int(pid) != os.getpid() and _is_alive(int(pid)))
        ):
            continue
        if kind == "old" and not target.exists():
            left.rename(target)
        else:
            discard(left)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks, and does nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def work_of(folder: Path) -> Path:
    """Return the hidden folder beside `folder` in which it is being made over a longer time."""
    return folder.parent / f".{folder.name}.work"
