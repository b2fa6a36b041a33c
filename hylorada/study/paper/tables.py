"""The tables of the paper as LaTeX tabulars, one writer a kind of table; their frames are made in `results`."""

import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from hylorada.study.paper.latex import FOOT, escape, fixed, span, thousands, with_symbols, write_table
from hylorada.study.plan.ablation import BASE
from hylorada.study.plan.rows import Row, against_of
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records
from hylorada.study.results.columns import COLUMNS, Value, values
from hylorada.study.results.compute import compute_table
from hylorada.study.results.cost import cost_table
from hylorada.study.results.protocols import efficiency_table, protocol_table
from hylorada.study.results.statistics import why_none
from hylorada.study.results.tables import ablation_table, study_table

LONG_HEAD = 10  # characters of a column's head that stand in one line
ABLATION_HEAD = r"""\begin{tabular}{@{}lp{36mm}rcrcrcr@{}}
\toprule
 & & & & \multicolumn{2}{c}{perplexity} & \multicolumn{2}{c}{effect (\%)} & on base\\
stage & adds & trained & seeds & mean & 95\,\% interval & mean & Holm interval & (\%)\\
\midrule
"""
STUDY_HEAD = r"""\begin{{tabular}}{{@{{}}lrcrcrc{columns}@{{}}}}
\toprule
 & & & \multicolumn{{2}}{{c}}{{perplexity}} & \multicolumn{{2}}{{c}}{{effect (\%)}}{empty}\\
row & trained & seeds & mean & 95\,\% interval & mean & Holm interval{heads}\\
\midrule
"""
SINGLE_HEAD = r"""\begin{{tabular}}{{@{{}}lrrr{columns}@{{}}}}
\toprule
row & trained & ppl. & effect (\%){heads}\\
\midrule
"""  # where every row has one seed, and so no interval
PROTOCOLS_HEAD = r"""\begin{tabular}{@{}lrrcrrcrrc@{}}
\toprule
 & \multicolumn{3}{c}{as published, mean over lines} & \multicolumn{3}{c}{corrected, mean over lines} &
\multicolumn{3}{c}{corrected, corpus}\\
stage & ppl. & step (\%) & interval & ppl. & step (\%) & interval & ppl. & step (\%) & interval\\
\midrule
"""
EFFICIENCY_HEAD = r"""\begin{tabular}{@{}lrrcr@{}}
\toprule
part & adds & gain (\%) & Holm interval & \shortstack[r]{adds per\\1\,\% of gain}\\
\midrule
"""
COST_HEAD = r"""\begin{tabular}{@{}lrcrrrr@{}}
\toprule
 & \multicolumn{3}{c}{training} & \multicolumn{3}{c}{inference}\\
method & step & quartiles & memory & adapter & merged & cached\\
\midrule
"""
COMPUTE_HEAD = r"""\begin{tabular}{@{}>{\raggedright\arraybackslash}p{36mm}rrrr@{}}
\toprule
 & runs & training & scoring & memory\\
table & & (s) & (s) & (GiB)\\
\midrule
"""


