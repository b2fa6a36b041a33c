"""The ablation table: what each stage adds, its perplexity, and its effect against the stage it builds on."""

import math
import re
from pathlib import Path
from textwrap import wrap

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside
from hylorada.study.columns import COLUMNS, Value, values
from hylorada.study.records import Records
from hylorada.study.rows import Row
from hylorada.study.stages import STAGES
from hylorada.study.statistics import (
    FEWEST_ARTICLES,
    ArticleMeans,
    Effect,
    article_means,
    bootstrap,
    family_of_effects,
    percent,
    percentile_interval,
    why_none,
)
from hylorada.study.studies import STUDIES

BASE = next(name for name, stage in STAGES.items() if stage.adapter is None)
BUILDS_ON = {name: stage.on for name, stage in STAGES.items()}
LONG_HEAD = 10  # characters of a column's head that stand in one line
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: rf"\{character}" for character in "&%$#_{}"
}
HEAD = r"""\begin{tabular}{@{}lp{36mm}rcrcrcr@{}}
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
FOOT = "\\bottomrule\n\\end{tabular}\n"


def ablation_table(records: Records) -> pd.DataFrame:
    """Return one row a stage; effects and their ends in percent of perplexity, below zero is better.

    perplexity is exp of the mean NLL over seeds and tokens, so that ratios of rows are the effects. Its interval draws
    seeds and articles; for the untouched base, which has no seed, articles alone. effect is against the row `against`,
    with its Holm-adjusted interval, the t interval that checks it, and the smallest effect so many seeds detect with a
    chance of 80 %. Where a stage has one seed, what needs more is missing.
    """
    table = comparison(records, {name: stage.label for name, stage in STAGES.items()}, BUILDS_ON)
    base = stage_means(records, BASE)
    table.insert(2, "adds", [STAGES[name].adds for name in table["stage"]])
    table["effect_on_base"] = [
        math.nan if name == BASE else percent((stage_means(records, name) - base).mean) for name in table["stage"]
    ]
    return table


def study_table(records: Records, rows: dict[str, Row]) -> pd.DataFrame:
    """Return the rows of a study, as `ablation_table` has them; effects are against the rows that the study says."""
    labels = {name: row.label for name, row in rows.items()}
    return comparison(records, labels, {name: row.against for name, row in rows.items()})


def comparison(records: Records, labels: dict[str, str], against: dict[str, str | None]) -> pd.DataFrame:
    """Return one line a stage: its perplexity with an interval, and its effect against the stage that is named."""
    levels = {stage: stage_means(records, stage) for stage in records.stages}
    steps = step_effects(records, against)
    rows = []
    for name, means in levels.items():
        effect, untrained = steps.get(name, Effect(math.nan, 0)), records.seeds(name) == [None]
        seeds = pd.NA if untrained else len(means.values)
        drawn = means.articles >= FEWEST_ARTICLES and (untrained or len(means.values) > 1)
        level = percentile_interval(bootstrap(means)) if drawn else None
        rows.append(
            {
                "stage": name,
                "label": labels[name],
                "parameters": records.record(name, records.seeds(name)[0])["parameters"]["trainable"],
                "seeds": seeds,
                "perplexity": math.exp(means.mean),
                "perplexity_low": math.exp(level.low) if level else math.nan,
                "perplexity_high": math.exp(level.high) if level else math.nan,
                "against": against[name] or "",
                "effect": percent(effect.mean),
                "effect_low": percent(effect.interval.low) if effect.interval else math.nan,
                "effect_high": percent(effect.interval.high) if effect.interval else math.nan,
                "error": effect.interval.error if effect.interval else math.nan,
                "check_low": percent(effect.check.low) if effect.check else math.nan,
                "check_high": percent(effect.check.high) if effect.check else math.nan,
                "resolved": effect.is_resolved,
                "detectable": percent(effect.detectable) if effect.detectable is not None else math.nan,
            }
        )
    return pd.DataFrame(rows).astype({"seeds": "Int64"})


def write_ablation(records: Records, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table twice, as a LaTeX tabular for the paper and, unrounded, as CSV; return it."""
    table = ablation_table(records)
    return write_table(table, HEAD + "".join(_line(row) for _, row in table.iterrows()) + FOOT, tex, csv)


def write_study(records: Records, rows: dict[str, Row], name: str, tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table of a study into two folders, as LaTeX and as CSV, under its name; return it."""
    table = study_table(records, rows)
    shown = STUDIES[name].shows
    for column in shown:
        found = values(records, column, {stage: row.against for stage, row in rows.items()})
        table[column] = [found[stage] for stage in table["stage"]]
    has_intervals = bool(table["effect_low"].notna().any())
    head = (STUDY_HEAD if has_intervals else SINGLE_HEAD).format(
        columns="c" * len(shown), empty=" & " * len(shown), heads="".join(f" & {_head(COLUMNS[c].head)}" for c in shown)
    )
    body = "".join(_study_line(row, shown, has_intervals) for _, row in table.iterrows())
    return write_table(table, head + body + FOOT, tex / f"{name}.tex", csv / f"{name}.csv")


def write_table(table: pd.DataFrame, tabular: str, tex: Path, csv: Path) -> pd.DataFrame:
    """Write a table as the LaTeX tabular that was made of it and, unrounded, as CSV; return it."""
    with written_beside(tex) as beside:
        beside.write_text(tabular)
    with written_beside(csv) as beside:
        table.to_csv(beside, index=False)
    return table


def stage_means(records: Records, stage: str) -> ArticleMeans:
    """Return the mean NLL by seed and article of one stage.

    Raises:
        HyLoRADAError: the stage has no record, or its tokens were not kept.
    """
    if stage not in records.stages:
        raise HyLoRADAError(f"stage {stage!r} has no record; there are {', '.join(records.stages)}.")
    return article_means([records.nll(stage, seed) for seed in records.seeds(stage)])


def step_effects(records: Records, against: dict[str, str | None] = BUILDS_ON) -> dict[str, Effect]:
    """Return the effect of each stage against the one named: by default the primary family, adjusted together.

    Raises:
        HyLoRADAError: a stage that another builds on has no record, or two stages have other seeds.
    """
    differences = {}
    for name in records.stages:
        on = against[name]
        if on is None:
            continue
        if records.seeds(on) != [None] and records.seeds(on) and records.seeds(on) != records.seeds(name):
            raise HyLoRADAError(
                f"stage {name!r} has the seeds {records.seeds(name)} and {on!r} has {records.seeds(on)}; "
                "effects are paired by seed, so run the same of both."
            )
        differences[name] = stage_means(records, name) - stage_means(records, on)
    return family_of_effects(differences)


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


def span(low: float, high: float) -> str:
    """Return LaTeX for an interval."""
    return f"{fixed(low)} to {fixed(high)}"


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


def _head(words: str) -> str:
    """Set the head of a further column in lines, so that it is no wider than its numbers."""
    lines = wrap(words, LONG_HEAD, break_long_words=False)
    stacked = r"\\".join(lines)
    return rf"\shortstack{{{stacked}}}" if len(lines) > 1 else words


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
