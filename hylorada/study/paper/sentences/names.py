"""What the text calls stages, sources, tables and rows."""

from typing import Any

from hylorada.study.plan.ablation import STAGES
from hylorada.study.sources.registry import HubSource, LocalSource


def short_name(source: Any) -> str:
    """Return what the text calls a base model or a corpus."""
    return long_name(source).split(",")[0]


def long_name(source: Any) -> str:
    """Return what a base model or a corpus is, in a clause that begins with its name."""
    match source:
        case HubSource():
            part = f":{source.configuration}" if source.configuration else ""
            return f"{source.repository}{part}, {source.description}"
        case LocalSource():
            return f"{source.folder.name}, {source.description}"
    return source.description


def stage_name(stage: str) -> str:
    """Return what the text calls a stage."""
    return STAGES[stage].in_words
