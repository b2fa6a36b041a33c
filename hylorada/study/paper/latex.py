"""LaTeX of numbers, texts and tables: the one place where plain text becomes LaTeX."""

import re
from pathlib import Path

import pandas as pd

from hylorada.files import written_beside

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: rf"\{character}" for character in "&%$#_{}"
}
FOOT = "\\bottomrule\n\\end{tabular}\n"


def write_table(table: pd.DataFrame, tabular: str, tex: Path, csv: Path) -> pd.DataFrame:
    """Write a table as the LaTeX tabular that was made of it and, unrounded, as CSV; return it."""
    with written_beside(tex) as beside:
        beside.write_text(tabular)
    with written_beside(csv) as beside:
        table.to_csv(beside, index=False)
    return table


def fixed(value: float, decimals: int = 2) -> str:
    """Return LaTeX for a number at so many decimals, with a true minus sign and no negative zero."""
    text = f"{value:.{decimals}f}"
    negative = text.startswith("-") and float(text) != 0
    return "$-$" * negative + text.lstrip("-")


def thousands(count: int) -> str:
    """Return LaTeX for a whole number, a thin space between thousands."""
    return f"{count:,}".replace(",", r"\,")


def scientific(value: float) -> str:
    """Return LaTeX for a positive number as three digits at most and a power of ten; zero is zero."""
    digits, power = f"{value:.2e}".split("e")
    return rf"\ensuremath{{{float(digits):g}\cdot10^{{{int(power)}}}}}" if value else "0"


def escape(text: str) -> str:
    """Return LaTeX that prints `text` as it is."""
    return re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)


def with_symbols(text: str) -> str:
    """Return LaTeX of a text whose quantities are single letters before a bracket, as in "C (nats)" and "p(end)"."""
    return re.sub(r"\b([Cp])(?= ?\()", r"$\1$", escape(text)).replace("\N{EN DASH}", "--")


def span(low: float, high: float) -> str:
    """Return LaTeX for an interval."""
    return f"{fixed(low)} to {fixed(high)}"
