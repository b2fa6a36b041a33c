"""A sweep of rates is held against the length of the runs that it is for."""

from dataclasses import replace

from repository import ROOT

from hylorada.cli import main
from hylorada.study.plan.scales import load_settings
from hylorada.study.results.rates import longer_runs

MICRO = load_settings("micro")


def test_runs_that_train_longer_than_the_sweep_of_their_rates_are_counted():
    assert longer_runs(MICRO, "rates") == (3, {"ablation": 12, "context": 8}), "published protocols fix their own rates"
    long = {"seeds": [100], "train_tokens": 6144, "measures": {}}
    assert longer_runs(replace(MICRO, studies=MICRO.studies | {"rates": long}), "rates") is None


def test_a_sweep_that_is_shorter_than_its_runs_is_told_on_one_line(caplog, capsys):
    assert main(["rates", "--records", str(ROOT / "data" / "reference" / "micro")]) == 0
    (told,) = [line for line in caplog.messages if line.startswith("chosen after")]
    assert "chosen after 3 steps, for runs of up to 12 (ablation and 1 more): " in told
    assert "tuned_rates:" in capsys.readouterr().out
