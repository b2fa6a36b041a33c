"""Kills and full disks: a command that is struck at an event, and done again, ends in the bytes of one that is not."""

from collections.abc import Iterator
from functools import partial

from workshop import Case, Workshop

KINDS = {"kill": "killed", "full": "disk full"}


def strikes(workshop: Workshop, every: int) -> Iterator[Case]:
    """Yield a case for every verb, kind, and so many of its events."""
    for verb, command in workshop.commands.items():
        workshop.clear(verb)
        untouched = workshop.do(command)
        whole = workshop.left()
        if untouched.status != 0:
            raise SystemExit(f"soak: {verb} did not do: {untouched.err}")
        for kind, said in KINDS.items():
            for at in range(1, untouched.events + 1, every):
                yield f"{verb}, {said}", str(at), partial(_struck, workshop, verb, at, kind, whole)


def _struck(workshop: Workshop, verb: str, at: int, kind: str, whole: dict[str, str]) -> str:
    command = workshop.commands[verb]
    workshop.clear(verb)
    first = workshop.do(command, at, kind)
    if kind == "kill" and first.status != -9:
        return f"ended with {first.status} before it was killed"
    if kind == "full" and not first.is_told and not (first.status == 0 and workshop.left() == whole):
        return f"status {first.status}: {_last_line(first.err)}"
    again = workshop.do(command)
    if again.status != 0:
        return f"the second time status {again.status}: {_last_line(again.err)}"
    if differing := {name for name, _ in workshop.left().items() ^ whole.items()}:
        return f"the second time other bytes: {sorted(differing)[0]}"
    return ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing said"])[-1]
