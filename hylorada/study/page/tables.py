"""The tables of `hylorada table` as the page shows them: CSV in, lines of text with the runs behind each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.study.claims.summary import CLAIMED, CORRECTED
from hylorada.study.plan.record import Record
from hylorada.study.results.columns import COLUMNS
from hylorada.study.results.words import fixed, percentage, why_none

SIDES = {  # of the table of both protocols
    CLAIMED: "as published, mean over lines",
    "lines": "corrected, mean over lines",
    CORRECTED: "corrected, corpus",
}
COSTS = {"step": "training step", "memory": "its memory", "inference": "inference", "merged": "inference, merged"}
Runs = Mapping[str, Sequence[Record]]  # records by row


@dataclass(frozen=True)
class Cell:
    """A text, what stands small beside it, and the id of what it leads to."""

    text: str
    soft: str = ""
    link: str = ""


@dataclass(frozen=True)
class Line:
    """One row. name: its id within the table. cells: by the heading of their column, several side by side."""

    name: str
    label: str
    cells: dict[str, list[Cell]]


@dataclass(frozen=True)
class Table:
    """One table with its title and what it asks or says."""

    title: str
    note: str
    lines: list[Line]


def read_table(path: Path, rows: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a table; rows: the names that it may have, None for any.

    Raises:
        HyLoRADAError: it is not there, or has a row that it may not have.
    """
    if not path.is_file():
        raise HyLoRADAError(f"{path} is not there; run `hylorada table` with this scale first.")
    table = pd.read_csv(path)
    strange = [] if rows is None else [row for row in table["stage"] if row not in set(rows)]
    if strange:
        raise HyLoRADAError(f"{path} has the row {strange[0]!r}, which the scale has not; run `hylorada table` again.")
    return table


def study_table(name: str, table: pd.DataFrame, title: str, question: str, runs: Runs) -> Table:
    """Return the ablation or a study: perplexity, effect against the row named, and what else the study shows."""
    labels = dict(zip(table["stage"], table["label"], strict=True))
    shown = {column: COLUMNS[column] for column in table.columns if column in COLUMNS}
    lines = []
    for _, row in table.iterrows():
        cells = {
            "trained parameters": [Cell(f"{row['parameters']:,}")],
            "perplexity": [Cell(f"{row['perplexity']:.2f}", _ends(row, "perplexity", "{:.2f}".format))],
            "effect": [],
            "against": [],
        }
        if isinstance(row["against"], str):
            cells["effect"] = [Cell(_starred(row["effect"], row["resolved"]), _ends(row, "effect", _bare))]
            cells["against"] = [Cell(labels[row["against"]], link=f"row-{name}-{row['against']}")]
        for column, described in shown.items():
            value = row[column]
            if isinstance(value, float):
                value = "" if pd.isna(value) else fixed(value, described.decimals)
            cells[described.head] = [Cell(value)] if value else []
        cells["runs"] = [_run(record) for record in runs[row["stage"]]]
        lines.append(Line(row["stage"], row["label"], cells))
    return Table(title, question, lines)


def protocols_table(table: pd.DataFrame, runs: Runs) -> Table:
    """Return both protocols side by side: a level, and the step that leads to it."""
    lines = []
    for _, row in table.iterrows():
        cells: dict[str, list[Cell]] = {}
        for side, heading in SIDES.items():
            cells[heading] = [] if side not in table else [Cell(f"{row[side]:.2f}")]
            if side in table and not pd.isna(row[f"{side}_step"]):
                step = _starred(row[f"{side}_step"], row[f"{side}_resolved"])
                ends = _interval(row, f"{side}_low", f"{side}_high", row[f"{side}_seeds"], _bare)
                cells[heading].append(Cell(step, ends))
        cells["runs"] = [_run(record, _under(record)) for record in runs[row["stage"]]]
        lines.append(Line(row["stage"], row["label"], cells))
    note = "What does each stage give by the published procedure and by the corrected one? Perplexity, then the step."
    return Table("Both protocols", note, lines)


def efficiency_table(table: pd.DataFrame, runs: Runs) -> Table:
    """Return what each part gives for its parameters."""
    lines = []
    for _, row in table.iterrows():
        cost = [Cell("unbounded: the gain may be nothing")]
        if not pd.isna(row["cost"]):
            cost = [
                Cell(f"{row['cost']:,.0f}", _interval(row, "cost_low", "cost_high", row["seeds"], "{:,.0f}".format))
            ]
        cells = {
            "parameters": [Cell(f"{row['parameters']:,}")],
            "own gain": [
                Cell(percentage(row["gain"], plus=True), _interval(row, "gain_low", "gain_high", row["seeds"], _bare))
            ],
            "parameters per 1 % of gain": cost,
            "runs": [_run(record) for record in runs[row["stage"]]],
        }
        lines.append(Line(row["stage"], row["label"], cells))
    note = "What does each part save of perplexity, and how many parameters does one percent of it take?"
    return Table("Parameter efficiency", note, lines)


def cost_table(table: pd.DataFrame, runs: Runs) -> Table:
    """Return what each method costs, which no run of the study but the benchmark measures."""
    lines = [
        Line(
            str(number),
            row["method"],
            {text: [] if pd.isna(row[name]) else [Cell(f"{row[name]:.2f}×")] for name, text in COSTS.items()},
        )
        for number, (_, row) in enumerate(table.iterrows())
    ]
    note = "Measured by hylorada bench; steps and memory are over those of rsLoRA, inference over the untouched base."
    return Table("Cost", note, lines)


SUMMARIES = {"protocols": protocols_table, "efficiency": efficiency_table, "cost": cost_table}  # beside those by row


def _run(record: Record, under: str = "") -> Cell:
    training = record.specification.training
    text = "untrained" if training is None else f"seed {training.seed}"
    return Cell(f"{under}, {text}" if under else text, link=f"run-{record.name}")


def _under(record: Record) -> str:
    return record.specification.protocol.label


def _ends(row: pd.Series, name: str, write: Callable[[float], str]) -> str:
    if pd.isna(row["seeds"]) and pd.isna(row[f"{name}_low"]):
        return ""  # the untouched base has no seed
    return _interval(row, f"{name}_low", f"{name}_high", row["seeds"], write)


def _interval(row: pd.Series, low: str, high: str, seeds: int, write: Callable[[float], str]) -> str:
    return f"({why_none(int(seeds))})" if pd.isna(row[low]) else f"({write(row[low])} to {write(row[high])})"


def _starred(change: float, resolved: bool) -> str:
    return percentage(change, plus=True) + "*" * bool(resolved)


def _bare(value: float) -> str:
    return fixed(value, plus=True)
