"""What can happen to a file, by name: what its bytes become; None stands for a folder in its place."""

from collections.abc import Callable
from pathlib import Path


def flip(content: bytes) -> bytes:
    """Change one bit, two thirds into the file."""
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes] | None] = {
    "flip": flip,
    "truncate": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "folder": None,
    "{}": lambda content: b"{}",
    "[]": lambda content: b"[]",
    "null": lambda content: b"null",
    "bad UTF-8": lambda content: b"\xff\xfe\x80" + content,
}


def do_damage(file: Path, damage: str) -> None:
    """Let it happen to a file."""
    if (change := DAMAGES[damage]) is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(change(file.read_bytes()))
