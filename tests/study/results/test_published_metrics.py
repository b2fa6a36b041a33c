"""The published metrics as comparisons: known ratios, the slow loop, and coverage."""

import numpy as np
import pytest

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.results.published_metrics import decile_ratio, line_means, line_ratio
from hylorada.study.results.statistics import family_of_effects

WINDOW = 200


def store(nll_of_line: list[np.ndarray], article: list[int]) -> TokenNLL:
    lengths = [len(nll) for nll in nll_of_line]
    text = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(1, length + 1) for length in lengths])
    sizes = np.zeros(len(lengths), int)
    columns = dict(text=text, article=np.array(article)[text], position=place, context=place, token_id=place)
    return TokenNLL(**columns, nll=np.concatenate(nll_of_line), text_bytes=sizes, text_words=sizes)


def lines(random: np.random.Generator, articles: list[int], length: int = 120) -> list[np.ndarray]:
    return [random.exponential(1.0, length) + 2.0 + random.normal() * 0.5 for _ in articles]


ARTICLES = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]


def test_the_effect_is_the_ratio_of_the_published_perplexities():
    random = np.random.default_rng(0)
    arm, reference = (store(lines(random, ARTICLES), ARTICLES) for _ in range(2))
    ratio = line_ratio([arm], [reference])
    by_hand = np.log(arm.arithmetic_perplexity(10) / reference.arithmetic_perplexity(10))
    assert ratio.mean == pytest.approx(by_hand) and ratio.by_seed == pytest.approx([by_hand])
    by_deciles = np.log(arm.lost_in_the_middle_published() / reference.lost_in_the_middle_published())
    assert decile_ratio([arm], [reference]).mean == pytest.approx(by_deciles)


def test_short_lines_and_what_stands_beyond_the_window_do_not_count():
    random = np.random.default_rng(1)
    nll = lines(random, ARTICLES)
    whole = store(nll, ARTICLES)
    with_short = store([*nll, np.full(8, 9.0)], [*ARTICLES, 4])  # 9 tokens with the first, and ten are needed
    assert line_means([with_short]).mean == pytest.approx(line_means([whole]).mean)
    second = with_short.context.copy()
    second[60:120] = 5  # the first line's rest, scored in a second window
    cut = TokenNLL(**{**vars(with_short), "context": second})
    assert line_means([cut]).mean == pytest.approx(line_means([store([nll[0][:60], *nll[1:]], ARTICLES)]).mean)


def test_the_bootstrap_is_the_slow_loop_over_drawn_seeds_and_articles():
    random = np.random.default_rng(2)
    arms, references = ([store(lines(random, ARTICLES), ARTICLES) for _ in range(3)] for _ in range(2))
    levels = {
        id(s): {a: np.exp([s.nll[s.text == t].mean() for t, b in enumerate(ARTICLES) if a == b]) for a in range(4)}
        for s in (*arms, *references)
    }
    slow = []
    for _ in range(4_000):
        seeds, articles = random.integers(0, 3, 3), random.integers(0, 4, 4)
        means = [
            np.mean([np.concatenate([levels[id(stores[s])][a] for a in articles]).mean() for s in seeds])
            for stores in (arms, references)
        ]
        slow.append(np.log(means[0] / means[1]))
    fast = line_ratio(arms, references).drawn(10_000)
    np.testing.assert_allclose(np.quantile(fast, [0.05, 0.5, 0.95]), np.quantile(slow, [0.05, 0.5, 0.95]), atol=0.03)


def test_the_interval_of_a_known_ratio_holds_it_nineteen_times_in_twenty():
    """Every line of the arm is 3 % better, give or take chance of the seed and of the article."""
    random, held, times = np.random.default_rng(3), 0, 150
    articles = list(range(30))
    for _ in range(times):
        base = [np.full(12, 3.0 + 0.4 * random.normal()) for _ in articles]
        by_article = 0.02 * random.normal(size=30)
        arms = [
            store([nll + np.log(0.97) + chance + by_article[k] for k, nll in enumerate(base)], articles)
            for chance in 0.02 * random.normal(size=8)
        ]
        effect = family_of_effects({"step": line_ratio(arms, [store(base, articles)])}, 1_000)["step"]
        held += not effect.interval.excludes(np.log(0.97)) or not effect.check.excludes(np.log(0.97))
    assert 0.9 < held / times < 1.0


def test_equal_models_have_an_effect_of_exactly_zero():
    articles = list(range(5)) * 2
    same = [store(lines(np.random.default_rng(4), articles), articles)] * 3
    effect = family_of_effects({"step": line_ratio(same, same)})["step"]
    assert (effect.mean, effect.interval.low, effect.interval.high) == (0, 0, 0)


def test_lines_of_too_few_articles_have_an_effect_without_an_interval():
    """The published evaluation takes the first lines of a split: at a small count all are of one article."""
    for count, has in ((1, False), (4, False), (5, True)):
        articles = [k % count for k in range(10)]
        arms = [store(lines(np.random.default_rng(seed), articles), articles) for seed in range(6)]
        effect = family_of_effects({"step": line_ratio(arms[:3], arms[3:])})["step"]
        assert (effect.interval is not None) == has and effect.seeds == 3 and effect.mean != 0
        assert has or not (effect.is_resolved or effect.is_negligible)


def test_other_lines_and_other_seeds_are_refused():
    random = np.random.default_rng(5)
    one, two = store(lines(random, ARTICLES), ARTICLES), store(lines(random, ARTICLES[:-1]), ARTICLES[:-1])
    with pytest.raises(HyLoRADAError, match="same articles"):
        line_ratio([one], [two])
    with pytest.raises(HyLoRADAError, match="same texts"):
        line_ratio([one, two], [one])
    with pytest.raises(HyLoRADAError, match="3 seeds against 2"):
        line_ratio([one] * 3, [one] * 2)
