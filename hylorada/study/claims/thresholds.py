"""The rules that turn a measured effect or level into a verdict; protocols are not known here.

E is the published log ratio, M the measured one; both are below zero where perplexity falls.
"""

import math

import numpy as np

from hylorada.study.claims.verdict import (
    ABSOLUTE_VALUE,
    DIRECTION_ONLY,
    DOES_NOT_TRANSFER,
    INCONCLUSIVE,
    MISMATCH,
    NOT_REPRODUCED,
    REPRODUCED,
    TRANSFERS,
    UNDECIDED,
    Column,
)
from hylorada.study.results.power import POWER, SMALLEST_EFFECT
from hylorada.study.results.statistics import Effect, percent, prediction_interval
from hylorada.study.results.words import why_none

SAME_BASELINE = 0.005  # relative: the untouched base has nothing random
TRANSFER = {
    REPRODUCED: TRANSFERS,
    DIRECTION_ONLY: TRANSFERS,
    NOT_REPRODUCED: DOES_NOT_TRANSFER,
    INCONCLUSIVE: UNDECIDED,
}


def log_ratio(gain: float) -> float:
    """Return E of a published gain in percent, positive where perplexity falls."""
    return math.log1p(-gain / 100)


def effect_verdict(effect: Effect, published: float) -> str:
    """Hold an effect against the published E, by the intervals of both the bootstrap and the t test."""
    if effect.is_resolved and effect.mean * published > 0:
        assert effect.one_run is not None
        return DIRECTION_ONLY if effect.one_run.excludes(published) else REPRODUCED
    too_small = effect.is_negligible and abs(percent(published)) > 100 * SMALLEST_EFFECT
    return NOT_REPRODUCED if effect.is_resolved or too_small else INCONCLUSIVE


def effect_words(effect: Effect, published: float | None = None) -> str:
    """Say the effect in percent of perplexity, its interval, what was published, and what more seeds would show."""
    words = f"perplexity {_signed(effect.mean)} %"
    if effect.interval is None:
        words += f" with {why_none(effect.seeds)}, so without an interval"
    else:
        level = 100 * (1 - effect.interval.error)
        words += f" ({level:.3g} % interval {_signed(effect.interval.low)} to {_signed(effect.interval.high)}, "
        words += f"{_seeds(effect.seeds)})"
    if published is not None:
        words += f"; published as a change of {_signed(published)} %"
    if effect.is_untestable:
        words += f"; {untestable_words(effect)}"
    elif effect.detectable is not None and not effect.is_resolved and not effect.is_negligible:
        words += f"; {_signed(effect.detectable).lstrip('+')} % would be detected with a chance of {100 * POWER:g} %, "
        words += still_needed(effect)
    return words


def untestable_words(effect: Effect) -> str:
    """Say why an effect that looks like none is not called so."""
    beyond = "nothing tells that it could have been more"
    if effect.reach is not None:
        beyond = f"it could have been {_signed(effect.reach).lstrip('+')} % at most"
    return f"within {100 * SMALLEST_EFFECT:g} %, but {beyond}, so not testable at this budget"


def still_needed(effect: Effect) -> str:
    """Say how many seeds the smallest effect of interest still takes."""
    if effect.seeds_wanted is None:
        return f"and no number of seeds shows {100 * SMALLEST_EFFECT:g} %"
    missing = effect.seeds_wanted - effect.seeds
    if missing <= 0:
        return f"and {100 * SMALLEST_EFFECT:g} % takes more articles rather than seeds"
    return f"and {100 * SMALLEST_EFFECT:g} % takes {missing} more seed{'s' * (missing > 1)}"


def effect_column(effect: Effect, published: float) -> Column:
    """Return verdict and words together."""
    verdict = effect_verdict(effect, published)
    words = effect_words(effect, published)
    if verdict == DIRECTION_ONLY:
        words += f"; measured over published {effect.mean / published:.2g}"
    return Column(verdict, words)


def level_column(levels: np.ndarray, published: float, deterministic: bool) -> Column:
    """Hold a published perplexity against the measured ones, (seeds,): one for a baseline without anything random."""
    mean = float(np.exp(np.log(levels).mean()))
    words = f"perplexity {mean:.2f}"
    if deterministic:
        near = abs(mean / published - 1) <= SAME_BASELINE
        words += f"; published {published:.2f}, and {100 * SAME_BASELINE:g} % of it are allowed"
        return Column(ABSOLUTE_VALUE if near else MISMATCH, words)
    if len(levels) < 2:
        return Column(INCONCLUSIVE, f"{words} with one seed, so without an interval; published {published:.2f}")
    run = prediction_interval(np.log(levels))
    words += f"; one run falls between {math.exp(run.low):.2f} and {math.exp(run.high):.2f} ({_seeds(len(levels))}); "
    words += f"published {published:.2f}"
    return Column(MISMATCH if run.excludes(math.log(published)) else ABSOLUTE_VALUE, words)


def _signed(nats: float) -> str:
    value = percent(nats)
    return f"{value:+.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:+.2g}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"
