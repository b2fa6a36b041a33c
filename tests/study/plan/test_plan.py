"""What rows come to: which runs they share, at which rates they train, and how many steps they take."""

from dataclasses import replace

from repository import ROOT

from hylorada.study.plan.budget import cut_words, planned_steps, published_steps
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.runs import all_runs, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.records import kept_archive


def test_rows_whose_settings_come_out_as_a_stages_are_its_runs():
    """One identity, one record: by whatever name a table asks for it."""
    for scale in ("micro", "full", "gpt2"):
        runs = all_runs(load_settings(scale)).values()
        without_name = [replace(run.specification, stage="").identity for run in runs]
        assert len(set(without_name)) == len(runs)
    settings = load_settings("micro")
    modules, direct = plan(settings, "modules"), plan(settings, "direct")
    assert [run.name for run in modules["attention_down"]] == [run.name for run in direct["rslora"]]
    assert modules["attention_down"][0].row == "attention_down" and modules["attention"][0].stage == "attention"


def test_with_tuned_rates_no_row_is_left_at_the_common_one():
    """A variant takes the rate of its nearest stage, so that a comparison is not between a tuned and an untuned arm."""
    rates = {"rslora": 1e-3, "lora": 2e-3, "landmarks": 3e-3}
    for name in ("direct", "leave_one_out", "controls", "ranks", "modules", "context"):
        settings = load_settings("full", {"tuned_rates": rates})
        for row, runs in plan(settings, name).items():
            training = runs[0].specification.training
            wanted = set(rates.values()) | (
                {5e-4} if row in ("position_bias", "magnitude", "learned_buckets") else set()
            )
            assert training is None or training.learning_rate in wanted, row


def test_the_planned_steps_are_those_of_the_records():
    """Of the kept records, under every protocol; the published ones beside what was published."""
    settings = load_settings("micro")
    for study in settings.studies:
        planned = plan(settings, study)
        for run, *_ in planned.values():
            record = kept_archive(ROOT / "data" / "reference" / "micro").of(run)
            assert planned_steps(run.specification) == (record.training.steps if record.training else 0)
    published = [published_steps(PROTOCOLS[name]) for name in ("as_published", "landmark_study", "corrected")]
    assert published == [125, 31, None] and cut_words(None) == ""
    for scale, told in (("micro", "3 of 125 steps"), ("gpt2", "")):
        (run, *_) = plan(load_settings(scale), "as_published")["published_rslora"]
        assert cut_words(run.specification) == told
