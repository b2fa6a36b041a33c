"""The coverage of the intervals is that of the procedure, from variances that are those of the records."""

import numpy as np
import pytest

from hylorada import HyLoRADAError
from hylorada.study.results.coverage import Spread, coverage, spread_of
from hylorada.study.results.statistics import ArticleMeans

TOKENS = np.full(13, 500)


def drawn(spread: Spread, seeds: int, articles: int) -> ArticleMeans:
    random = np.random.default_rng(3)
    values = spread.seeds * random.normal(size=(seeds, 1)) + spread.articles * random.normal(size=(1, articles))
    return ArticleMeans(values + spread.rest * random.normal(size=(seeds, articles)), np.full(articles, 500))


def test_the_spreads_of_an_effect_are_those_that_were_put_in():
    put_in = Spread(0.02, 0.05, 0.01)
    found = spread_of(drawn(put_in, 600, 600))
    assert [found.seeds, found.articles, found.rest] == pytest.approx([0.02, 0.05, 0.01], rel=0.1)
    with pytest.raises(HyLoRADAError, match="1 seeds and 13 articles tell no variance"):
        spread_of(ArticleMeans(np.zeros((1, 13)), TOKENS))


def test_where_seeds_alone_differ_students_interval_holds_the_truth_and_the_bootstrap_is_too_narrow():
    found = coverage(Spread(0.01, 0.0, 0.0), TOKENS, 5, 300)
    assert found["student"] == pytest.approx(0.95, abs=0.04)
    assert found["bootstrap"] < 0.92 and found["resolved"] < 0.08


def test_where_articles_alone_differ_the_bootstrap_holds_it_and_students_interval_does_not():
    found = coverage(Spread(0.0, 0.01, 0.001), TOKENS, 5, 300)
    assert found["bootstrap"] > 0.85 and found["student"] < 0.5 and found["resolved"] < 0.15
