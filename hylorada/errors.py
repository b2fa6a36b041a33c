"""The one kind of error a user can cause: its text says what was given, what is allowed and what to do."""

import difflib
from collections.abc import Iterable


class HyLoRADAError(ValueError):
    """Bad input or a missing thing; the command line prints it on one line and exits with status 2."""


class UnknownSettingError(HyLoRADAError, TypeError):
    """A keyword that a constructor has no setting for; a TypeError too, as Python itself raises there."""


def near(name: str, allowed: Iterable[str]) -> str:
    """Say which names are allowed, nearest first, for the end of an error message."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=3)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{meant}allowed: {', '.join(allowed)}"
