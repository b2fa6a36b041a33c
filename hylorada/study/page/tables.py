"""The tables of `hylorada table` as the page shows them: CSV in, lines of text with the runs behind each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.study.claims.summary import CLAIMED, CORRECTED
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.record import Record
from hylorada.study.plan.rows import Row
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.columns import COLUMNS
from hylorada.study.results.levels import LEVELS, level_of
from hylorada.study.results.power import FINDS
from hylorada.study.results.protocols import share_run
from hylorada.study.results.tables import read_csv
from hylorada.study.results.words import fixed, percentage, why_none

SIDES = {  # of the table of both protocols
    CLAIMED: "as published, mean over lines",
    "lines": "corrected, mean over lines",
    CORRECTED: "corrected, corpus",
}
COSTS = {"step": "training step", "memory": "its memory", "inference": "inference", "merged": "inference, merged"}
Runs = Mapping[str, Sequence[Record]]  # records by row
EFFECTS = (
    "Perplexity with its 95 % interval; the effect is the change in percent against the row named, below zero is "
    "better, with its Holm-adjusted interval. A star marks an effect that both its intervals tell from nothing. "
    + FINDS
)
ESTIMATES = (
    "Perplexity with its 95 % interval; the effect is the change in percent against the row named, below zero is "
    "better, with a 95 % interval of its own: an estimate, not adjusted for the others and without a verdict. " + FINDS
)
BOTH = "Perplexity, then its change in percent against the stage before, with the interval; below zero is better."
STEPS = "A step is against the stage before, below zero is better; in brackets the Holm-adjusted interval."
SINGLES = "Perplexity; the effect is the change in percent against the row named, below zero is better. One seed a row."


@dataclass(frozen=True)
class Cell:
    """A text, what stands small beside it, and the id of what it leads to."""

    text: str
    soft: str = ""
    link: str = ""


@dataclass(frozen=True)
class Line:
    """One row. name: its id within the table. cells: by the heading of their column, several side by side.

    soft: what stands small beside the label.
    """

    name: str
    label: str
    cells: dict[str, list[Cell]]
    soft: str = ""


@dataclass(frozen=True)
class Table:
    """One table with its title, what it asks or says, and how its numbers are read."""

    title: str
    note: str
    key: str
    lines: list[Line]


def read_table(path: Path, rows: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a table; rows: the names that it may have, None for any.

    Raises:
        HyLoRADAError: it is not there, or has a row that it may not have, or none.
    """
    if not path.is_file():
        raise HyLoRADAError(f"{path} is not there; run `hylorada table` with this scale first.")
    table = read_csv(path, "stage", "label") if rows is not None else read_csv(path)
    strange = [] if rows is None else [row for row in table["stage"] if row not in set(rows)]
    if rows is not None and table.empty:
        raise HyLoRADAError(f"{path} has no row; run `hylorada table` again.")
    if strange:
        raise HyLoRADAError(f"{path} has the row {strange[0]!r}, which the scale has not; run `hylorada table` again.")
    return table


def study_table(name: str, table: pd.DataFrame, title: str, question: str, runs: Runs) -> Table:
    """Return the ablation or a study: its level, effect against the row named, and what else the study shows."""
    labels = dict(zip(table["stage"], table["label"], strict=True))
    shown = {column: COLUMNS[column] for column in table.columns if column in COLUMNS}
    level, has_intervals = level_of(table), bool(table["effect_low"].notna().any())
    head, write = LEVELS[level].head, f"{{:.{LEVELS[level].decimals}f}}".format
    lines = []
    for _, row in table.iterrows():
        cells = {
            "trained parameters": [Cell(f"{row['parameters']:,}")],
            head: [Cell(write(row[level]), _ends(row, level, write))],
            "effect": [],
            "against": [],
            **({"finds": []} if has_intervals else {}),
        }
        if isinstance(row["against"], str):
            cells["effect"] = [Cell(_starred(row["effect"], row["resolved"]), _ends(row, "effect", _bare))]
            cells["against"] = [Cell(labels[row["against"]], link=f"row-{name}-{row['against']}")]
            if has_intervals:
                cells["finds"] = _found(row["detectable"])
        for column, described in shown.items():
            value = row[column]
            if isinstance(value, float):
                value = "" if pd.isna(value) else fixed(value, described.decimals)
            cells[described.head] = [Cell(value)] if value else []
        cells["runs"] = [_run(record) for record in runs[row["stage"]]]
        lines.append(Line(row["stage"], row["label"], cells))
    told = EFFECTS if table["adjusted"].all() else ESTIMATES
    return Table(title, question, told if has_intervals else SINGLES, lines)


def protocols_table(table: pd.DataFrame, runs: Runs) -> Table:
    """Return both protocols side by side: a level, and the step that leads to it."""
    of_claimed = SIDES[CLAIMED].replace("as published", f"as published{share_run(table)}")
    lines, sides = [], SIDES | {CLAIMED: of_claimed}
    for _, row in table.iterrows():
        cells: dict[str, list[Cell]] = {}
        for side, heading in sides.items():
            cells[heading] = [] if side not in table else [Cell(f"{row[side]:.2f}")]
            if side in table and not pd.isna(row[f"{side}_step"]):
                step = _starred(row[f"{side}_step"], row[f"{side}_resolved"])
                ends = _interval(row, f"{side}_low", f"{side}_high", row[f"{side}_seeds"], _bare)
                cells[heading] += [
                    Cell(step, ends),
                    *(Cell(f"finds {one.text}") for one in _found(row[f"{side}_detectable"])),
                ]
        cells["runs"] = [_run(record, _under(record)) for record in runs[row["stage"]]]
        published = published_row(row["stage"]).in_words
        remark = "" if published == STAGES[row["stage"]].in_words else f"(as published: {published})"
        lines.append(Line(row["stage"], row["label"], cells, remark))
    note = "What does each stage give by the published procedure and by the corrected one?"
    return Table("Both protocols", note, f"{BOTH} {FINDS}", lines)


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
            "own step": [
                Cell(percentage(row["step"], plus=True), _interval(row, "step_low", "step_high", row["seeds"], _bare))
            ],
            "finds": _found(row["detectable"]),
            "parameters per 1 % less": cost,
            "runs": [_run(record) for record in runs[row["stage"]]],
        }
        lines.append(Line(row["stage"], row["label"], cells))
    note = "How does each part change perplexity, and how many parameters does one percent less take?"
    return Table("Parameter efficiency", note, f"{STEPS} {FINDS}", lines)


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
    key = "Measured by hylorada bench; steps and memory are over those of rsLoRA, inference over the untouched base."
    return Table("Cost", "What does each method cost in time and memory?", key, lines)


def published_row(stage: str) -> Row:
    """Return what a stage of the ablation was published as: its magnitude had no gate."""
    return STUDIES["as_published"].rows[AS_PUBLISHED_ROWS[stage]]


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


def _found(detectable: float) -> list[Cell]:
    return [] if pd.isna(detectable) else [Cell(fixed(detectable))]


def _starred(change: float, resolved: bool) -> str:
    return percentage(change, plus=True) + "*" * bool(resolved)


def _bare(value: float) -> str:
    return fixed(value, plus=True)
