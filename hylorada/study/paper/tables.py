"""The tables of the paper as LaTeX tabulars, one function a kind of table; their frames are made in `results`."""

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap

import pandas as pd

from hylorada.study.paper.latex import FOOT, set_head, set_line, write_table
from hylorada.study.plan.ablation import BASE
from hylorada.study.plan.rows import references
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.columns import COLUMNS, Value
from hylorada.study.results.facts import PROCEDURES
from hylorada.study.results.levels import LEVELS, level_of
from hylorada.study.results.protocols import share_run
from hylorada.study.results.results import Results
from hylorada.study.results.rows import tables_of
from hylorada.study.results.words import fixed, span, thousands, why_none

LONG_HEAD = 10  # characters of a column's head that stand in one line
ABLATION_HEAD = r"""\begin{tabular}{@{}l>{\raggedright\arraybackslash}p{36mm}rcrcrcrr@{}}
\toprule
 & & & & \multicolumn{2}{c}{perplexity} & \multicolumn{3}{c}{effect (\%)} & on base\\
stage & adds & trained & seeds & mean & 95\,\% interval & mean & Holm interval & finds & (\%)\\
\midrule
"""
STUDY_HEAD = r"""\begin{{tabular}}{{@{{}}lrcrcrcr{columns}@{{}}}}
\toprule
 & & & \multicolumn{{2}}{{c}}{{{level}}} & \multicolumn{{3}}{{c}}{{effect (\%)}}{empty}\\
row & trained & seeds & mean & 95\,\% interval & mean & {interval} & finds{heads}\\
\midrule
"""
SINGLE_HEAD = r"""\begin{{tabular}}{{@{{}}lrrr{columns}@{{}}}}
\toprule
row & trained & {short} & effect (\%){heads}\\
\midrule
"""  # where every row has one seed, and so no interval
PROTOCOLS_HEAD = r"""\begin{tabular}{@{}lrrcrrrcrrrcr@{}}
\toprule
 & \multicolumn{4}{c}{as published%s, mean over lines} & \multicolumn{4}{c}{corrected, mean over lines} &
\multicolumn{4}{c}{corrected, corpus}\\
stage & ppl. & step (\%%) & interval & finds & ppl. & step (\%%) & interval & finds &
ppl. & step (\%%) & interval & finds\\
\midrule
"""
EFFICIENCY_HEAD = r"""\begin{tabular}{@{}lrrcrr@{}}
\toprule
part & adds & step (\%) & Holm interval & finds & \shortstack[r]{adds per\\1\,\% less}\\
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
PARTS_HEAD = r"""\begin{tabular}{@{}lllrccc@{}}
\toprule
part & parameters & per & here & neutral & causal & merges\\
\midrule
"""
FACTS_HEAD = r"""\begin{tabular}{@{}*{4}{>{\raggedright\arraybackslash}p{39.5mm}}@{}}
\toprule
 & %s\\
