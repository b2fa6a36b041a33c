"""Every branch of the rules that turn effects and levels into verdicts, on effects made by hand."""

import numpy as np
import pytest

from hylorada.errors import HyLoRADAError
from hylorada.study.claims.thresholds import effect_column, effect_verdict, effect_words, level_column, log_ratio
from hylorada.study.claims.verdict import ELSEWHERE, GROUPS, PASSED_ON, VERDICTS, Column, Finding, settle, verdict_group
from hylorada.study.results.statistics import Effect, Interval


def effect(
    mean: float,
    half: float,
    run: float | None = None,
    narrow: float | None = None,
    check: float | None = None,
    reach: float | None = 0.02,
) -> Effect:
    """Percent of perplexity, roughly: ± half is the adjusted interval, ± run one run, ± narrow the 90 % interval."""

    def around(width: float, error: float) -> Interval:
        return Interval((mean - width) / 100, (mean + width) / 100, error)

    narrow = half if narrow is None else narrow
    return Effect(
        mean=mean / 100,
        seeds=10,
        interval=around(half, 0.01),
        check=around(half if check is None else check, 0.01),
        detectable=0.02,
        equivalence=around(narrow, 0.1),
        equivalence_check=around(narrow, 0.1),
        one_run=around(2 * half if run is None else run, 0.05),
        seeds_wanted=17,
        reach=reach,
    )


@pytest.mark.parametrize(
    ("measured", "published", "verdict"),
    [
        (effect(-5.0, 1.0), -0.05, "REPRODUCED"),
        (effect(-5.0, 1.0), -0.068, "REPRODUCED"),  # inside what one run may give, ± 2
        (effect(-5.0, 1.0), -0.08, "DIRECTION ONLY"),
        (effect(-5.0, 1.0), -0.02, "DIRECTION ONLY"),  # too small a published effect is outside too
        (effect(-5.0, 1.0), +0.05, "NOT REPRODUCED"),
        (effect(+5.0, 1.0), -0.05, "NOT REPRODUCED"),
        (effect(0.1, 0.5), -0.05, "NOT REPRODUCED"),  # not resolved, and certainly less than 1 %
        (effect(0.1, 0.5), -0.005, "INCONCLUSIVE"),  # as above, but no more than that was published
        (effect(-0.8, 3.0), -0.05, "INCONCLUSIVE"),
        (effect(-5.0, 1.0, check=6.0), -0.05, "INCONCLUSIVE"),  # the t interval holds zero
        (effect(-0.5, 0.3), -0.05, "DIRECTION ONLY"),  # resolved, however small
        (Effect(-0.05, 1), -0.05, "INCONCLUSIVE"),  # one seed
    ],
)
def test_each_verdict_on_an_effect(measured, published, verdict):
    assert effect_verdict(measured, published) == verdict
    assert effect_column(measured, published).verdict == verdict


def test_equivalence_takes_both_ninety_percent_intervals():
    wide_check = effect(0.1, 0.5)
    wide_check = Effect(**{**vars(wide_check), "equivalence_check": Interval(-0.02, 0.02, 0.1)})
    assert effect(0.1, 0.5).is_negligible and not wide_check.is_negligible
    assert effect_verdict(wide_check, -0.05) == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("half", "reach", "within", "words"),
    [
        (0.5, 0.02, 0.01, ""),
        (0.2, 0.02, 0.005, ""),  # the stricter margin
        (0.2, 0.007, 0.005, ""),  # it could have been 0.7 %, which is more than that margin and less than the other
        (0.2, 0.004, None, "within 1 %, but it could have been 0.40 % at most, so not testable at this budget"),
        (0.2, None, None, "within 1 %, but nothing tells that it could have been more, so not testable at this budget"),
        (1.5, 0.02, None, "1 % takes"),  # not small
    ],
)
def test_no_effect_is_none_that_could_not_have_been_more(half, reach, within, words):
    found = effect(0.1, half, reach=reach)
    assert found.equivalent_within == within and found.is_negligible == (within is not None)
    assert found.is_untestable == ("not testable" in words) and words in effect_words(found)
    assert effect_verdict(found, -0.05) == ("NOT REPRODUCED" if found.is_negligible else "INCONCLUSIVE")


