"""Paired effects and their intervals, from the NLL of every token. Needs numpy and scipy alone.

With l the NLL of a token, seed s and article a, D_sa is the mean over the article's tokens of l(stage) - l(reference).
The effect is the mean of D_sa over seeds and, weighted by tokens, articles, in nats; 100 (exp(D) - 1) is its percentage
of corpus perplexity. Its interval is a crossed bootstrap: seeds and articles are drawn anew, each with replacement and
independently of the other (A. B. Owen, "The pigeonhole bootstrap", 2007), and the percentiles are read off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import stats

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.results.power import FAMILY_ERROR, MARGINS, POWER, SMALLEST_EFFECT, seeds_for, smallest_detectable

DRAWS = 10_000  # of the bootstrap
FEWEST_ARTICLES = 5  # a bootstrap over fewer says little, and over one nothing, of how texts differ
DRAWS_SEED = 20_240_229  # one and the same for all comparisons, so that a table is the same whenever it is made
RUN_ERROR = 0.05  # how often one more run falls outside what is predicted
EQUIVALENCE_ERROR = 0.1  # two one-sided tests at 5 % are one interval of 90 % (Schuirmann, 1987)
NEGLIGIBLE = (float(np.log1p(-SMALLEST_EFFECT)), float(np.log1p(SMALLEST_EFFECT)))  # nats; between is not of interest


@dataclass(frozen=True)
class Interval:
    """Two ends, in the unit of what they enclose, and the chance that the procedure misses the truth."""

    low: float
    high: float
    error: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high

    def is_within(self, low: float, high: float) -> bool:
        """Whether all of it lies between the two values."""
        return low < self.low and self.high < high


class Comparison(Protocol):
    """An arm paired with its reference: what an effect is made of. Nats, or the log of a ratio."""

    @property
    def mean(self) -> float:
        """The effect."""

    @property
    def by_seed(self) -> np.ndarray:
        """(seeds,) the effect at each seed."""

    @property
    def articles(self) -> int:
        """How many articles it is over."""

    def drawn(self, draws: int = ...) -> np.ndarray:
        """(draws,) the effect over drawn seeds and articles."""


@dataclass(frozen=True, eq=False)
class ArticleMeans:
    """Mean NLL, or difference of it, in nats a token. values: (seeds, articles). tokens: (articles,) scored tokens.

    Or bits a byte, with bytes in the place of tokens.
    """

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

    @property
    def articles(self) -> int:
        """How many articles it is over."""
        return len(self.tokens)

    def drawn(self, draws: int = DRAWS) -> np.ndarray:
        """(draws,) means of the crossed bootstrap."""
        return bootstrap(self, draws)


@dataclass(frozen=True)
class Effect:
    """A stage against its reference, in nats; below zero is better.

    interval: crossed bootstrap; check: t interval over the seed means, at the same error. detectable: the smallest
    effect that as many seeds and articles resolve with a chance of about 80 % at that error, the larger of what the two
    intervals need. equivalence, equivalence_check: the same two intervals at 90 %. one_run: where the effect of one
    more run would fall, 95 %. seeds_wanted: seeds whose t test finds the smallest effect of interest with a chance of
    80 %, None beyond MOST_SEEDS. reach: how large it could have been at this budget (`hylorada.study.results.reach`),
    None where nothing tells. With fewer than two seeds, or than FEWEST_ARTICLES, there is the mean alone.
    """

    mean: float
    seeds: int
    interval: Interval | None = None
    check: Interval | None = None
    detectable: float | None = None
    equivalence: Interval | None = None
    equivalence_check: Interval | None = None
    one_run: Interval | None = None
    seeds_wanted: int | None = None
    reach: float | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether both intervals exclude zero: with few seeds the bootstrap alone is too narrow."""
        return bool(self.interval and self.check and self.interval.excludes(0) and self.check.excludes(0))

    @property
    def is_negligible(self) -> bool:
        """Whether it is equivalent to none within the smallest effect of interest, and could have been larger."""
        return self.equivalent_within is not None

    @property
    def equivalent_within(self) -> float | None:
        """The least of MARGINS within which it is equivalent to none: an equivalence test at 5 %.

        Both 90 % intervals lie inside, and it could have gone beyond: what could not says nothing by staying small.
        """
        held = (m for m in MARGINS if self._is_small(m) and self.reach is not None and self.reach >= np.log1p(m))
        return next(held, None)

    @property
    def is_untestable(self) -> bool:
        """Whether it looks like none and nothing says that at this budget it could have been anything else."""
        return self._is_small(SMALLEST_EFFECT) and not self.is_negligible

    def _is_small(self, margin: float) -> bool:
        both = self.equivalence, self.equivalence_check
        ends = float(np.log1p(-margin)), float(np.log1p(margin))
        return all(interval is not None and interval.is_within(*ends) for interval in both)


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


def prediction_interval(seed_means: np.ndarray, error: float = RUN_ERROR) -> Interval:
    """Where one more run would fall, M ± t·sd·sqrt(1 + 1/n), from the means of two seeds or more."""
    seeds = len(seed_means)
    half = stats.t.ppf(1 - error / 2, seeds - 1) * seed_means.std(ddof=1) * (1 + 1 / seeds) ** 0.5
    return Interval(float(seed_means.mean() - half), float(seed_means.mean() + half), error)


def family_of_effects(
    differences: Mapping[str, Comparison], draws: int = DRAWS, adjusted: bool = True
) -> dict[str, Effect]:
    """Return the effects of comparisons that are made together, with intervals adjusted for all of them by Holm.

    Holm's p is the larger of bootstrap and t test, so that it rejects just where `Effect.is_resolved`. adjusted: False
    gives each an interval for itself: an estimate, of which nothing may be said that a test would have to carry.
    """
    drawn = {name: compared.drawn(draws) for name, compared in differences.items() if has_interval(compared)}
    errors = dict.fromkeys(drawn, FAMILY_ERROR)
    if adjusted:
        p_values = [max(bootstrap_p(values), t_p(differences[name].by_seed)) for name, values in drawn.items()]
        errors = dict(zip(drawn, holm_errors(p_values).tolist(), strict=True))
    return {name: _effect(compared, drawn.get(name), errors.get(name)) for name, compared in differences.items()}


def has_interval(compared: Comparison) -> bool:
    """Whether there are seeds and articles enough to draw from."""
    return len(compared.by_seed) > 1 and compared.articles >= FEWEST_ARTICLES


def _effect(compared: Comparison, drawn: np.ndarray | None, error: float | None) -> Effect:
    by_seed = compared.by_seed
    seeds = len(by_seed)
    if drawn is None or error is None:
        return Effect(compared.mean, seeds)
    sd = float(by_seed.std(ddof=1))
    by_bootstrap = (stats.norm.ppf(1 - error / 2) + stats.norm.ppf(POWER)) * drawn.std()
    return Effect(
        mean=compared.mean,
        seeds=seeds,
        interval=percentile_interval(drawn, error),
        check=t_interval(by_seed, error),
        detectable=max(smallest_detectable(sd, seeds, error), float(by_bootstrap)),
        equivalence=percentile_interval(drawn, EQUIVALENCE_ERROR),
        equivalence_check=t_interval(by_seed, EQUIVALENCE_ERROR),
        one_run=prediction_interval(by_seed),
        seeds_wanted=seeds_for(sd, NEGLIGIBLE[1], error),
    )


def percent(nats: float) -> float:
    """100 (exp(D) - 1): a difference of mean NLL as percent of perplexity."""
    return float(100 * np.expm1(nats))
