"""Words that sentences share: lists, counts, signs, shares, and what the text calls stages and sources."""

from typing import Any

from hylorada.study.paper.latex import escape, fixed
from hylorada.study.plan.ablation import STAGES
from hylorada.study.sources.registry import HubSource, LocalSource

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def short_name(source: Any) -> str:
    """Return what the text calls a base model or a corpus, in LaTeX."""
    return long_name(source).split(",")[0]


def long_name(source: Any) -> str:
    """Return what a base model or a corpus is, in a clause that begins with its name, in LaTeX."""
    match source:
        case HubSource():
            part = f":{source.configuration}" if source.configuration else ""
            return escape(f"{source.repository}{part}, {source.description}")
        case LocalSource():
            return escape(f"{source.folder.name}, {source.description}")
    return escape(source.description)


def signed(value: float) -> str:
    """Return LaTeX of a percentage."""
    return rf"{fixed(value)}\,\%"


def joined(parts: object) -> str:
    """Return a list in words."""
    *most, last = parts  # type: ignore[misc]
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int) -> str:
    """Return a small number as a word."""
    return COUNTS[number] if number < len(COUNTS) else str(number)


def stage_name(stage: str) -> str:
    """Return what the text calls a stage, in LaTeX."""
    return escape(STAGES[stage].in_words)


def share_text(share: float) -> str:
    """Return LaTeX of a share as a percentage: whole from ten percent on."""
    return rf"{fixed(100 * share, 0 if abs(share) >= 0.1 else 1)}\,\%"