def write_ablation(records: Records, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table twice, as a LaTeX tabular for the paper and, unrounded, as CSV; return it."""
    table = ablation_table(records)
    return write_table(table, ABLATION_HEAD + "".join(_line(row) for _, row in table.iterrows()) + FOOT, tex, csv)


def write_study(records: Records, rows: dict[str, Row], name: str, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table of a study into two folders, as LaTeX and as CSV, under its name; return it."""
    table = study_table(records, rows)
    shown = STUDIES[name].shows
    for column in shown:
        found = values(records, column, against_of(rows))
        table[column] = [found[stage] for stage in table["stage"]]
    has_intervals = bool(table["effect_low"].notna().any())
    heads = "".join(f" & {_stacked(COLUMNS[column].head)}" for column in shown)
    head = (STUDY_HEAD if has_intervals else SINGLE_HEAD).format(
        columns="c" * len(shown), empty=" & " * len(shown), heads=heads
    )
    body = "".join(_study_line(row, shown, has_intervals) for _, row in table.iterrows())
    return write_table(table, head + body + FOOT, tex / f"{name}.tex", csv / f"{name}.csv")


def _study_line(row: pd.Series, shown: tuple[str, ...], has_intervals: bool) -> str:
    alone = bool(row["against"] == "")
    extra = [_shown(row[name], COLUMNS[name].decimals) for name in shown]
    if not has_intervals:
        numbers = [fixed(row["perplexity"]), "" if alone else fixed(row["effect"])]
        return " & ".join([escape(row["label"]), thousands(row["parameters"]), *numbers, *extra]) + "\\\\\n"
    level, step = _span(row, "perplexity"), _span(row, "effect")
    cells = [
        escape(row["label"]),
        thousands(row["parameters"]),
        "" if pd.isna(row["seeds"]) else str(row["seeds"]),
        fixed(row["perplexity"]),
        level,
        *(["", ""] if alone else [fixed(row["effect"]), step + "*" * row["resolved"]]),
        *extra,
    ]
    return " & ".join(cells) + "\\\\\n"


def _span(row: pd.Series, name: str) -> str:
    """Return LaTeX of an interval, or what it lacks; the untouched base has no seed, and lacks none."""
    if pd.isna(row[f"{name}_low"]):
        return why_none(2 if pd.isna(row["seeds"]) else int(row["seeds"]))
    return span(row[f"{name}_low"], row[f"{name}_high"])


def _stacked(words: str) -> str:
    """Set the head of a further column in lines, so that it is no wider than its numbers."""
    lines = wrap(with_symbols(words), LONG_HEAD, break_long_words=False)
    stacked = r"\\".join(lines)
    return rf"\shortstack{{{stacked}}}" if len(lines) > 1 else stacked


def _shown(value: Value, decimals: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else fixed(value, decimals)


def _line(row: pd.Series) -> str:
    is_base = row["stage"] == BASE
    level, step = _span(row, "perplexity"), _span(row, "effect")
    cells = [
        escape(row["label"]),
        r"\raggedright " + escape(row["adds"]),
        thousands(row["parameters"]),
        "" if is_base else str(row["seeds"]),
        fixed(row["perplexity"]),
        level,
        *(["", "", ""] if is_base else [fixed(row["effect"]), step + "*" * row["resolved"]]),
        *([] if is_base else [fixed(row["effect_on_base"])]),
    ]
    return " & ".join(cells) + "\\\\\n"


def write_protocols(published: Records | None, corrected: Records, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table of both protocols as LaTeX and CSV; a side that the scale lacks is left empty."""
    table = protocol_table(published, corrected)
    lines = []
    for _, row in table.iterrows():
        cells = [escape(row["label"])]
        for side in ("published", "lines", "corpus"):
            cells += _cells(row, side) if side in table else ["--", "", ""]
        lines.append(" & ".join(cells) + "\\\\\n")
    return write_table(table, PROTOCOLS_HEAD + "".join(lines) + FOOT, tex, csv)


def write_efficiency(records: Records, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table of parameter efficiency as LaTeX and CSV."""
    table = efficiency_table(records)
    lines = []
    for _, row in table.iterrows():
        gain = why_none(row["seeds"]) if pd.isna(row["gain_low"]) else span(row["gain_low"], row["gain_high"])
        cost = "unbounded"
        if not pd.isna(row["cost"]):
            cost = thousands(round(row["cost"]))
        lines.append(
            f"{escape(row['label'])} & {thousands(row['parameters'])} & {fixed(row['gain'])} & {gain} & {cost}\\\\\n"
        )
    return write_table(table, EFFICIENCY_HEAD + "".join(lines) + FOOT, tex, csv)


def _cells(row: pd.Series, side: str) -> list[str]:
    if pd.isna(row[f"{side}_step"]):
        return [fixed(row[side]), "", ""]
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    lacking = why_none(row[f"{side}_seeds"])
    interval = lacking if pd.isna(low) else span(low, high) + "*" * bool(row[f"{side}_resolved"])
    return [fixed(row[side]), fixed(row[f"{side}_step"]), interval]


def write_cost(benchmark: dict[str, Any], tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table as LaTeX and CSV."""
    table = cost_table(benchmark)
    numbers = ["memory", "inference", "merged", "generation"]
    lines = [
        " & ".join(
            [escape(row["method"]), fixed(row["step"]), span(row["step_low"], row["step_high"])]
            + ["" if pd.isna(row[name]) else fixed(row[name]) for name in numbers]
        )
        + "\\\\\n"
        for _, row in table.iterrows()
    ]
    return write_table(table, COST_HEAD + "".join(lines) + FOOT, tex, csv)


def write_compute(studies: Mapping[str, Records], tex: Path, csv: Path) -> None:
    """Write the table as LaTeX and CSV."""
    table = compute_table(studies)
    lines = []
    for _, row in table.iterrows():
        memory = "--" if pd.isna(row["memory"]) else f"{row['memory']:.1f}"
        seconds = [thousands(round(row[name])) for name in ("training", "scoring")]
        cells = [escape(row["title"]), str(row["runs"]), *seconds]
        lines.append("\\midrule\n" * (row["study"] == "all") + " & ".join([*cells, memory]) + "\\\\\n")
    write_table(table, COMPUTE_HEAD + "".join(lines) + FOOT, tex, csv)
