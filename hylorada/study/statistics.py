"""Paired effects and their intervals, from the NLL of every token. Needs numpy and scipy alone.

With l the NLL of a token, seed s and article a, D_sa is the mean over the article's tokens of l(stage) - l(reference).
The effect is the mean of D_sa over seeds and, weighted by tokens, articles, in nats; 100 (exp(D) - 1) is its percentage
of corpus perplexity. Its interval is a crossed bootstrap: seeds and articles are drawn anew, each with replacement and
independently of the other (A. B. Owen, "The pigeonhole bootstrap", 2007), and the percentiles are read off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL

DRAWS = 10_000  # of the bootstrap
DRAWS_SEED = 20_240_229  # one and the same for all comparisons, so that a table is the same whenever it is made
FAMILY_ERROR = 0.05  # chance of one wrong step or more in the whole ablation
SMALLEST_EFFECT = 0.01  # of perplexity; less is not of interest
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """Two ends, in the unit of what they enclose, and the chance that the procedure misses the truth."""

    low: float
    high: float
    error: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


@dataclass(frozen=True, eq=False)
class ArticleMeans:
    """Mean NLL, or difference of it, in nats a token. values: (seeds, articles). tokens: (articles,) scored tokens."""

    values: np.ndarray
    tokens: np.ndarray

    def __sub__(self, reference: "ArticleMeans") -> "ArticleMeans":
        """Return the paired differences; a reference of one row, the untouched base, is shared by all seeds.

        Raises:
            HyLoRADAError: other tokens, or another number of seeds.
        """
        if not np.array_equal(self.tokens, reference.tokens):
            raise HyLoRADAError("the two were not scored on the same articles, so their differences are not paired.")
        if len(reference.values) not in (1, len(self.values)):
            raise HyLoRADAError(
                f"{len(self.values)} seeds against {len(reference.values)} cannot be paired; run equal seeds of both."
            )
        return ArticleMeans(self.values - reference.values, self.tokens)

    @property
    def by_seed(self) -> np.ndarray:
        """(seeds,) mean over all tokens."""
        return self.values @ (self.tokens / self.tokens.sum())

    @property
    def mean(self) -> float:
        """Mean over seeds and tokens."""
        return float(self.by_seed.mean())


@dataclass(frozen=True)
class Effect:
    """A stage against its reference, in nats; below zero is better.

    interval: crossed bootstrap; check: t interval over the seed means, at the same error. detectable: the smallest
    effect that as many seeds and articles resolve with a chance of about 80 % at that error, the larger of what the two
    intervals need. All three are None with fewer than two seeds.
    """

    mean: float
    seeds: int
    interval: Interval | None = None
    check: Interval | None = None
    detectable: float | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether both intervals exclude zero: with few seeds the bootstrap alone is too narrow."""
        return bool(self.interval and self.check and self.interval.excludes(0) and self.check.excludes(0))


def article_means(stores: Sequence[TokenNLL]) -> ArticleMeans:
    """Average the tokens of each article, one store a seed.

    Raises:
        HyLoRADAError: the stores do not hold the same articles at the same lengths.
    """
    by_article = [store.nll_by_article() for store in stores]
    articles, _, tokens = by_article[0]
    if any(not np.array_equal(other[0], articles) or not np.array_equal(other[2], tokens) for other in by_article):
        raise HyLoRADAError("the seeds were not scored on the same articles; evaluate them alike.")
    return ArticleMeans(np.array([means for _, means, _ in by_article]), tokens)


def bootstrap(table: ArticleMeans, draws: int = DRAWS) -> np.ndarray:
    """(draws,) means over drawn seeds and drawn articles; a drawn article counts with all of its tokens."""
    seeds, articles = table.values.shape
    generator = np.random.default_rng(DRAWS_SEED)
    seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)  # (draws, seeds)
    article_counts = generator.multinomial(articles, np.full(articles, 1 / articles), size=draws)  # (draws, articles)
    weights = article_counts * table.tokens  # (draws, articles)
    sums = np.einsum("ds,sa,da->d", seed_counts / seeds, table.values, weights, optimize=True)
    return sums / weights.sum(axis=1)


