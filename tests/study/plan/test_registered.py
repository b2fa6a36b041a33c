"""The plan: what a scale runs is what was planned, and what departs from it is told."""

from dataclasses import replace

import pytest
import yaml
from fake_studies import change, stage_records

from hylorada import HyLoRADAError
from hylorada.study.checkout import project_root
from hylorada.study.plan.registered import PLAN, departures, plan_digest, read_plan, training_tokens
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.results.effects import is_adjusted
from hylorada.study.results.power import smallest_detectable
from hylorada.study.results.registered import plan_table

FULL, PLANNED = load_settings("full"), read_plan()


def test_the_scale_that_decides_departs_from_its_plan_in_nothing():
    assert departures(PLANNED, FULL) == [] and PLANNED.scale == "full"
    assert 20e6 < training_tokens(FULL) <= PLANNED.most_training_tokens == 27_000_000


def test_every_departure_is_told():
    budgets = {name: budget for name, budget in FULL.studies.items() if name != "horizon"}
    other = replace(FULL, seeds=[0, 1, 2], studies=budgets | {"designs": {"seeds": [0], "train_tokens": 1024}})
    assert departures(PLANNED, other) == [
        "horizon was planned and is not run",
        "ablation: seeds 3 in place of 5",
        "designs: seeds 1 in place of 3",
        "designs: steps 2 in place of 128",
        "places: seeds 3 in place of 5",
    ]
    more = replace(FULL, train_tokens=512 * 2048)
    assert any("tokens of training, more than 27,000,000" in line for line in departures(PLANNED, more))


def test_the_digest_is_of_the_scale_that_the_plan_is_for():
    assert len(plan_digest("full")) == 64 and plan_digest("micro") is None


def test_what_seeds_detect_is_that_of_the_spread_and_the_family():
    table = plan_table(PLANNED, FULL).set_index("study")
    assert list(table.index) == FULL.tables and table["tokens"].sum() == training_tokens(FULL)
    assert table.loc["ablation", "detects"] == pytest.approx(smallest_detectable(0.1, 5, 0.05 / 5))
    assert table.loc["methods", "detects"] == pytest.approx(smallest_detectable(0.3, 5, 0.05)), "estimates alone"
    assert table.loc[["rates", "part_rates", "places", "long_context"], "detects"].isna().all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"primary": ["stepps"]}, "stepps is the family of no study"),
        ({"margins": [1.0, 0.5]}, "must rise"),
        ({"chosen_on": "test"}, "chosen_on"),
        ({"power": 2.0}, "are chances"),
        ({"studies": [{"study": "ablatoin", "seeds": 1, "would_change_our_mind": "-"}]}, "did you mean 'ablation'"),
        ({"budget": 1}, "'budget' is not known"),
    ],
)
def test_a_plan_that_is_none_is_refused(tmp_path, change, words):
    values = yaml.safe_load((project_root() / PLAN).read_text(encoding="utf-8"))
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(values | change), encoding="utf-8")
    with pytest.raises(HyLoRADAError, match=words):
        read_plan(tmp_path / "plan.yaml")


def test_parts_train_at_rates_of_their_own_where_the_protocol_leaves_them_open():
    rates = {"magnitude": 1e-4, "position_bias": 2e-2, "landmark": 1e-2, "constant": 5e-3}
    with pytest.raises(HyLoRADAError, match="the protocol 'as_published' fixes the rates of parts"):
        replace(FULL, protocol="as_published", measures={}, part_rates=rates)
    with pytest.raises(HyLoRADAError, match="part_rates: 'landmarks' has no rate of its own; did you mean 'landmark'"):
        replace(FULL, part_rates={"landmarks": 1e-2})
    settings = replace(FULL, studies=FULL.studies | {"controls": FULL.studies["controls"] | {"part_rates": rates}})
    runs = plan(settings, "controls")
    for row, landmark in (("rslora_landmarks", 1e-2), ("constant_vector", 5e-3)):
        training = runs[row][0].specification.training
        assert (training.learning_rate, training.landmark_lr, training.magnitude_lr) == (5e-4, landmark, 1e-4)
    assert plan(settings, "ablation")["landmarks"][0].specification.training.position_bias_lr == 1e-3


def test_steps_are_cut_in_lines_and_never_in_number():
    published = plan(FULL, "as_published")["published_rslora"][0].specification
    assert (published.training.batch_size, published.protocol.training_text.count) == (1, 125)
    study = plan(FULL, "landmark_study")["lm_rslora"][0].specification
    assert (study.training.batch_size, study.training.gradient_accumulation_steps) == (2, 1)
    assert study.protocol.training_text.longer_than == 50 and published.protocol.training_text.longer_than == 15
    with pytest.raises(HyLoRADAError, match="has 4 rows in batches of 4; step_rows=8"):
        plan(replace(FULL, studies={"as_published": {"step_rows": 8, "measures": {}}}), "as_published")


def test_a_step_has_as_many_tokens_at_every_length():
    for name, runs in plan(FULL, "context").items():
        specification = runs[0].specification
        assert specification.training.batch_size * specification.block_tokens == 2048, name


def test_holm_adjusts_the_primary_families_of_the_plan_and_every_table_where_there_is_none():
    """The plan's digest in a record says that it is a run of the plan."""
    records = stage_records()
    assert is_adjusted(records, "ablation") and is_adjusted(records, "methods")
    change(records, ("base", None), plan=plan_digest("full"))
    tested = {one.study for one in PLANNED.studies if is_adjusted(records, one.study)}
    assert tested == {"ablation", "controls", "as_published", "landmark_study"} and not is_adjusted(records, "bases_2")
