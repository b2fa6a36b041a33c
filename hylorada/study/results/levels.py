"""In what a table gives the level of a row: perplexity, or bits a byte where its rows have tokenizers of their own.

A perplexity is by token, so that two of different tokenizers say nothing of one another. Bytes are of the text.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.plan.rows import BITS_PER_BYTE, PERPLEXITY
from hylorada.study.results.statistics import ArticleMeans, article_means


@dataclass(frozen=True)
class Level:
    """head, short: what a table calls it. means: of the stores of a row, one a seed. of_mean: the level that a mean is.

    result: of a record's results, what the means are of.
    """

    head: str
    short: str
    decimals: int
    means: Callable[[Sequence[TokenNLL]], ArticleMeans]
    of_mean: Callable[[float], float]
    result: str


def byte_means(stores: Sequence[TokenNLL]) -> ArticleMeans:
    """Average the bytes of each article, in bits a byte, one store a seed.

    Raises:
        HyLoRADAError: the bytes are not known, or the stores do not hold the same articles.
    """
    by_token = article_means(stores)
    sizes = np.array([article_bytes(store) for store in stores])
    if not sizes.all() or (sizes != sizes[0]).any():
        raise HyLoRADAError("the bytes of these articles are not known, or not those of every seed; score them again.")
    return ArticleMeans(by_token.values * by_token.tokens / sizes / math.log(2), sizes[0])


def article_bytes(store: TokenNLL) -> np.ndarray:
    """(articles,) bytes that the scored tokens of each article stand for, in the order of `nll_by_article`."""
    texts, first = np.unique(store.text, return_index=True)
    _, index = np.unique(store.article[first], return_inverse=True)
    return np.bincount(index, weights=store.text_bytes[texts]).astype(np.int64)


LEVELS: dict[str, Level] = {
    PERPLEXITY: Level("perplexity", "ppl.", 2, article_means, math.exp, "mean_nll"),
    BITS_PER_BYTE: Level("bits a byte", "bits a byte", 4, byte_means, float, BITS_PER_BYTE),
}


def level_of(table: pd.DataFrame) -> str:
    """Return in which of LEVELS the frame of a study has its rows."""
    return next(name for name in LEVELS if name in table)
