"""The ablation by both protocols side by side, and what each part gives for its parameters."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.plan.stages import STAGES
from hylorada.study.records.records import Records
from hylorada.study.results.effects import BASE, step_effects
from hylorada.study.results.published_metrics import line_means, line_ratio
from hylorada.study.results.statistics import Effect, family_of_effects, percent

PUBLISHED = "published_"  # before a stage's name: its row in the study `as_published`


def protocol_table(published: Records | None, corrected: Records) -> pd.DataFrame:
    """Return one row a stage: level and step by the published metric under both protocols, and by corpus perplexity.

    published: the study `as_published`, None where a scale has none. Steps are percent of the stage before, below zero
    is better, each family of five adjusted by Holm.
    """
    rows = pd.DataFrame({"stage": list(STAGES), "label": [stage.label for stage in STAGES.values()]})
    sides: list[tuple[str, dict[str, float], dict[str, Effect]]] = []
    if published is not None:
        sides.append(("published", *_by_lines(published, lambda stage: PUBLISHED + stage)))
    if corrected.has_lines:
        sides.append(("lines", *_by_lines(corrected, lambda stage: stage)))
    levels = {stage: math.exp(np.mean([r["mean_nll"] for r in _results(corrected, stage)])) for stage in STAGES}
    sides.append(("corpus", levels, step_effects(corrected)))
    for name, levels, effects in sides:
        rows[name] = [levels[stage] for stage in STAGES]
        found = [effects.get(stage, Effect(math.nan, 0)) for stage in STAGES]
        rows[f"{name}_step"] = [percent(effect.mean) for effect in found]
        rows[f"{name}_low"] = [percent(effect.interval.low) if effect.interval else math.nan for effect in found]
        rows[f"{name}_high"] = [percent(effect.interval.high) if effect.interval else math.nan for effect in found]
        rows[f"{name}_seeds"] = [effect.seeds for effect in found]
        rows[f"{name}_resolved"] = [effect.is_resolved for effect in found]
    return rows


def efficiency_table(records: Records) -> pd.DataFrame:
    """Return one row a part: the parameters that its stage adds, its own gain, and the parameters for 1 % of it.

    gain: percent of perplexity that the step saves, with its Holm-adjusted interval; cost: parameters over gain, with
    the ends that the interval's give, infinite where the interval reaches zero.
    """
    trained = {stage: records.record(stage, records.seeds(stage)[0])["parameters"]["trainable"] for stage in STAGES}
    effects = step_effects(records)
    rows = []
    for name, effect in effects.items():
        added = trained[name] - trained[STAGES[name].on or BASE]
        low, high = (
            (-percent(e) for e in (effect.interval.high, effect.interval.low)) if effect.interval else (math.nan,) * 2
        )
        rows.append(
            {
                "stage": name,
                "label": STAGES[name].label.removeprefix("+ "),
                "parameters": added,
                "seeds": effect.seeds,
                "gain": -percent(effect.mean),
                "gain_low": low,
                "gain_high": high,
                "cost": added / -percent(effect.mean) if effect.is_resolved and low > 0 else math.nan,
                "cost_low": added / high if effect.is_resolved and low > 0 else math.nan,
                "cost_high": added / low if effect.is_resolved and low > 0 else math.nan,
            }
        )
    return pd.DataFrame(rows)


def largest_difference(published: Records) -> float:
    """Return the largest difference, in nats of one token, between the stages with and without an inert position bias.

    Zero as published at equal seed: no position reaches the bias.

    Raises:
        HyLoRADAError: the two stages were run with other seeds.
    """
    pair = [PUBLISHED + name for name in ("magnitude", "position_bias")]
    if published.seeds(pair[0]) != published.seeds(pair[1]):
        raise HyLoRADAError(f"{pair[0]} and {pair[1]} have other seeds; run the same of both.")
    stores = [[published.nll(stage, seed).nll for seed in published.seeds(stage)] for stage in pair]
    return float(max(np.abs(one - other).max() for one, other in zip(*stores, strict=True)))


def _by_lines(records: Records, name: Callable[[str], str]) -> tuple[dict[str, float], dict[str, Effect]]:
    """Return the published metric of each stage, and the steps by it."""
    stores = {stage: _lines(records, name(stage)) for stage in STAGES}
    levels = {stage: line_means(found).mean for stage, found in stores.items()}
    steps = {stage: line_ratio(stores[stage], stores[row.on]) for stage, row in STAGES.items() if row.on}
    return levels, family_of_effects(steps)


def _lines(records: Records, stage: str) -> list[TokenNLL]:
    return [records.lines(stage, seed) for seed in records.seeds(stage)]


def _results(records: Records, stage: str) -> list[dict[str, float]]:
    return [records.record(stage, seed)["results"] for seed in records.seeds(stage)]
