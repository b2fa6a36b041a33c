"""What the table of a study shows beside perplexity and effect: columns as rows of data, each read off one record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hylorada.config import POOLED_DESIGNS
from hylorada.study.plan.record import Record
from hylorada.study.plan.specification import LinesText
from hylorada.study.records.records import Records

Value = float | str | None  # None where a record has no such number


@dataclass(frozen=True)
class Column:
    """head: its title. of: the value of one record; numbers are averaged over seeds. decimals: as printed.

    change: shown as its change against the row that a row is held to, in "percent" or as a "difference".
    """

    head: str
    of: Callable[[Record], Value]
    decimals: int = 2
    change: Literal["percent", "difference"] | None = None


def values(records: Records, name: str, against: Mapping[str, str | None]) -> dict[str, Value]:
    """Return a column by stage: the mean over seeds of a number, or the word that all seeds share.

    against: the row that each is held to.
    """
    column = COLUMNS[name]
    by_stage = {
        stage: _over_seeds([column.of(records.record(stage, s)) for s in records.seeds(stage)])
        for stage in records.stages
    }
    if column.change is None:
        return by_stage
    return {stage: _change(by_stage, stage, against[stage], column.change) for stage in by_stage}


def of_lines(record: Record, number: str) -> Value:
    """Return a number of the published lines: they are the main text of a published protocol, else a measure."""
    if isinstance(record.specification.evaluation, LinesText):
        return record.results[number]
    return record.measures.lines.results[number] if record.measures.lines else None


def _over_seeds(each: list[Value]) -> Value:
    numbers = [value for value in each if isinstance(value, int | float)]
    return float(np.mean(numbers)) if len(numbers) == len(each) else each[0]


def _change(by_stage: dict[str, Value], stage: str, against: str | None, kind: str) -> Value:
    one, other = by_stage[stage], by_stage[against] if against else None
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return None
    return 100 * (one / other - 1) if kind == "percent" else one - other


def _steps(record: Record) -> Value:
    return record.training.steps if record.training else None


def _end(record: Record) -> Value:
    return record.measures.end_token.mean if record.measures.end_token else None


def _retrieved(kind: str) -> Callable[[Record], Value]:
    def read(record: Record) -> Value:
        return record.measures.retrieval[kind].share if record.measures.retrieval else None

    return read


def _percent(of: Callable[[Record], Value]) -> Callable[[Record], Value]:
    def scaled(record: Record) -> Value:
        return None if (value := of(record)) is None else 100 * value

    return scaled


def _is_causal(record: Record) -> str:
    adapter = record.specification.adapter
    pools = adapter is not None and adapter.landmark_enabled and adapter.landmark_design in POOLED_DESIGNS
    return "no" if pools and adapter.landmark_pooling == "sequence" else "yes"


def _fall_over_window(record: Record) -> Value:
    """By how many nats the same tokens are easier in the last part of the window than in the first."""
    shifts = record.measures.shifts
    return None if shifts is None else shifts.nll[0] - shifts.nll[-1]


def farthest_boundary(record: Record) -> Value:
    """How many tokens the farthest learned boundary lies from its start, where boundaries are even."""
    learned = record.learned.get("landmark.boundaries")
    if learned is None:
        return None
    moved = np.sort(learned) - np.linspace(0, 1, len(learned) + 2)[1:-1]
    return float(np.abs(moved).max() * record.specification.adapter.max_positions)


def _still(kind: str) -> Callable[[Record], Value]:
    """The share of a part's trained numbers that training left where they began, in percent."""

    def read(record: Record) -> Value:
        moved = record.moved.get(kind)
        return None if moved is None else 100 * (1 - moved.changed / moved.entries)

    return read


COLUMNS: dict[str, Column] = {
    "published_metric": Column("mean over lines", lambda record: of_lines(record, "published_perplexity")),
    "published_change": Column(
        "effect on it (%)", lambda record: of_lines(record, "published_perplexity"), change="percent"
    ),
    "bits_change": Column(
        "effect (bits a byte)", lambda record: record.results["bits_per_byte"], 4, change="difference"
    ),
    "steps": Column("steps", _steps, 0),
    "lim": Column("LIM-PPL", lambda record: record.results["lim_perplexity"]),  # of the text that perplexity is of
    "contrast": Column("C (nats)", lambda record: record.results["middle_contrast"], 3),
    "causal": Column("causal", _is_causal),
    "end": Column("p(end) (%)", _percent(_end), 3),
    "magnitude_still": Column("magnitudes still (%)", _still("magnitude"), 1),
    "landmark_still": Column("landmarks still (%)", _still("landmark"), 1),
    "window": Column("fall over the window (nats)", _fall_over_window, 3),
    "key_value": Column("key\N{EN DASH}value (%)", _percent(_retrieved("key_value")), 0),
    "passkey": Column("passkey (%)", _percent(_retrieved("passkey")), 0),
    "boundary": Column("boundary moved (tokens)", farthest_boundary, 2),
}
