"""Plain text becomes LaTeX: here, and nowhere else."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from hylorada.files import written_beside
from hylorada.study.results.words import MINUS, NARROW_SPACE, RAISED, SPACE

SIGNS = {character: rf"\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MINUS: "$-$",
    SPACE: r"\,",
    NARROW_SPACE: r"\,",
    " %": r"\,\%",
    "\N{EN DASH}": "--",
    "“": "``",
    "”": "''",
    "†": r"$^\dagger$",
    "²": r"\textsuperscript{2}",
    "𝐶": "$C$",
    "𝑡": "$t$",
}
LOWERED = {raised: plain for plain, raised in RAISED.items()}
MARKED = re.compile(
    r"\[table (?P<table>\w+)\]|`(?P<code>[^`]+)`"
    rf"|(?P<digits>\d+(?:\.\d+)?)·10(?P<power>[{''.join(map(chr, LOWERED))}]+)"
    rf"|(?P<sign>{'|'.join(map(re.escape, sorted(SIGNS, key=len, reverse=True)))})"
)
FOOT = "\\bottomrule\n\\end{tabular}\n"


def set_text(text: str) -> str:
    """Return LaTeX that prints a plain text as it is.

    Beside the signs of `hylorada.study.results.words`, [table ranks] is a reference, and `q_proj` is code.
    """
    return MARKED.sub(_set, text)


def set_head(text: str) -> str:
    """Return LaTeX of a column's head, whose quantities are single letters before a bracket, as in "p(end)"."""
    return re.sub(r"\b([Cp])(?= ?\()", r"$\1$", set_text(text))


def set_line(cells: Iterable[str]) -> str:
    """Return a line of a table, of plain cells."""
    return " & ".join(map(set_text, cells)) + "\\\\\n"


def set_macros(values: Mapping[str, str]) -> str:
    """Return the definitions of macros, of plain texts by the names of the macros."""
    return "".join(rf"\newcommand{{\{name}}}{{{set_text(text)}}}" + "\n" for name, text in values.items())


def write_table(table: pd.DataFrame, tabular: str, tex: Path, csv: Path | None) -> None:
    """Write a table as the LaTeX tabular that was made of it and, unrounded, as CSV (None: not that)."""
    with written_beside(tex) as beside:
        beside.write_text(tabular, encoding="utf-8")
    if csv is not None:
        with written_beside(csv) as beside:
            table.to_csv(beside, index=False)


def _set(mark: re.Match[str]) -> str:
    if mark["table"]:
        return rf"Table~\ref{{tab:{mark['table']}}}"
    if mark["code"]:
        return rf"\texttt{{{set_text(mark['code'])}}}"
    if mark["digits"]:
        return rf"\ensuremath{{{mark['digits']}\cdot10^{{{mark['power'].translate(LOWERED)}}}}}"
    return SIGNS[mark["sign"]]
