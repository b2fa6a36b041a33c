"""The published metrics as paired comparisons: ratios of levels, drawn anew over seeds and whole articles.

    P_A      mean over lines of exp(mean NLL of the line)
    LIM-PPL  mean over the ten deciles of exp(mean over texts of their mean NLL in the decile)

An effect is log(arm / reference); its bootstrap draws seeds and articles, a drawn article with all of its lines, and
takes both levels anew from the same draw. The levels are those of first windows, as the published programs cut a text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hylorada.errors import HyLoRADAError
from hylorada.metrics import MIDDLE_TOKENS
from hylorada.nll import TokenNLL
from hylorada.study.records.records import Records
from hylorada.study.results.statistics import DRAWS, ArticleMeans, bootstrap

LINE_TOKENS = 10  # a shorter line was skipped
Level = Callable[[np.ndarray], np.ndarray]  # (parts, ...) -> (...)


@dataclass(frozen=True, eq=False)
class LevelRatio:
    """log(arm / reference) of two levels, each made by `level` from the parts: means by seed and article."""

    arm: Sequence[ArticleMeans]
    reference: Sequence[ArticleMeans]
    level: Level

    @property
    def mean(self) -> float:
        """Return the effect, from means over all seeds."""
        return float(self._log_ratio(lambda part: np.array([part.mean]))[0])

    @property
    def by_seed(self) -> np.ndarray:
        """(seeds,) the effect at each seed."""
        return self._log_ratio(lambda part: part.by_seed)

    @property
    def articles(self) -> int:
        """How many articles it is over."""
        return self.arm[0].articles

    def drawn(self, draws: int = DRAWS) -> np.ndarray:
        """(draws,) the effect over drawn seeds and articles, the same ones for both levels."""
        return self._log_ratio(lambda part: bootstrap(part, draws))

    def _log_ratio(self, of: Callable[[ArticleMeans], np.ndarray]) -> np.ndarray:
        levels = [self.level(np.array([of(part) for part in parts])) for parts in (self.arm, self.reference)]
        return np.log(levels[0]) - np.log(levels[1])


def line_ratio(arm: Sequence[TokenNLL], reference: Sequence[TokenNLL]) -> LevelRatio:
    """Return the comparison by P_A; one store a seed, and one for a reference without seeds.

    Raises:
        HyLoRADAError: other lines, or another number of seeds.
    """
    return _paired([line_means(arm)], [line_means(reference)], lambda parts: parts[0])


def decile_ratio(arm: Sequence[TokenNLL], reference: Sequence[TokenNLL]) -> LevelRatio:
    """Return the comparison by LIM-PPL; as `line_ratio` otherwise."""
    return _paired(decile_means(arm), decile_means(reference), lambda parts: np.exp(parts).mean(axis=0))


def line_means(stores: Sequence[TokenNLL]) -> ArticleMeans:
    """Return the mean over an article's lines of exp(mean NLL); `tokens` are the article's lines."""
    return _by_article(stores, lambda store: [np.exp(store.text_means(LINE_TOKENS)[1])], LINE_TOKENS)[0]


def decile_means(stores: Sequence[TokenNLL]) -> list[ArticleMeans]:
    """Return for each decile the mean over an article's texts of their mean NLL in it; `tokens` are the texts."""
    return _by_article(stores, _deciles, MIDDLE_TOKENS)


def _deciles(store: TokenNLL) -> np.ndarray:
    """(10, texts) mean NLL of each decile of each long enough text."""
    texts = store.text_means(MIDDLE_TOKENS)[0]
    return np.log([store.select(store.text == text).decile_perplexities(MIDDLE_TOKENS) for text in texts]).T


def _paired(arm: list[ArticleMeans], reference: list[ArticleMeans], level: Level) -> LevelRatio:
    for one, other in zip(arm, reference, strict=True):
        _ = one - other  # refuses what is not paired
    seeds = len(arm[0].values)
    spread = [ArticleMeans(np.broadcast_to(r.values, (seeds, r.values.shape[1])), r.tokens) for r in reference]
    return LevelRatio(arm, spread, level)


def _by_article(
    stores: Sequence[TokenNLL], values: Callable[[TokenNLL], Sequence[np.ndarray]], min_tokens: int
) -> list[ArticleMeans]:
    """Average (parts, texts) values of each store over the texts of each article."""
    tables, first = [], None
    for store in (store.first_windows() for store in stores):
        texts = store.text_means(min_tokens)[0]
        article_of = dict(zip(store.text.tolist(), store.article.tolist(), strict=True))
        articles, index, counts = np.unique(
            [article_of[text] for text in texts.tolist()], return_inverse=True, return_counts=True
        )
        first = first or (texts, articles, counts)
        if not np.array_equal(first[0], texts):
            raise HyLoRADAError("the seeds were not scored on the same texts; evaluate them alike.")
        tables.append([np.bincount(index, weights=part) / counts for part in values(store)])
    return [ArticleMeans(np.array(part), first[2]) for part in zip(*tables, strict=True)]


def published_lines(records: Records, row: str) -> list[TokenNLL]:
    """Return the scored published evaluation lines of a row, a store a seed."""
    return [records.lines(row, seed) for seed in records.seeds(row)]