\midrule
"""
INTERVALS = {True: "Holm interval", False: r"95\,\% interval"}  # of effects, by whether they are adjusted
NONE = "\N{EN DASH}"  # in a cell that has nothing to show


def write_tables(results: Results, tex: Path, csv: Path) -> None:
    """Write every table of a scale into two folders, as LaTeX and as CSV; csv: the file of the ablation's.

    Where that is a device or a pipe, nothing is put beside it.
    """
    has_folder = csv.is_file() or not csv.exists()
    for name in tables_of(results.settings):
        table, beside = results.frame(name), csv.with_name(f"{name}.csv") if has_folder else None
        write_table(table, TABULARS[name](table), tex / f"{name}.tex", csv if name == "ablation" else beside)


def ablation_tabular(table: pd.DataFrame) -> str:
    """Set the six stages."""
    return ABLATION_HEAD + "".join(_stage(row) for _, row in table.iterrows()) + _placebos(table, 5, 2) + FOOT


def study_tabular(table: pd.DataFrame) -> str:
    """Set the rows of a study with its further columns; where no row has an interval, none has a place for one.

    What each row is held against is a column where rows differ in it, and else said in the caption.
    """
    shown = [name for name in table.columns if name in COLUMNS]
    has_intervals = bool(table["effect_low"].notna().any())
    labels = dict(zip(table["stage"], table["label"], strict=True)) if len(references(table["against"])) > 1 else {}
    heads = ["against"] * bool(labels) + [_stacked(COLUMNS[name].head) for name in shown]
    level = LEVELS[level_of(table)]
    head = (STUDY_HEAD if has_intervals else SINGLE_HEAD).format(
        columns="l" * bool(labels) + "c" * len(shown),
        empty=" & " * len(heads),
        heads="".join(f" & {words}" for words in heads),
        level=level.head,
        short=_stacked(level.short),
        interval=INTERVALS[bool(table["adjusted"].all())],
    )
    lines = []
    for _, row in table.iterrows():
        against = [labels.get(row["against"], "")] * bool(labels)
        further = [_shown(row[name], COLUMNS[name].decimals) for name in shown]
        lines.append(_row(row, level_of(table), [*against, *further], has_intervals))
    return head + "".join(lines) + (_placebos(table, 4, 1 + len(heads)) if has_intervals else "") + FOOT


def _placebos(table: pd.DataFrame, before: int, after: int) -> str:
    """Set, below a rule, what moving weights by chance does to each row that others are held against.

    before, after: empty cells between the label and the effect, and behind its interval.
    """
    lines = []
    for _, row in table[table["placebo"].notna() & table["stage"].isin(set(table["against"]))].iterrows():
        interval = why_none(row["seeds"]) if pd.isna(row["placebo_low"]) else _span(row, "placebo")
        cells = [f"placebo of {row['label']}", *[""] * before, fixed(row["placebo"], 3), interval, *[""] * after]
        lines.append(set_line(cells))
    return "".join(["\\midrule\n", *lines]) if lines else ""


def protocols_tabular(table: pd.DataFrame) -> str:
    """Set both protocols side by side; a side that the scale lacks is left empty, one that stops early says so."""
    lines = []
    for _, row in table.iterrows():
        sides = [_side(row, side) if side in table else [NONE, "", "", ""] for side in ("published", "lines", "corpus")]
        lines.append(set_line([row["label"], *sum(sides, [])]))
    return PROTOCOLS_HEAD % share_run(table) + "".join(lines) + FOOT


def efficiency_tabular(table: pd.DataFrame) -> str:
    """Set what each part gives for its parameters."""
    lines = []
    for _, row in table.iterrows():
        interval = why_none(row["seeds"]) if pd.isna(row["step_low"]) else span(row["step_low"], row["step_high"])
        step = [fixed(row["step"]), interval, _shown(row["detectable"], 2)]
        cost = "unbounded" if pd.isna(row["cost"]) else thousands(round(row["cost"]))
        lines.append(set_line([row["label"], thousands(row["parameters"]), *step, cost]))
    return EFFICIENCY_HEAD + "".join(lines) + FOOT


def cost_tabular(table: pd.DataFrame) -> str:
    """Set what each method costs."""
    lines = []
    for _, row in table.iterrows():
        others = [_shown(row[name], 2) for name in ("memory", "inference", "merged", "generation")]
        lines.append(set_line([row["method"], fixed(row["step"]), span(row["step_low"], row["step_high"]), *others]))
    return COST_HEAD + "".join(lines) + FOOT


def facts_tabular(table: pd.DataFrame) -> str:
    """Set the facts of the procedures; a dagger marks what a row of the single fixes mends."""
    lines = [
        set_line([row["fact"] + "†" * bool(row["mended"]), *(row[name] for name in PROCEDURES)])
        for _, row in table.iterrows()
    ]
    return FACTS_HEAD % " & ".join(PROCEDURES.values()) + "".join(lines) + FOOT


def parts_tabular(table: pd.DataFrame) -> str:
    """Set what each part trains, and what can be done with it."""
    lines = []
    for _, row in table.iterrows():
        here = NONE if pd.isna(row["here"]) else thousands(row["here"])
        rest = set_line([row["per"], here, *(row[name] for name in ("neutral", "causal", "merges"))])
        lines.append(f"{row['part']} & {_formula(row['formula'])} & {rest}")
    return PARTS_HEAD + "".join(lines) + FOOT


def compute_tabular(table: pd.DataFrame) -> str:
    """Set what the study took, the sum below a rule."""
    lines = []
    for _, row in table.iterrows():
        memory = NONE if pd.isna(row["memory"]) else fixed(row["memory"], 1)
        seconds = [thousands(round(row[name])) for name in ("training", "scoring")]
        cells = [row["title"], str(row["runs"]), *seconds, memory]
        lines.append("\\midrule\n" * (row["study"] == "all") + set_line(cells))
    return COMPUTE_HEAD + "".join(lines) + FOOT


TABULARS: dict[str, Callable[[pd.DataFrame], str]] = {
    "protocols": protocols_tabular,
    **dict.fromkeys(STUDIES, study_tabular),
    "ablation": ablation_tabular,
    "efficiency": efficiency_tabular,
    "cost": cost_tabular,
    "facts": facts_tabular,
    "parts": parts_tabular,
    "compute": compute_tabular,
}


def _stage(row: pd.Series) -> str:
    is_base = row["stage"] == BASE
    cells = [
        row["label"],
        row["adds"],
        thousands(row["parameters"]),
        "" if is_base else str(row["seeds"]),
        fixed(row["perplexity"]),
        _span(row, "perplexity"),
        *([""] * 4 if is_base else [*_effect(row), fixed(row["effect_on_base"])]),
    ]
    return set_line(cells)


def _row(row: pd.Series, level: str, further: list[str], has_intervals: bool) -> str:
    is_alone, decimals = bool(row["against"] == ""), LEVELS[level].decimals
    cells, reached = [row["label"], thousands(row["parameters"])], fixed(row[level], decimals)
    if not has_intervals:
        effect = "" if is_alone else fixed(row["effect"])
        return set_line([*cells, reached, effect, *further])
    seeds = "" if pd.isna(row["seeds"]) else str(row["seeds"])
    return set_line(
        [*cells, seeds, reached, _span(row, level, decimals), *([""] * 3 if is_alone else _effect(row)), *further]
    )


def _effect(row: pd.Series) -> list[str]:
    """Return an effect, its interval, and the smallest one that so many seeds and articles find."""
    return [fixed(row["effect"]), _span(row, "effect") + "*" * row["resolved"], _shown(row["detectable"], 2)]


def _span(row: pd.Series, name: str, decimals: int = 2) -> str:
    """Return an interval, or what it lacks; the untouched base has no seed, and lacks none."""
    if pd.isna(row[f"{name}_low"]):
        return why_none(2 if pd.isna(row["seeds"]) else int(row["seeds"]))
    return span(row[f"{name}_low"], row[f"{name}_high"], decimals)


def _side(row: pd.Series, side: str) -> list[str]:
    """Return level, step, interval and smallest step that is found of one protocol."""
    if pd.isna(row[f"{side}_step"]):
        return [fixed(row[side]), "", "", ""]
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    starred = span(low, high) + "*" * bool(row[f"{side}_resolved"])
    interval = why_none(row[f"{side}_seeds"]) if pd.isna(low) else starred
    return [fixed(row[side]), fixed(row[f"{side}_step"]), interval, _shown(row[f"{side}_detectable"], 2)]


def _stacked(words: str) -> str:
    """Set the head of a further column in lines, so that it is no wider than its numbers."""
    lines = wrap(set_head(words), LONG_HEAD, break_long_words=False)
    stacked = r"\\".join(lines)
    return rf"\shortstack{{{stacked}}}" if len(lines) > 1 else stacked


def _formula(formula: str) -> str:
    """Set a count of parameters, of which words are no symbols."""
    symbols = [word if word.isalpha() and len(word) > 1 else f"${word}$" for word in formula.split()]
    return re.sub(r"_(in|out)", r"_{\\mathrm{\1}}", " ".join(symbols))


def _shown(value: Value, decimals: int) -> str:
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else fixed(value, decimals)
