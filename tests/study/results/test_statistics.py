"""Effects and intervals on made-up data with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.results.power import SMALLEST_EFFECT, seeds_for, smallest_detectable
from hylorada.study.results.statistics import (
    ArticleMeans,
    article_means,
    bootstrap,
    bootstrap_p,
    family_of_effects,
    holm_errors,
    percent,
    percentile_interval,
    prediction_interval,
    t_interval,
    t_p,
)


def store(nll: np.ndarray, article: np.ndarray) -> TokenNLL:
    sizes = np.zeros(article.max() + 1, int)
    place = np.arange(1, len(nll) + 1)
    return TokenNLL(article, article, place, place, place, nll, sizes, sizes)


def crossed(
    random: np.random.Generator, seeds: int, articles: int, by_seed: float, by_article: float, rest: float
) -> ArticleMeans:
    """Differences around a true effect of zero: chance of the seed, of the article, and of the two together."""
    values = by_seed * random.normal(size=(seeds, 1)) + by_article * random.normal(size=(1, articles))
    return ArticleMeans(values + rest * random.normal(size=(seeds, articles)), np.full(articles, 300))


def test_the_mean_over_articles_is_the_mean_over_tokens():
    random, article = np.random.default_rng(0), np.repeat([0, 1, 2], [5, 50, 500])
    nll = [random.exponential(3, 555) for _ in range(2)]
    means = article_means([store(values, article) for values in nll])
    assert means.tokens.tolist() == [5, 50, 500]
    np.testing.assert_allclose(means.by_seed, [values.mean() for values in nll], rtol=1e-6)
    assert np.exp(means.mean) == pytest.approx(np.sqrt(np.exp(nll[0].mean()) * np.exp(nll[1].mean())), rel=1e-6)


def test_a_base_without_seeds_is_shared_by_all_seeds():
    stage = ArticleMeans(np.array([[3.0, 2.0], [3.5, 2.5]]), np.array([10, 30]))
    base = ArticleMeans(np.array([[4.0, 2.0]]), np.array([10, 30]))
    assert (stage - base).values.tolist() == [[-1.0, 0.0], [-0.5, 0.5]]
    assert (stage - base).mean == pytest.approx((-0.25 + 0.25) / 2)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ArticleMeans(np.zeros((2, 2)), np.array([10, 31])), "same articles"),
        (ArticleMeans(np.zeros((3, 2)), np.array([10, 30])), "2 seeds against 3"),
    ],
)
def test_what_is_not_paired_is_refused(other, said):
    with pytest.raises(HyLoRADAError, match=said):
        ArticleMeans(np.zeros((2, 2)), np.array([10, 30])) - other


def test_seeds_scored_on_other_articles_are_refused():
    with pytest.raises(HyLoRADAError, match="same articles"):
        article_means([store(np.ones(4), np.array([0, 0, 1, 1])), store(np.ones(4), np.array([0, 1, 1, 1]))])


def test_the_bootstrap_is_the_slow_loop_over_drawn_seeds_and_articles():
    random = np.random.default_rng(3)
    table = ArticleMeans(random.normal(size=(4, 6)), random.integers(50, 500, 6))
    slow = []
    for _ in range(10_000):
        seeds, articles = random.integers(0, 4, 4), random.integers(0, 6, 6)
        drawn = table.values[np.ix_(seeds, articles)].mean(axis=0)
        slow.append(np.average(drawn, weights=table.tokens[articles]))
    fast = bootstrap(table)
    assert fast.mean() == pytest.approx(np.mean(slow), abs=0.02)
    np.testing.assert_allclose(
        np.quantile(fast, [0.025, 0.5, 0.975]), np.quantile(slow, [0.025, 0.5, 0.975]), atol=0.06
    )


def test_the_bootstrap_gives_the_same_interval_every_time_and_the_mirrored_one_for_the_mirrored_effect():
    table = crossed(np.random.default_rng(1), 3, 13, 1.0, 1.0, 1.0)
    interval, again = percentile_interval(bootstrap(table)), percentile_interval(bootstrap(table))
    mirrored = percentile_interval(bootstrap(ArticleMeans(-table.values, table.tokens)))
    assert interval == again
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_a_part_that_does_nothing_has_an_effect_of_exactly_zero_that_is_not_resolved():
    effect = family_of_effects({"inert": ArticleMeans(np.zeros((3, 13)), np.full(13, 300))})["inert"]
    assert effect.mean == 0 and (effect.interval.low, effect.interval.high) == (0, 0)
    assert not effect.is_resolved and effect.detectable == 0
    assert bootstrap_p(np.zeros(100)) == 1.0


@pytest.mark.parametrize("spread", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)])
def test_the_bootstrap_holds_the_truth_nineteen_times_in_twenty(spread):
    random = np.random.default_rng(11)
    tables = [crossed(random, 12, 30, *spread) for _ in range(400)]
    held = [not percentile_interval(bootstrap(table, 1_000)).excludes(0) for table in tables]
    assert 0.89 < np.mean(held) < 0.985


def test_with_three_seeds_the_bootstrap_alone_is_too_narrow_and_the_check_mends_it():
    random = np.random.default_rng(12)
    tables = [crossed(random, 3, 13, 1.0, 0.3, 0.3) for _ in range(400)]
    alone = [percentile_interval(bootstrap(table, 1_000)).excludes(0) for table in tables]
    resolved = [family_of_effects({"step": table}, 1_000)["step"].is_resolved for table in tables]
    assert np.mean(alone) > 0.15
    assert np.mean(resolved) < 0.075


def test_five_empty_steps_give_a_false_finding_at_most_one_time_in_twenty():
    random = np.random.default_rng(13)
    families = [{k: crossed(random, 5, 13, 1.0, 1.0, 1.0) for k in "abcde"} for _ in range(150)]
    wrong = [any(effect.is_resolved for effect in family_of_effects(family, 1_000).values()) for family in families]
    assert np.mean(wrong) < 0.08


def test_the_t_interval_is_the_textbook_one():
    interval = t_interval(np.array([1.0, 2.0, 3.0]))  # mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.3027
    assert (interval.low, interval.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-5)
    assert t_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue)
    assert t_p(np.zeros(3)) == 1 and t_p(np.ones(3)) == 0


def test_the_p_value_is_the_error_at_which_the_interval_begins_to_hold_zero():
    drawn = bootstrap(
        ArticleMeans(crossed(np.random.default_rng(5), 5, 20, 1.0, 1.0, 1.0).values + 1.2, np.full(20, 300))
    )
    p = bootstrap_p(drawn)
    assert 0.001 < p < 0.5
    assert percentile_interval(drawn, p + 0.002).excludes(0) and not percentile_interval(drawn, p - 0.002).excludes(0)


def test_holm_by_hand():
    """p = .005 <= .05/4, then .01 <= .05/3, then .03 > .05/2: the procedure stops, and .04 is not looked at."""
    np.testing.assert_allclose(holm_errors([0.01, 0.04, 0.03, 0.005]), [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    np.testing.assert_allclose(holm_errors([0.2, 0.02]), [0.05 / 2 * 2, 0.05 / 2])
    np.testing.assert_allclose(holm_errors([0.04, 0.03]), [0.05 / 2] * 2)  # alone, both would have been below 5 %


def test_a_step_is_resolved_just_where_holm_rejects():
    random = np.random.default_rng(6)
    family = {k: crossed(random, 6, 13, 1.0, 0.5, 0.5) for k in range(5)}
    family = {k: ArticleMeans(table.values + 0.9 * k, table.tokens) for k, table in family.items()}
    p = np.array([max(bootstrap_p(bootstrap(table)), t_p(table.by_seed)) for table in family.values()])
    ordered = np.sort(p)
    stop = next((i for i in range(5) if ordered[i] > 0.05 / (5 - i)), 5)
    rejected = p < (ordered[stop] if stop < 5 else 1.0)
    resolved = [effect.is_resolved for effect in family_of_effects(family).values()]
    assert resolved == rejected.tolist() and 0 < sum(resolved) < 5


def test_estimates_are_not_adjusted_so_that_each_is_as_if_alone():
    random = np.random.default_rng(6)
    family = {k: crossed(random, 6, 13, 1.0, 0.5, 0.5) for k in range(5)}
    for name, effect in family_of_effects(family, 1_000, adjusted=False).items():
        alone = family_of_effects({name: family[name]}, 1_000)[name]
        assert effect.interval == alone.interval and effect.check == alone.check and effect.interval.error == 0.05


def test_the_smallest_detectable_effect_is_found_four_times_in_five():
    random, seeds, error = np.random.default_rng(7), 5, 0.05
    effect = smallest_detectable(1.0, seeds, error)
    found = stats.ttest_1samp(effect + random.normal(size=(20_000, seeds)), 0, axis=1).pvalue < error
    assert found.mean() == pytest.approx(0.8, abs=0.012)


def test_a_detectable_effect_shrinks_with_seeds_and_grows_with_their_spread():
    assert smallest_detectable(2.1, 10) == pytest.approx(2.1, abs=0.05)  # the planning table of the study
    assert smallest_detectable(2.1, 5) == pytest.approx(3.5, abs=0.05)
    assert smallest_detectable(4.2, 10) == pytest.approx(2 * smallest_detectable(2.1, 10))
    assert smallest_detectable(1.0, 3, 0.01) > smallest_detectable(1.0, 3, 0.05)


def test_the_detectable_effect_of_a_step_counts_the_articles_too():
    """Where articles disagree and seeds do not, more seeds resolve nothing."""
    table = crossed(np.random.default_rng(8), 10, 13, 0.001, 1.0, 0.0)
    effect = family_of_effects({"step": table})["step"]
    assert effect.detectable > 100 * smallest_detectable(table.by_seed.std(ddof=1), 10)


def test_one_seed_has_no_interval():
    effect = family_of_effects({"step": ArticleMeans(np.ones((1, 13)), np.full(13, 300))})["step"]
    assert (effect.interval, effect.check, effect.detectable, effect.is_resolved) == (None, None, None, False)


def test_nats_become_percent_of_perplexity():
    assert percent(np.log(1.02)) == pytest.approx(2.0)
    assert percent(np.log(0.5)) == pytest.approx(-50.0)


def test_seeds_are_planned_as_the_planning_table_has_it():
    """2 % at 80 % power, two-sided 5 %: 11, 14 and 7 seeds at a paired spread of 2.1, 2.4 and 1.5 %."""
    assert [seeds_for(sd, 2.0) for sd in (2.1, 2.4, 1.5)] == [11, 14, 7]
    assert smallest_detectable(2.1, 11) <= 2.0 < smallest_detectable(2.1, 10)
    assert seeds_for(0.0, 1.0) == 2 and seeds_for(1e6, 1.0) is None


def test_as_many_seeds_as_are_planned_find_the_effect_four_times_in_five():
    random, sd = np.random.default_rng(9), 0.012
    seeds = seeds_for(sd, SMALLEST_EFFECT)
    drawn = SMALLEST_EFFECT + sd * random.normal(size=(20_000, seeds))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert 0.79 < found.mean() < 0.86  # whole seeds only, so a little more than 80 %


def test_one_more_run_falls_inside_its_prediction_nineteen_times_in_twenty():
    random = np.random.default_rng(10)
    runs = random.normal(size=(4_000, 6))
    held = [not prediction_interval(row[:5]).excludes(row[5]) for row in runs]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
    interval = prediction_interval(np.array([1.0, 2.0, 3.0]))  # 2 ± 4.3027 sqrt(1 + 1/3)
    assert interval.high == pytest.approx(2 + 4.30265 * (4 / 3) ** 0.5, rel=1e-5)


def negligible(random: np.random.Generator, truth: float, spread: float, times: int = 300) -> float:
    """How often an effect of `truth` in perplexity is found negligible."""
    found = 0
    for _ in range(times):
        table = crossed(random, 8, 20, spread, spread, spread)
        table = ArticleMeans(table.values + np.log1p(truth), table.tokens)
        found += replace(family_of_effects({"step": table}, 1_000)["step"], reach=1.0).is_negligible
    return found / times


def test_an_effect_at_the_border_is_called_negligible_at_most_one_time_in_twenty():
    random = np.random.default_rng(14)
    assert 0.005 < negligible(random, SMALLEST_EFFECT, 0.003) < 0.085
    assert negligible(random, -SMALLEST_EFFECT, 0.003) < 0.085
    assert negligible(random, 0.03, 0.003) == 0


def test_no_effect_is_called_negligible_when_the_spread_is_small_and_not_when_it_is_large():
    random = np.random.default_rng(15)
    assert negligible(random, 0.0, 0.003) > 0.9
    assert negligible(random, 0.0, 0.03, 100) == 0
