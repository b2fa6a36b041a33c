"""How often the intervals hold the truth at the real design: simulated from the variances of a table's own effects.

A paired effect of seed s and article a is taken apart as D_sa = D + u_s + v_a + e_sa, the three variances from the
two-way analysis of variance of the records. Effects of known truth are then drawn from them, normal, for as many seeds
as asked and the articles there are, and judged as `statistics` judges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.study.records.records import Records
from hylorada.study.results.effects import stage_means
from hylorada.study.results.power import FAMILY_ERROR
from hylorada.study.results.statistics import ArticleMeans, bootstrap, percent, percentile_interval, t_interval

DRAWS = 1_000  # of each simulated bootstrap
SEED = 20_261_128


@dataclass(frozen=True)
class Spread:
    """Standard deviations of an effect, in nats: between seeds, between articles, and of what is left of each pair."""

    seeds: float
    articles: float
    rest: float


def spread_of(effect: ArticleMeans) -> Spread:
    """Take an effect apart (HyLoRADAError for one of fewer than two seeds or articles)."""
    seeds, articles = effect.values.shape
    if min(seeds, articles) < 2:
        raise HyLoRADAError(f"{seeds} seeds and {articles} articles tell no variance; take two of each or more.")
    mean, by_seed, by_article = effect.values.mean(), effect.values.mean(axis=1), effect.values.mean(axis=0)
    rest = effect.values - by_seed[:, None] - by_article[None] + mean
    of_rest = (rest**2).sum() / ((seeds - 1) * (articles - 1))
    of_seeds = max(0.0, by_seed.var(ddof=1) - of_rest / articles)
    of_articles = max(0.0, by_article.var(ddof=1) - of_rest / seeds)
    return Spread(*(float(variance**0.5) for variance in (of_seeds, of_articles, of_rest)))


def coverage(
    spread: Spread, tokens: np.ndarray, seeds: int, times: int, error: float = FAMILY_ERROR
) -> dict[str, float]:
    """Return how often (0 to 1) each interval holds a truth of zero, and how often none is called an effect.

    tokens: (articles,) scored tokens. bootstrap, student: the two intervals at that error. resolved: both exclude zero.
    """
    generator = np.random.default_rng(SEED)
    held = {"bootstrap": 0, "student": 0, "resolved": 0}
    for _ in range(times):
        by_seed, by_article = generator.normal(size=(seeds, 1)), generator.normal(size=(1, len(tokens)))
        rest = generator.normal(size=(seeds, len(tokens)))
        drawn = ArticleMeans(spread.seeds * by_seed + spread.articles * by_article + spread.rest * rest, tokens)
        missed = [
            percentile_interval(bootstrap(drawn, DRAWS), error).excludes(0),
            t_interval(drawn.by_seed, error).excludes(0),
        ]
        held["bootstrap"] += not missed[0]
        held["student"] += not missed[1]
        held["resolved"] += all(missed)
    return {name: count / times for name, count in held.items()}


def coverage_table(
    records: Records, against: Mapping[str, str | None], seeds: Sequence[int], times: int
) -> pd.DataFrame:
    """Return one row an effect and number of seeds: its spreads in percent of perplexity, and `coverage`."""
    rows = []
    for name in records.stages:
        if (on := against[name]) is None or len(records.seeds(name)) < 2:
            continue
        effect = stage_means(records, name) - stage_means(records, on)
        spread = spread_of(effect)
        told = {f"sd_{kind}": percent(value) for kind, value in vars(spread).items()}
        for count in seeds:
            rows.append({"stage": name, "seeds": count, **told, **coverage(spread, effect.tokens, count, times)})
    return pd.DataFrame(rows)
