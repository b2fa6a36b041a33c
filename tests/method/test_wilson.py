"""The interval of a share against SciPy's."""

import pytest
from scipy.stats import binomtest

from hylorada import HyLoRADAError
from hylorada.wilson import wilson


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("trials", [1, 7, 40])
def test_the_interval_is_that_of_scipy(trials, confidence):
    for hits in range(trials + 1):
        theirs = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
        assert wilson(hits, trials, confidence) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-15)
    assert wilson(0, trials)[0] == 0.0 and wilson(trials, trials)[1] == 1.0


@pytest.mark.parametrize(
    ("given", "problem"),
    [((3, 2), "3 hits in 2 trials"), ((0, 0), "0 trials"), ((1, 2, 1.0), "confidence 1.0")],
)
def test_what_has_no_interval_is_refused(given, problem):
    with pytest.raises(HyLoRADAError, match=problem):
        wilson(*given)
