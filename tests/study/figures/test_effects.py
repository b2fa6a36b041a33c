"""The figures of all effects and of learning, and the best rates of parts: the numbers they show."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_records import fake_study
from fake_studies import LEVELS, by_part_rate, change, points, study_records

from hylorada.errors import HyLoRADAError
from hylorada.study.figures import effects as figure
from hylorada.study.figures.curves import learning_curves
from hylorada.study.figures.effects import MARKS, WHOLE, effects, family
from hylorada.study.figures.rates import learning_rates
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.budget import is_cut_short
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.records import load_records
from hylorada.study.results.rows import ALL
from hylorada.study.results.tables import ablation_table, study_table
from hylorada.study.trace.outputs import OUTPUTS, reads


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    results = tmp_path_factory.mktemp("effects")
    return load_records(fake_study(results)[1], results)


@pytest.fixture(scope="module")
def shown(records):
    return family(records, STAGES, {"controls": (records, STAGES)})


def test_every_effect_stands_in_the_row_of_its_claim_with_the_tables_interval(records, shown):
    table = ablation_table(records).set_index("stage")
    measured = shown[shown["by"] == "ablation"].set_index("row")
    assert list(measured.index) == [*list(STAGES)[1:], WHOLE]
    for stage in list(STAGES)[1:]:
        values = measured.loc[stage, ["effect", "low", "high"]].astype(float)
        np.testing.assert_allclose(values, table.loc[stage, ["effect", "effect_low", "effect_high"]].astype(float))
        assert measured.loc[stage, "resolved"] == table.loc[stage, "resolved"]
    stack = 100 * (table.loc["landmarks", "perplexity"] / table.loc["rslora", "perplexity"] - 1)
    assert measured.loc[WHOLE, "effect"] == pytest.approx(stack)


def test_what_was_published_is_told_as_changes_and_the_stack_against_its_first_stage(shown):
    claimed = shown[shown["by"] == "published"].set_index("row")["effect"]
    assert claimed.to_dict() == pytest.approx(
        {"rslora": -17.07, "magnitude": 5.62, "position_bias": -2.11, "landmarks": -4.8, "learned_buckets": 2.26}
        | {WHOLE: -1.56},
        abs=0.01,
    )


def test_an_effect_without_an_interval_and_a_procedure_cut_short_are_not_shown(tmp_path):
    one = load_records(fake_study(tmp_path, seeds=1)[1], tmp_path)
    cut, its_rows = study_records("as_published", lambda run: 20.0, seeds=1)
    assert set(family(one, STAGES, {"as_published": (cut, its_rows)})["by"]) == {"published"}
    asked = cut.asked  # of micro: 12 lines, four a step
    assert is_cut_short(asked)
    lines = replace(asked.protocol.training_text, count=500)
    assert not is_cut_short(replace(asked, protocol=replace(asked.protocol, training_text=lines)))
    assert PROTOCOLS["as_published"].training_text.count == 500


def test_marks_lie_at_the_effects_filled_where_resolved_and_a_bar_reaches_to_the_ceiling(records, shown, monkeypatch):
    def with_ceiling(*asked, **how) -> pd.DataFrame:
        return study_table(*asked, **how).assign(ceiling=0.4)

    monkeypatch.setattr(figure, "study_table", with_ceiling)
    axes = effects(records, STAGES, {}).axes[0]
    own = shown[shown["by"] == "ablation"]
    marker = MARKS["ablation"].marker
    assert points(axes, marker) == pytest.approx(sorted(own["effect"]))
    filled = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == marker
              and line.get_markerfacecolor() == MARKS["ablation"].colour]  # fmt: skip
    assert sorted(filled) == pytest.approx(sorted(own[own["resolved"].astype(bool)]["effect"]))
    bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 5]
    assert [list(bar) for bar in bars] == [[-0.4, 0]] * 5
    assert [patch.get_x() for patch in axes.patches] == [-1.0, -0.5]  # the margins of the plan


def test_a_curve_is_the_mean_over_the_window_of_the_paired_differences(stages):
    axes = learning_curves(stages, STAGES).axes[0]
    thick = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert set(thick) == {stage.label for stage in STAGES.values() if stage.adapter}
    gain = np.log(LEVELS["landmarks"] / LEVELS["rslora"])  # grows by as much a step, so that means lie on its line
    x, y = thick["+ landmarks"].get_data()
    np.testing.assert_allclose(y, gain * (x - 1), atol=1e-12)
    assert x[0] == 2 and x[-1] == 23 and re.search("mean over 3 steps", axes.get_xlabel())  # 24 steps by eight
    assert len([line for line in axes.lines if line.get_linewidth() == 0.5]) == 4 * 3


def test_runs_of_other_lengths_have_no_curve_together(stages):
    own = replace(stages, by_run=dict(stages.by_run))
    training = own.record("landmarks", 1).training
    change(own, ("landmarks", 1), training=replace(training, history=training.history[:-1]))
    with pytest.raises(HyLoRADAError, match=r"^the runs of 'landmarks' and 'rslora' have [^\n]*$"):
        learning_curves(own, STAGES)


def test_the_rates_of_parts_have_a_panel_a_part_with_its_best():
    records, rows = study_records("part_rates", by_part_rate, seeds=2)
    titles = [axes.get_title() for axes in learning_rates(records, rows).axes]
    assert titles == ["gated magnitude: 1e-3", "position bias: 5e-3", "landmarks: 2e-3", "one constant vector: 2e-3"]


def test_a_figure_of_several_studies_is_traced_to_all_runs():
    (made, *_) = (output for output in OUTPUTS if output.rule == "figure")
    assert reads(made, "effects", load_settings("micro")) == ALL
    assert reads(made, "learning_curves", load_settings("micro")) == "ablation"
