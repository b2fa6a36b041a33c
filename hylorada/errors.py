"""The one kind of error a user can cause: its text says what was given, what is allowed and what to do."""

import difflib
from collections.abc import Iterable
from typing import Any


class HyLoRADAError(ValueError):
    """Bad input or a missing thing; the command line prints it on one line and exits with status 2."""


class BusyError(HyLoRADAError):
    """Another process is at work on what was asked for."""


class UnknownSettingError(HyLoRADAError, TypeError):
    """A keyword that what is called does not take; a TypeError too, as Python itself raises there."""


def near(name: str, allowed: Iterable[str]) -> str:
    """Say which names are allowed, nearest first, for the end of an error message."""
    allowed = sorted(allowed)
    close = nearest(name, allowed)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{meant}allowed: {', '.join(allowed)}"


def nearest(name: str, allowed: Iterable[str]) -> list[str]:
    """Return up to three names that one may be a misspelling of, the nearest first."""
    return difflib.get_close_matches(name, sorted(allowed), n=3)


def shown(value: Any) -> str:
    """Return how a value looks, on one line of about 40 signs at most."""
    try:
        line = " ".join(repr(value).split())
    except ValueError:  # Python writes out no longer ones
        line = "a number of more than 4,300 digits"
    return line if len(line) <= 40 else f"{line[:40]}..."