def test_an_inconclusive_effect_says_what_would_be_detected_and_the_seeds_still_needed():
    said = effect_words(effect(-0.8, 3.0), -0.05)
    assert "2.02 % would be detected with a chance of 80 %, and 1 % takes 7 more seeds" in said
    assert "perplexity -0.80 % (99 % interval -3.73 to +2.22, 10 seeds); published as a change of -4.88 %" in said
    without = Effect(**{**vars(effect(-0.8, 3.0)), "seeds_wanted": None})
    assert "no number of seeds shows 1 %" in effect_words(without)
    enough = Effect(**{**vars(effect(-0.8, 3.0)), "seeds_wanted": 8})
    assert "more articles rather than seeds" in effect_words(enough)
    assert "without an interval" in effect_words(Effect(-0.05, 1))


def test_a_direction_says_how_much_of_the_published_effect_was_measured():
    assert "measured over published 0.5" in effect_column(effect(-5.0, 1.0), -0.10).detail


def test_a_published_gain_is_a_fall_of_perplexity():
    assert log_ratio(50.0) == pytest.approx(np.log(0.5))
    assert log_ratio(-5.62) == pytest.approx(np.log(1.0562))


@pytest.mark.parametrize(
    ("levels", "published", "deterministic", "verdict"),
    [
        ([69.2], 69.0, True, "ABSOLUTE VALUE"),
        ([69.4], 69.0, True, "MISMATCH"),  # more than half a percent
        ([57.0, 57.5, 57.9], 57.22, False, "ABSOLUTE VALUE"),
        ([57.0, 57.5, 57.9], 62.0, False, "MISMATCH"),
        ([57.0], 57.22, False, "INCONCLUSIVE"),
    ],
)
def test_each_verdict_on_a_level(levels, published, deterministic, verdict):
    assert level_column(np.array(levels), published, deterministic).verdict == verdict


def found(verdict: str, passes: bool = False, **columns: str) -> Finding:
    return Finding(verdict, verdict.lower(), {k: Column(v, "") for k, v in columns.items()}, (verdict,), passes=passes)


def test_the_first_check_that_does_not_hold_decides_and_all_columns_are_kept():
    settled = settle([found("MATCH"), found("MISMATCH"), found("REPRODUCED", as_published="REPRODUCED")])
    assert settled.verdict == "MISMATCH" and settled.reason == "match; mismatch"
    assert settled.columns["as_published"].verdict == "REPRODUCED" and "REPRODUCED" in settled.records
    assert settle([found("WITHIN ROUNDING"), found("INCONCLUSIVE")]).verdict == "INCONCLUSIVE"
    assert settle([found("MATCH")]).verdict == "MATCH"


def test_a_remark_is_told_and_does_not_decide():
    settled = settle([found("MATCH"), found("STRUCTURAL ZERO", passes=True), found("DIRECTION ONLY")])
    assert settled.verdict == "DIRECTION ONLY" and "structural zero" in settled.reason
    assert settle([found("NOT RUN AT THIS SCALE", passes=True)]).verdict == "NOT RUN AT THIS SCALE"


def test_what_holds_is_a_verdict_too():
    assert set(PASSED_ON) < set(VERDICTS) and all(meaning.says for meaning in VERDICTS.values())
    assert {meaning.group for meaning in VERDICTS.values()} == set(ELSEWHERE.values()) == set(GROUPS)


def test_an_unknown_verdict_is_refused():
    assert {verdict_group(verdict.lower()) for verdict in [*VERDICTS, *ELSEWHERE]} == {"holds", "fails", "open"}
    with pytest.raises(HyLoRADAError, match="'reproducd' is not known; did you mean 'reproduced'"):
        verdict_group("reproducd")
