"""What was asked, one part a table: its figures, the table itself, its CSV, and the runs behind it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from hylorada.study.page import markup
from hylorada.study.page.markup import folded, link, soft
from hylorada.study.page.runs import runs_html
from hylorada.study.page.tables import Cell, Table
from hylorada.study.plan.record import Record


@dataclass(frozen=True)
class Figure:
    """A figure as PNG, with what it shows in words for those who do not see it."""

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Result:
    """A table with its figures, the CSV that it is made of, and those runs that no part before it has, by row."""

    name: str
    table: Table
    csv: bytes
    figures: Sequence[Figure] = ()
    runs: Mapping[str, Sequence[Record]] = field(default_factory=dict)


def result_html(result: Result, folder: str) -> str:
    """Return one part, folded under its title and question. folder: of the records, as seen from the page."""
    summary = f"<h3>{escape(result.table.title)}</h3> {escape(result.table.note)}"
    inside = [*map(_figure, result.figures), _table(result.name, result.table)]
    data = f"data:text/csv;base64,{b64encode(result.csv).decode()}"
    inside.append(f'<p><a download="{escape(result.name)}.csv" href="{data}">This table as CSV, unrounded</a></p>')
    if result.runs:
        inside.append(runs_html(result.runs, folder))
    return folded(f"result-{result.name}", "result", summary, "\n".join(inside))


def _figure(figure: Figure) -> str:
    source = f"data:image/png;base64,{b64encode(figure.png).decode()}"
    return (
        f'<figure id="figure-{escape(figure.name)}"><img src="{source}" alt="{escape(figure.caption)}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _table(name: str, table: Table) -> str:
    lines = []
    for line in table.lines:
        cells = {heading: ", ".join(map(_cell, cells)) for heading, cells in line.cells.items()}
        lines.append((f"{escape(line.label)} {soft(line.soft)}".strip(), cells, f"row-{name}-{line.name}"))
    return f'<div class="table" id="table-{escape(name)}">{markup.table(escape(table.key), "row", lines)}</div>'


def _cell(cell: Cell) -> str:
    text = link(cell.link, cell.text) if cell.link else escape(cell.text)
    return f"{text} {soft(cell.soft)}".strip()
