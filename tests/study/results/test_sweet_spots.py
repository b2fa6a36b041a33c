"""The smallest row that is as good as the best, as far as seeds can tell."""

from types import SimpleNamespace

import numpy as np
import pytest

from hylorada.nll import TokenNLL
from hylorada.study.records.records import Records
from hylorada.study.results.sweet_spots import sweet_spot

ROWS = ("small", "middle", "large")
ARTICLES, TOKENS = 13, 40


def store(level: float, row: int, seed: int) -> TokenNLL:
    """Articles that differ much, rows that differ by `level`, and a little chance by article and by seed."""
    article = np.repeat(np.arange(ARTICLES), TOKENS)
    by_article = np.random.default_rng(0).normal(3.0, 0.5, ARTICLES)
    chance = np.random.default_rng([row, seed]).normal(0, 0.003, ARTICLES + 1)
    position = np.tile(np.arange(1, TOKENS + 1), ARTICLES)
    size = np.full(ARTICLES, TOKENS)
    return TokenNLL(
        text=article,
        article=article,
        position=position,
        context=position,
        token_id=position,
        nll=(by_article + chance[:-1] + chance[-1] + level)[article],
        text_bytes=size * 4,
        text_words=size,
    )


def sweep(levels: tuple[float, ...], seeds: int) -> Records:
    keys = [(row, seed) for row in ROWS for seed in range(seeds)]
    tokens = {(row, seed): store(levels[ROWS.index(row)], ROWS.index(row), seed) for row, seed in keys}
    return Records({key: SimpleNamespace(name=f"{key[0]}-seed{key[1]}") for key in keys}, tokens)


@pytest.mark.parametrize(
    ("levels", "smallest"),
    [
        ((0.0, 0.0, -0.003), "small"),  # all alike
        ((0.1, 0.0, -0.003), "middle"),
        ((0.2, 0.1, 0.0), "large"),  # every step pays
    ],
)
def test_the_sweet_spot_is_the_smallest_row_that_is_not_told_from_the_best(levels, smallest):
    found = sweet_spot(sweep(levels, seeds=5), ROWS)
    assert found.smallest == smallest
    assert (found.detectable is None) == (found.smallest == found.best)


def test_a_larger_row_that_is_as_good_is_not_the_sweet_spot():
    found = sweet_spot(sweep((0.0, 0.1, 0.1), seeds=5), ROWS)
    assert (found.best, found.smallest) == ("small", "small")


def test_what_would_have_been_missed_is_said_in_percent():
    """Chance of 0.003 nats lets five seeds find a difference of two percent, and not one of a tenth of that."""
    assert 0.2 < sweet_spot(sweep((0.0, 0.0, -0.003), seeds=5), ROWS).detectable < 2


def test_one_seed_has_a_best_row_and_no_sweet_spot():
    found = sweet_spot(sweep((0.2, 0.1, 0.0), seeds=1), ROWS)
    assert (found.best, found.smallest, found.detectable) == ("large", None, None)
