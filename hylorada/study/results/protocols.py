"""The ablation by both protocols side by side, and what each part gives for its parameters."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.budget import cut_words, is_cut_short
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.rows import against_of
from hylorada.study.records.records import Records
from hylorada.study.results.effects import step_effects
from hylorada.study.results.published_metrics import line_means, line_ratio, published_lines
from hylorada.study.results.statistics import Effect, family_of_effects, percent


def protocol_table(published: Records | None, corrected: Records) -> pd.DataFrame:
    """Return one row a stage: level and step by the published metric under both protocols, and by corpus perplexity.

    published: the study `as_published`, None where a scale has none. Steps are percent of the stage before, below zero
    is better, each family of five adjusted by Holm. published_cut, published_short: how far the published procedure is
    cut, and whether it stops before its last step: then none of its steps is called resolved.
    """
    rows = pd.DataFrame({"stage": list(STAGES), "label": [stage.label for stage in STAGES.values()]})
    sides: list[tuple[str, dict[str, float], dict[str, Effect]]] = []
    if published is not None:
        sides.append(("published", *_by_lines(published, AS_PUBLISHED_ROWS)))
    if corrected.has_lines:
        sides.append(("lines", *_by_lines(corrected, {stage: stage for stage in STAGES})))
    levels = {stage: math.exp(np.mean([r["mean_nll"] for r in _results(corrected, stage)])) for stage in STAGES}
    sides.append(("corpus", levels, step_effects(corrected, against_of(STAGES))))
    cut, short = (cut_words(published.asked), is_cut_short(published.asked)) if published is not None else ("", False)
    for name, levels, effects in sides:
        rows[name] = [levels[stage] for stage in STAGES]
        steps = [effects.get(stage, Effect(math.nan, 0)) for stage in STAGES]
        rows[f"{name}_step"] = [percent(effect.mean) for effect in steps]
        rows[f"{name}_low"] = [percent(effect.interval.low) if effect.interval else math.nan for effect in steps]
        rows[f"{name}_high"] = [percent(effect.interval.high) if effect.interval else math.nan for effect in steps]
        rows[f"{name}_detectable"] = [_percent_of(effect.detectable) for effect in steps]
        rows[f"{name}_seeds"] = [effect.seeds for effect in steps]
        decides = name != "published" or not short
        rows[f"{name}_resolved"] = [effect.is_resolved and decides for effect in steps]
    return rows.assign(published_cut=cut, published_short=short)


def share_run(table: pd.DataFrame) -> str:
    """Return in brackets what part of the published procedure was run, and whether it decides; nothing of all of it."""
    cut = "".join(table["published_cut"].dropna().unique())
    undecided = ", not decided" * bool(table["published_short"].any())
    return f" ({cut}{undecided})" if cut else ""


def efficiency_table(records: Records) -> pd.DataFrame:
    """Return one row a part: the parameters that its stage adds, its own step, and the parameters for 1 % less.

    step: change of perplexity in percent, below zero is better, with its Holm-adjusted interval; cost: parameters over
    what the step saves, with the ends that the interval's give, nan where the interval reaches zero.
    """
    trained = {stage: records.record(stage, records.seeds(stage)[0]).trainable for stage in STAGES}
    effects = step_effects(records, against_of(STAGES))
    rows = []
    for name, effect in effects.items():
        added = trained[name] - trained[STAGES[name].against]
        step = percent(effect.mean)
        ends = (effect.interval.low, effect.interval.high) if effect.interval else (math.nan,) * 2
        low, high = map(percent, ends)
        bounded = effect.is_resolved and high < 0
        rows.append(
            {
                "stage": name,
                "label": STAGES[name].in_words,
                "parameters": added,
                "seeds": effect.seeds,
                "step": step,
                "step_low": low,
                "step_high": high,
                "detectable": _percent_of(effect.detectable),
                "cost": added / -step if bounded else math.nan,
                "cost_low": added / -low if bounded else math.nan,
                "cost_high": added / -high if bounded else math.nan,
            }
        )
    return pd.DataFrame(rows)


def largest_difference(published: Records) -> float:
    """Return the largest difference, in nats of one token, between the stages with and without an inert position bias.

    Zero as published at equal seed: no position reaches the bias.

    Raises:
        HyLoRADAError: the two stages were run with other seeds.
    """
    pair = [AS_PUBLISHED_ROWS[stage] for stage in ("magnitude", "position_bias")]
    if published.seeds(pair[0]) != published.seeds(pair[1]):
        raise HyLoRADAError(f"{pair[0]} and {pair[1]} have other seeds; run the same of both.")
    stores = [[published.nll(stage, seed).nll for seed in published.seeds(stage)] for stage in pair]
    return float(max(np.abs(one - other).max() for one, other in zip(*stores, strict=True)))


def steps_by_lines(records: Records, row_of: Mapping[str, str]) -> dict[str, Effect]:
    """Return the steps of the stages by the published metric; row_of: what the records call a stage."""
    return _by_lines(records, row_of)[1]


def _by_lines(records: Records, row_of: Mapping[str, str]) -> tuple[dict[str, float], dict[str, Effect]]:
    """Return the published metric of each stage, and the steps by it."""
    stores = {stage: published_lines(records, row_of[stage]) for stage in STAGES}
    levels = {stage: line_means(lines).mean for stage, lines in stores.items()}
    steps = {stage: line_ratio(stores[stage], stores[row.against]) for stage, row in STAGES.items() if row.against}
    return levels, family_of_effects(steps)


def _percent_of(nats: float | None) -> float:
    return math.nan if nats is None else percent(nats)


def _results(records: Records, stage: str) -> list[dict[str, float]]:
    return [records.record(stage, seed).results for seed in records.seeds(stage)]
