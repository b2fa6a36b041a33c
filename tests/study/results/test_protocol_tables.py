"""Both protocols side by side, parameter efficiency, cost, and further columns: what they say of known records."""

import math
from dataclasses import replace

import fake_studies
import numpy as np
import pytest
from fake_records import fake_record, fake_store, fake_study
from fake_studies import as_records, end_token
from repository import CPU_BENCHMARK

from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.paper.sentences.effects import tuning_sentence
from hylorada.study.paper.sentences.published import zero_sentence
from hylorada.study.paper.tables import efficiency_tabular, study_tabular
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import Moved, Record
from hylorada.study.plan.rows import against_of
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import load_records, study_records
from hylorada.study.results import columns
from hylorada.study.results.cost import cost_table
from hylorada.study.results.effects import step_effects
from hylorada.study.results.protocols import efficiency_table, largest_difference, protocol_table
from hylorada.study.results.statistics import percent
from hylorada.study.results.tables import study_table
from hylorada.study.results.words import fixed


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected")
    _, planned = fake_study(folder)
    return load_records(planned, folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The study as published with two seeds: its bias stage is the stage before it, as the protocol has it."""
    folder = tmp_path_factory.mktemp("published")
    settings = replace(load_settings("micro"), studies={"as_published": {"seeds": [0, 1]}})
    for name, runs in plan(settings, "as_published").items():
        stage = name.removeprefix("published_")
        as_stage = "magnitude" if stage == "position_bias" else stage
        for run in runs:
            store = fake_store(as_stage, run.seed, 512, seed_sd=0.002, article_sd=0.01)
            store.save(run.folder(folder) / "nll.npz")
            record = fake_record(replace(run, stage=stage), store)
            record = replace(
                record,
                name=run.name,  # as its folder is called
                results=record.results | {"published_perplexity": store.arithmetic_perplexity(10)},
                measures=end_token(0.25, 1.25),
                moved={"magnitude": Moved(entries=200, changed=50, largest=0.1)},
            )
            write_json(run.folder(folder) / "record.json", record.to_json())
    return study_records(settings, "as_published", folder)


def test_each_side_of_the_protocol_table_is_its_own_study_in_its_own_metric(published, corrected):
    table = protocol_table(published, corrected).set_index("stage")
    for side, records, name in (("published", published, "published_{}"), ("lines", corrected, "{}")):
        for stage in STAGES:
            seeds = records.seeds(name.format(stage))
            stores = [records.lines(name.format(stage), seed).first_windows() for seed in seeds]
            level = np.mean([store.arithmetic_perplexity(10) for store in stores])
            assert table.loc[stage, side] == pytest.approx(level)
    for stage, row in STAGES.items():
        if row.against:
            step = 100 * (table.loc[stage, "published"] / table.loc[row.against, "published"] - 1)
            assert table.loc[stage, "published_step"] == pytest.approx(step)
    for stage, effect in step_effects(corrected, against_of(STAGES)).items():
        assert table.loc[stage, "corpus_step"] == pytest.approx(percent(effect.mean))
    assert table.loc["rslora", "corpus_resolved"] and math.isnan(table.loc["base", "corpus_step"])


def test_a_scale_without_the_published_study_has_only_the_corrected_sides(corrected):
    table = protocol_table(None, corrected)
    assert "lines" in table and "corpus" in table and "published" not in table


def test_the_inert_bias_is_told_from_one_that_acts(published, corrected):
    assert largest_difference(published) == 0
    assert "bit for bit: in two pairs of runs at equal seed the largest difference" in zero_sentence(published)
    moved = dict(published.tokens)
    key = ("published_position_bias", 1)
    nll = moved[key].nll.copy()
    nll[3] += 0.5
    moved[key] = replace(moved[key], nll=nll)
    acting = replace(published, tokens=moved)
    assert largest_difference(acting) == pytest.approx(0.5, abs=1e-6)
    assert "which it should not" in zero_sentence(acting)
    assert zero_sentence(None) == "The published procedure was not run at this scale."
    fewer = {key: record for key, record in published.by_run.items() if key != ("published_magnitude", 1)}
    with pytest.raises(HyLoRADAError, match="other seeds"):
        largest_difference(replace(published, by_run=fewer))


def test_efficiency_is_a_parts_own_parameters_over_its_own_gain(corrected):
    table = efficiency_table(corrected).set_index("stage")
    assert table.loc["position_bias", "parameters"] == 65 and table.loc["learned_buckets", "parameters"] == 31
    rslora = table.loc["rslora"]
    assert rslora["step"] < 0, "below zero is better, as in every table"
    assert rslora["cost"] == pytest.approx(rslora["parameters"] / -rslora["step"])
    assert rslora["cost_low"] < rslora["cost"] < rslora["cost_high"]
    for stage in ("position_bias", "landmarks"):  # no gain, and a loss: a ratio would mean nothing
        assert math.isnan(table.loc[stage, "cost"])
    tabular = efficiency_tabular(table.reset_index())
    assert tabular.count("unbounded") == sum(math.isnan(cost) for cost in table["cost"])


def test_every_effect_names_its_reference_and_the_smallest_that_so_many_seeds_find(corrected):
    table = study_table(corrected, STAGES)
    compared = table[table["against"] != ""].set_index("stage")
    effects = step_effects(corrected, against_of(STAGES))
    smallest = {stage: fixed(percent(effect.detectable)) for stage, effect in effects.items()}
    lines = [line.removesuffix("\\\\").split(" & ") for line in study_tabular(table).splitlines()]
    printed = {line[0]: line for line in lines}
    for stage, row in compared.iterrows():
        assert printed[row["label"]][-2:] == [smallest[stage], STAGES[row["against"]].label]
    alike = study_tabular(table.assign(against=table["against"].where(table["against"] == "", "base")))
    assert "against" not in alike and "& finds\\\\" in alike  # the caption says it once
    assert [
        line.split(" & ")[4] for line in efficiency_tabular(efficiency_table(corrected)).splitlines()[4:-2]
    ] == list(smallest.values())


def test_cost_is_read_off_the_benchmark():
    benchmark = read_json(CPU_BENCHMARK)
    table = cost_table(benchmark).set_index("method")
    training = {row["name"]: row for row in benchmark["sections"]["training"]}
    inference = {row["name"]: row for row in benchmark["sections"]["inference"]}
    assert set(table.index) == set(training)
    assert table.loc["our rsLoRA", "step"] == table.loc["our rsLoRA", "memory"] == 1
    assert table.loc["our DoRA", "merged"] == inference["our DoRA, merged"]["ratio"]["median"]
    assert table.loc["our HyLoRADA", "step"] == training["our HyLoRADA"]["second_ratio"]["median"]
    assert math.isnan(table.loc["PEFT DoRA", "merged"])


def test_further_columns_are_means_over_seeds_and_empty_where_nothing_was_measured(published, corrected):
    rows = STUDIES["as_published"].rows
    table = study_table(published, rows, STUDIES["as_published"].shows).set_index("stage")
    assert table.loc["published_rslora", "end"] == pytest.approx(25.0)
    assert table.loc["published_magnitude", "magnitude_still"] == pytest.approx(75.0)
    seeds = [published.record("published_rslora", seed).results["published_perplexity"] for seed in (0, 1)]
    assert table.loc["published_rslora", "published_metric"] == pytest.approx(np.mean(seeds))
    assert set(columns.values(corrected, "key_value", {}).values()) == {None}
    printed = study_tabular(table.reset_index()).splitlines()
    assert len({line.count("&") for line in printed if line.startswith(("base", "rsLoRA", "+"))}) == 1


def adapted(**fields) -> Record:
    """A record of landmarks over 64 positions."""
    (run, *_) = plan(load_settings("micro"), "ablation")["landmarks"]
    record = fake_studies.fake_record(run, 20.0)
    adapter = replace(record.specification.adapter, max_positions=64, **fields)
    return replace(record, specification=replace(record.specification, adapter=adapter))


@pytest.mark.parametrize(
    ("design", "pooling", "causal"),
    [
        ("position_adaptive", "causal", "yes"),
        ("original", "sequence", "no"),
        ("per_layer", "sequence", "no"),
        ("original", "causal", "yes"),
    ],
)
def test_only_designs_that_pool_the_whole_sequence_are_called_not_causal(design, pooling, causal):
    record = adapted(landmark_design=design, landmark_pooling=pooling)
    assert columns.COLUMNS["causal"].of(record) == causal


def test_the_farthest_boundary_is_told_in_tokens_from_an_even_start():
    record = replace(adapted(), learned={"landmark.boundaries": [0.25, 0.8, 0.5]})  # as trained, not in order
    assert columns.COLUMNS["boundary"].of(record) == pytest.approx(64 * 0.05)
    assert columns.COLUMNS["boundary"].of(adapted()) is None


def test_every_column_of_a_study_is_known():
    assert {name for study in STUDIES.values() for name in study.shows} == set(columns.COLUMNS)


def test_the_text_says_whether_rates_were_tuned():
    settings = load_settings("micro")
    assert "none was tuned" in tuning_sentence(settings, {})
    tuned = replace(settings, tuned_rates={"rslora": 1e-3, "dora": 2e-3})
    records = as_records(plan(tuned, "ablation"), lambda run: 20.0)
    told = tuning_sentence(tuned, {"ablation": records})
    assert "(rslora 1·10⁻³)" in told and "validation articles" in told  # of DoRA there is no run here
