"""What so many seeds can show: the smallest detectable effect, and the seeds that an effect of interest takes.

Both are of Student's two-sided test over seed means, whose noise is the spread `sd` of the paired effect between seeds.
"""

from functools import cache

import numpy as np
from scipy import optimize, stats

from hylorada.study.results.words import share_text

FAMILY_ERROR = 0.05  # chance of one wrong step or more in the whole ablation
POWER = 0.8
SMALLEST_EFFECT = 0.01  # of perplexity; less is not of interest
MARGINS = (0.005, SMALLEST_EFFECT)  # within which effects are called equivalent to none, the stricter first
MOST_SEEDS = 1_000  # a plan beyond this is none
FINDS = f"Finds: the smallest effect that so many seeds and articles find with a chance of {share_text(POWER)}."


def smallest_detectable(sd: float, seeds: int, error: float = FAMILY_ERROR, power: float = POWER) -> float:
    """Return the effect, in the unit of `sd`, that a two-sided t test over seed means finds with that power.

    sd: standard deviation of the paired effect over seeds.
    """
    return _shift(seeds, error, power) * sd / seeds**0.5


def seeds_for(sd: float, effect: float, error: float = FAMILY_ERROR, power: float = POWER) -> int | None:
    """Return the fewest seeds, 2 or more, whose t test finds `effect` with that power; None beyond MOST_SEEDS."""
    with_known_sd = ((stats.norm.ppf(1 - error / 2) + stats.norm.ppf(power)) * sd / effect) ** 2  # a few seeds fewer
    if with_known_sd > MOST_SEEDS:
        return None
    seeds = max(2, int(with_known_sd))
    while smallest_detectable(sd, seeds, error, power) > effect:
        seeds += 1
    return seeds


@cache
def _shift(seeds: int, error: float, power: float) -> float:
    """The same, in standard errors of the mean."""
    freedom = seeds - 1
    beyond = stats.t.ppf(1 - error / 2, freedom)
    shares = (np.arange(4_000) + 0.5) / 4_000  # the noncentral t, averaged over the chi distribution of the measured sd
    border = beyond * np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)

    def missing(shift: float) -> float:
        return (stats.norm.sf(border - shift) + stats.norm.cdf(-border - shift)).mean() - power

    return float(optimize.brentq(missing, 0.0, 3 * beyond + 10))