def percentile_interval(drawn: np.ndarray, error: float = FAMILY_ERROR) -> Interval:
    """The middle of the drawn values, with half of `error` on either side."""
    low, high = np.quantile(drawn, [error / 2, 1 - error / 2])
    return Interval(float(low), float(high), error)


def bootstrap_p(drawn: np.ndarray) -> float:
    """Two-sided p: the error at which the percentile interval begins to hold zero; never below 2/(draws + 1)."""
    below, above = (drawn <= 0).sum(), (drawn >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1)))


def t_interval(seed_means: np.ndarray, error: float = FAMILY_ERROR) -> Interval:
    """Student's interval of the mean over two seeds or more, the articles taken as given."""
    half = stats.t.ppf(1 - error / 2, len(seed_means) - 1) * stats.sem(seed_means)
    return Interval(float(seed_means.mean() - half), float(seed_means.mean() + half), error)


def t_p(seed_means: np.ndarray) -> float:
    """Two-sided p of Student's test: the error at which `t_interval` begins to hold zero."""
    if np.ptp(seed_means) == 0:  # a part that does nothing gives the same at every seed
        return float(seed_means[0] == 0)
    return float(stats.ttest_1samp(seed_means, 0.0).pvalue)


def holm_errors(p_values: Sequence[float], error: float = FAMILY_ERROR) -> np.ndarray:
    """Return the error each of m intervals may make, so that it excludes zero just when Holm's procedure rejects.

    The smallest p is held to error/m, the next to error/(m-1), and so on up to the first that is not below its own;
    that one and all after it are held to that one's.
    """
    allowed = np.empty(len(p_values))
    left = len(p_values)
    for index in np.argsort(p_values, kind="stable"):
        allowed[index] = error / left
        left -= p_values[index] <= error / left
    return allowed


def smallest_detectable(sd: float, seeds: int, error: float = FAMILY_ERROR, power: float = POWER) -> float:
    """Return the effect, in the unit of `sd`, that a two-sided t test over seed means finds with that power.

    sd: standard deviation of the paired effect over seeds.
    """
    freedom = seeds - 1
    beyond = stats.t.ppf(1 - error / 2, freedom)
    shares = (np.arange(4_000) + 0.5) / 4_000  # the noncentral t, averaged over the chi distribution of the measured sd
    border = beyond * np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)

    def missing(shift: float) -> float:
        return (stats.norm.sf(border - shift) + stats.norm.cdf(-border - shift)).mean() - power

    return float(optimize.brentq(missing, 0.0, 3 * beyond + 10) * sd / seeds**0.5)


def family_of_effects(differences: Mapping[str, ArticleMeans], draws: int = DRAWS) -> dict[str, Effect]:
    """Return the effects of comparisons that are made together, with intervals adjusted for all of them by Holm.

    Holm's p is the larger of bootstrap and t test, so that it rejects just where `Effect.is_resolved`.
    """
    drawn = {name: bootstrap(table, draws) for name, table in differences.items() if len(table.values) > 1}
    p_values = [max(bootstrap_p(values), t_p(differences[name].by_seed)) for name, values in drawn.items()]
    errors = dict(zip(drawn, holm_errors(p_values).tolist(), strict=True))
    return {name: _effect(table, drawn.get(name), errors.get(name)) for name, table in differences.items()}


def _effect(table: ArticleMeans, drawn: np.ndarray | None, error: float | None) -> Effect:
    seeds = len(table.values)
    if drawn is None or error is None:
        return Effect(table.mean, seeds)
    by_bootstrap = (stats.norm.ppf(1 - error / 2) + stats.norm.ppf(POWER)) * drawn.std()
    by_seeds = smallest_detectable(float(table.by_seed.std(ddof=1)), seeds, error)
    interval, check = percentile_interval(drawn, error), t_interval(table.by_seed, error)
    return Effect(table.mean, seeds, interval, check, max(by_seeds, float(by_bootstrap)))


def percent(nats: float) -> float:
    """100 (exp(D) - 1): a difference of mean NLL as percent of perplexity."""
    return float(100 * np.expm1(nats))
