"""The ablation table: what each stage adds, its perplexity, and its effect against the stage it builds on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hylorada.reading import reading
from hylorada.study.plan.ablation import BASE, STAGES
from hylorada.study.plan.rows import BITS_PER_BYTE, PERPLEXITY, Row, against_of
from hylorada.study.records.records import Records
from hylorada.study.results.columns import values
from hylorada.study.results.effects import stage_means, step_effects
from hylorada.study.results.levels import LEVELS
from hylorada.study.results.statistics import (
    FEWEST_ARTICLES,
    ArticleMeans,
    Effect,
    bootstrap,
    percent,
    percentile_interval,
    t_interval,
)


def ablation_table(records: Records) -> pd.DataFrame:
    """Return one row a stage; effects and their ends in percent of perplexity, below zero is better.

    perplexity is exp of the mean NLL over seeds and tokens, so that ratios of rows are the effects. Its interval draws
    seeds and articles; for the untouched base, which has no seed, articles alone. effect is against the row `against`,
    with its Holm-adjusted interval, the t interval that checks it, and the smallest effect so many seeds detect with a
    chance of 80 %. Where a stage has one seed, what needs more is missing.
    """
    table = study_table(records, STAGES)
    base = stage_means(records, BASE)
    table.insert(2, "adds", [STAGES[name].adds for name in table["stage"]])
    table["effect_on_base"] = [
        math.nan if name == BASE else percent((stage_means(records, name) - base).mean) for name in table["stage"]
    ]
    return table


def study_table(
    records: Records,
    rows: dict[str, Row],
    shows: Sequence[str] = (),
    level: str = PERPLEXITY,
    adjusted: bool = True,
) -> pd.DataFrame:
    """Return the rows of a study, as `ablation_table` has them; effects are against the rows that the study says.

    shows: further columns, of `hylorada.study.results.columns`. level: in what it gives its rows, in place of
    perplexity. adjusted: whether Holm adjusts its effects (`hylorada.study.results.effects.is_adjusted`); what is not
    adjusted is not called resolved.
    """
    against = against_of(rows)
    table = comparison(records, {name: row.label for name, row in rows.items()}, against, level, adjusted)
    for column in shows:
        by_stage = values(records, column, against)
        table[column] = [by_stage[stage] for stage in table["stage"]]
    return table


def comparison(
    records: Records,
    labels: Mapping[str, str],
    against: Mapping[str, str | None],
    level: str = PERPLEXITY,
    adjusted: bool = True,
) -> pd.DataFrame:
    """Return one line a stage: its level with an interval, and its effect against the stage that is named.

    level: a key of LEVELS. Effects are percent of perplexity in any case: both rows of one have one tokenizer.
    """
    kind = LEVELS[level]
    levels = {stage: stage_means(records, stage, kind.means) for stage in records.stages}
    steps = step_effects(records, against, adjusted)
    rows = []
    for name, means in levels.items():
        effect, untrained = steps.get(name, Effect(math.nan, 0)), records.seeds(name) == [None]
        seeds = pd.NA if untrained else len(means.values)
        drawn = means.articles >= FEWEST_ARTICLES and (untrained or len(means.values) > 1)
        ends = percentile_interval(bootstrap(means)) if drawn else None
        rows.append(
            {
                "stage": name,
                "label": labels[name],
                "parameters": records.record(name, records.seeds(name)[0]).trainable,
                "seeds": seeds,
                level: kind.of_mean(means.mean),
                f"{level}_low": kind.of_mean(ends.low) if ends else math.nan,
                f"{level}_high": kind.of_mean(ends.high) if ends else math.nan,
                "against": against[name] or "",
                "effect": percent(effect.mean),
                "effect_low": percent(effect.interval.low) if effect.interval else math.nan,
                "effect_high": percent(effect.interval.high) if effect.interval else math.nan,
                "error": effect.interval.error if effect.interval else math.nan,
                "check_low": percent(effect.check.low) if effect.check else math.nan,
                "check_high": percent(effect.check.high) if effect.check else math.nan,
                "adjusted": adjusted,
                "resolved": effect.is_resolved and adjusted,
                "detectable": percent(effect.detectable) if effect.detectable is not None else math.nan,
                "ceiling": math.nan if effect.reach in (None, math.inf) else percent(effect.reach),
                "equivalent_within": 100 * effect.equivalent_within if effect.equivalent_within else math.nan,
                "testable": not effect.is_untestable,
                **_in_bits(records, name, against[name]),
                **_placebo(records, name),
            }
        )
    return pd.DataFrame(rows).astype({"seeds": "Int64"})


def _in_bits(records: Records, name: str, on: str | None) -> dict[str, float]:
    """Return the effect in bits a byte, which bases of other tokenizers leave comparable."""
    level, other = (
        math.nan
        if row is None
        else _mean([records.record(row, seed).results.get(BITS_PER_BYTE, math.nan) for seed in records.seeds(row)])
        for row in (name, on)
    )
    return {"effect_bits": level - other}


def _placebo(records: Records, name: str) -> dict[str, float]:
    """Return the effect on a row of moving its weights by chance, with its interval: what is no effect."""
    taken = [records.record(name, seed).measures.placebo for seed in records.seeds(name)]
    if any(one is None for one in taken):
        return dict.fromkeys(("placebo", "placebo_low", "placebo_high", "placebo_sd"), math.nan)
    changes = ArticleMeans(np.array([one.changes for one in taken]), stage_means(records, name).tokens)
    ends = t_interval(changes.by_seed) if len(taken) > 1 else None
    return {
        "placebo": percent(changes.mean),
        "placebo_low": percent(ends.low) if ends else math.nan,
        "placebo_high": percent(ends.high) if ends else math.nan,
        "placebo_sd": _mean([one.token_sd for one in taken]),  # nats, of one token
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def read_csv(path: Path, *columns: str) -> pd.DataFrame:
    """Read a table that `hylorada table` wrote unrounded. columns: that it must have.

    Raises:
        HyLoRADAError: it is absent, is no table, or lacks a column.
    """
    with reading(path, "table", "run `hylorada table` again"):
        table = pd.read_csv(path, encoding="utf-8")
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    return table
