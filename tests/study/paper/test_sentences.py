"""Sentences of the paper: the numbers choose the words, in every direction."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from fake_records import fake_store
from fake_studies import change, end_token, stage_records, study_records

from hylorada.errors import HyLoRADAError
from hylorada.study.paper.sentences import caveats, measures, published
from hylorada.study.paper.sentences.effects import (
    bases_sentence,
    effect_sentences,
    effects_sentence,
    efficiency_sentence,
    one_run_sentence,
    pooling_sentence,
    stack_sentence,
)
from hylorada.study.plan.ablation import RSLORA
from hylorada.study.plan.record import Moved, Trained
from hylorada.study.plan.registered import plan_digest
from hylorada.study.plan.rows import Row
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.results import Results
from hylorada.study.results.statistics import Effect, Interval
from hylorada.study.results.words import percentage, thousands
from hylorada.study.sources.registry import find_corpus, find_model

TABLE = "[table x]"
MICRO = load_settings("micro")
NAMES = ("reference", "row 0", "row 1", "row 2")
ROWS = {name: Row(label=name, adapter=RSLORA) for name in NAMES} | {"base_code": Row(label="base", adapter=None)}


def rows(*effects: float, interval: float | None = None, resolved: bool = False, adjusted: bool = True) -> pd.DataFrame:
    """A study table of a reference and a row an effect, each resolved or not."""
    found = [{"label": "reference", "against": "", "effect": math.nan, "effect_low": math.nan, "resolved": False}]
    for index, value in enumerate(effects):
        ends = (math.nan, math.nan) if interval is None else (value - interval, value + interval)
        found.append(
            {"label": f"row {index}", "against": "reference", "effect": value, "resolved": resolved}
            | {"effect_low": ends[0], "effect_high": ends[1]}
        )
    return pd.DataFrame(found).assign(stage=lambda table: table["label"], adjusted=adjusted)


def effect(mean: float, half: float | None = None, equivalent: bool = False) -> Effect:
    if half is None:
        return Effect(mean, 1)
    ends = Interval(mean - half, mean + half, 0.05)
    near = Interval(-0.005, 0.005, 0.1) if equivalent else ends
    return Effect(mean, 3, ends, ends, 0.01, near, near, ends, reach=0.02)


def test_nothing_is_said_of_effects_without_an_interval():
    assert effects_sentence(rows(-1.5, 0.25, 2.0), ROWS, TABLE) == effects_sentence(rows(2.0), ROWS, TABLE) == ""
    assert "held against no other" in effects_sentence(rows(), ROWS, TABLE)


def test_estimates_are_told_as_such_and_none_is_called_resolved():
    few = effects_sentence(rows(-1.5, 0.5, interval=0.1, adjusted=False), ROWS, TABLE)
    assert few.startswith(f"In {TABLE}, estimates without a verdict: row 0 ({percentage(-1.5)}, ") and "row 1" in few
    many = {**ROWS, **{f"row {index}": Row(label=f"row {index}", adapter=RSLORA) for index in range(6)}}
    told = effects_sentence(rows(3.0, -1.0, 0.0, 1.0, 2.0, 4.0, interval=0.1, adjusted=False), many, TABLE)
    assert f"row 1 ({percentage(-1)}, " in told and f"row 5 ({percentage(4)}, " in told and "row 2" not in told
    assert "resolved" not in few + told


def test_effects_against_the_untouched_base_are_left_out_where_there_are_others():
    table = rows(-20.0, 0.5, interval=0.1, resolved=True)
    table.loc[1, "against"] = "base_code"
    assert "-20" not in effects_sentence(table, ROWS, TABLE) and "0.50" in effects_sentence(table, ROWS, TABLE)


@pytest.mark.parametrize(("value", "verb", "other"), [(-2.0, "lower", "raise"), (2.0, "raise", "lower")])
def test_a_resolved_effect_is_told_with_its_direction(value, verb, other):
    one = effects_sentence(rows(value, interval=0.5, resolved=True), ROWS, TABLE)
    assert f"{verb}s perplexity" in one and other not in one and "not resolved" not in one
    two = effects_sentence(rows(value, value, interval=0.5, resolved=True), ROWS, TABLE)
    assert f"{verb} perplexity" in two


def test_effects_that_are_not_resolved_are_counted():
    assert (
        effects_sentence(rows(0.1, 0.2, interval=1.0), ROWS, TABLE)
        == f"In {TABLE} none of the two effects is resolved."
    )
    mixed = pd.concat([rows(-3.0, interval=0.5, resolved=True), rows(0.1, interval=1.0)])
    assert "one further effect is not resolved" in effects_sentence(mixed, ROWS, TABLE)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (effect(-0.05, 0.01), "the whole stack lowers perplexity"),
        (effect(0.05, 0.01), "the whole stack raises perplexity"),
        (effect(0.005, 0.001), "by less than is of interest"),
        (effect(0.0, 0.004, equivalent=True), f"is equivalent to none within {percentage(1, 0)}"),
        (effect(0.01, 0.1), "is open"),
        (effect(0.01), "from one seed and so without an interval"),
    ],
)
def test_the_whole_stack_is_judged_as_it_was_found(found, said):
    assert said in stack_sentence(found)


def test_the_spread_of_one_run_is_told_where_there_are_seeds():
    assert "fall within 1.00" in one_run_sentence({"a": effect(0.0, 0.01)})
    assert "cannot tell" in one_run_sentence({"a": effect(0.0)})


def test_parameters_for_a_gain_are_told_only_of_parts_with_one():
    table = pd.DataFrame({"label": ["a", "b"], "cost": [12_345.0, math.nan]})
    said = efficiency_sentence(table)
    assert f"told for a ({thousands(12_345)}); for the other one they are unbounded" in said
    assert "unbounded" not in efficiency_sentence(table.head(1))
    assert "unbounded for all" in efficiency_sentence(table.assign(cost=math.nan))


def test_pooling_over_the_sequence_is_told_for_both_designs():
    stages = ["original_causal", "original_sequence", "per_layer_causal", "per_layer_sequence"]
    table = pd.DataFrame({"stage": stages, "perplexity": [10.0, 9.0, 10.0, 11.0]})
    assert f"{percentage(-10)} (original) and {percentage(10)} (per-layer)" in pooling_sentence(table)
    assert "not run" in pooling_sentence(None)
    assert "were not run both ways" in pooling_sentence(table[~table["stage"].str.endswith("_sequence")])


def test_a_study_that_a_scale_lacks_is_said_to_be_absent():
    said = effect_sentences(Results(replace(MICRO, studies={}), {}))
    assert all("was not made" in sentence for sentence in said.values())


def test_one_base_says_nothing_about_size():
    assert "is open" in bases_sentence(MICRO, None)


def test_the_gain_by_kind_is_held_to_the_share_of_tokens():
    found = stage_records()
    assert f"{percentage(60, 0)} falls on layout" in measures.kinds_sentence(
        found
    ) and "more than" in measures.kinds_sentence(found)
    for key, record in found.by_run.items():
        level = 1.0 if record.training is None else 0.5
        alike = {name: replace(kind, mean_nll=level) for name, kind in record.views.kinds.items()}
        change(found, key, views=replace(record.views, kinds=alike))
    assert "about as much as its part" in measures.kinds_sentence(found)


def test_every_perplexity_of_one_model_is_named():
    found = stage_records()
    measured = found.record("base", None).measures
    change(found, ("base", None), measures=replace(measured, lines=None))
    said = measures.metrics_sentence(found)
    assert "20.00 over the corpus" in said and "22.00 as arithmetic mean" in said and "published" not in said
    lines = replace(measured.lines, results=measured.lines.results | {"published_perplexity": 45.0})
    change(found, ("base", None), measures=replace(measured, lines=lines))
    assert "by the published metric on the published lines it is 45.00" in measures.metrics_sentence(found)


def test_retrieval_says_when_nothing_can_be_measured():
    found = stage_records()
    said = measures.retrieval_sentence(found)
    assert "so that nothing can be measured" in said and "(trained runs, " in said
    assert "not measured" in measures.retrieval_sentence(None)


@pytest.mark.parametrize(
    ("padded", "masked", "said"), [(2e-4, 1e-4, "2 times as often"), (1e-4, 2e-4, "does not make rsLoRA")]
)
def test_the_end_token_is_told_either_way_with_its_price(padded, masked, said):
    found, _ = study_records("single_fixes", lambda run: 20.0, seeds=1)
    for stage, seed in found.by_run:
        mean = masked if stage.startswith("padding") else padded
        change(found, (stage, seed), measures=end_token(mean, 1 + mean))
    base, _ = study_records("as_published", lambda run: 20.0, seeds=1)
    change(base, ("published_base", None), measures=end_token(3e-5, 1.0))
    told = published.end_sentence(found, base)
    assert said in told and f"raises perplexity by {percentage(0.02, 3)} at most" in told
    assert "the untouched base: 3·10⁻⁵" in told
    assert "untouched" not in published.end_sentence(found, None)
    change(found, ("published_rslora", 0), measures=end_token(1.0, None))  # sure of the end, where the text goes on
    assert "raises perplexity without bound." in published.end_sentence(found, None)
    assert "not measured" in published.end_sentence(None, base)


@pytest.mark.parametrize(
    ("largest", "acts", "said"),
    [
        (1e-3, False, "is one in the base's type, so that this fix needs single precision too"),
        (1e-1, False, "and yet no token's loss does."),
        (1e-3, True, "3 of the 4 numbers of the bias move."),
    ],
)
def test_positions_that_are_passed_alone_are_told_as_they_act(largest, acts, said):
    found, _ = study_records("single_fixes", lambda run: 20.0, seeds=1)
    stage = "positions_passed_position_bias"
    change(found, (stage, 0), moved={"position_bias": Moved(changed=3, entries=4, largest=largest)})
    reference = fake_store("position_bias", 0, 64, 0.0, 0.0)
    found.tokens["published_position_bias", 0] = reference
    found.tokens[stage, 0] = replace(reference, nll=reference.nll + 0.5 * acts)
    assert said in published.passed_sentence(found)
    assert "not passed alone" in published.passed_sentence(None)


@pytest.mark.parametrize(("seeds", "of"), [(1, "one seed each, so over these articles alone"), (2, "two seeds each")])
def test_the_contrast_of_the_arms_is_never_told_as_an_interval(seeds, of):
    found, _ = study_records("places", lambda run: 20.0, seeds=seeds)
    for index, ((stage, seed), record) in enumerate(found.by_run.items()):
        contrast = {"middle_contrast": -0.1 if stage == "base" else 0.01 * index}
        change(found, (stage, seed), results=record.results | contrast)
    said = measures.contrast_sentence(found)
    assert "\N{MINUS SIGN}0.100 nats on the untouched base, where the middle third is easier" in said
    means = [0.01 * (index * seeds + (1 + seeds) / 2) for index in range(4)]  # of the arms, which come after the base
    assert f"trained arms, {of}, {means[0]:.3f} nats at the least and {means[-1]:.3f} at the most." in said
    assert "were not compared" in measures.contrast_sentence(None)


def test_the_farthest_boundary_of_the_ablation_is_told_with_its_steps():
    found = stage_records()
    for seed in found.seeds("learned_buckets"):
        specification = found.record("learned_buckets", seed).specification
        boundaries = [(k + 1) / 4 for k in range(3)]
        boundaries[1] += 0.01 * (seed + 1)
        change(
            found,
            ("learned_buckets", seed),
            learned={"landmark.boundaries": boundaries},
            specification=replace(specification, adapter=replace(specification.adapter, max_positions=100)),
            training=Trained(history=[{}] * 12, seconds=1.0),
        )
    said = measures.boundary_sentence(found)
    assert said.startswith("In the ablation's 12 steps") and " is 3 tokens, of 100 positions" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [(0, "not one magnitude moves"), (100, "nearly every"), (25, f"{percentage(75, 1)} of the magnitudes")],
)
def test_magnitudes_that_stay_are_counted(changed, said):
    found, _ = study_records("as_published", lambda run: 20.0, seeds=1)
    for key in found.by_run:
        moved = Moved(entries=100, changed=changed, largest=float(changed))
        change(found, key, moved={"magnitude": moved, "landmark": moved})
    assert said in published.still_sentence(found)
    frozen = published.frozen_sentence(found)
    assert ("adds fixed noise" in frozen) == (changed == 0) and ("moved, by up to" in frozen) == (changed > 0)


def test_a_scale_that_stops_before_the_published_last_step_calls_itself_the_quick_look():
    found = stage_records()
    said = caveats.quick_look_sentence(MICRO, found)
    assert said.startswith(
        "This is the quick look of the scale `micro`: 12 steps of training, where 125 were published"
    )
    assert said.endswith("planned in `paper/plan.yaml`, which `make paper SCALE=full` makes.")
    for key, record in found.by_run.items():
        change(found, key, specification=replace(record.specification, train_tokens=128 * 512))
    assert caveats.quick_look_sentence(MICRO, found) == ""


def test_what_base_and_text_bring_along_is_told_as_they_are():
    said = caveats.sources_caveat(find_model("smollm2-135m"), find_corpus("wiki"))
    assert "read Wikipedia, so that articles are held out of the tuning alone" in said and "the repair of that" in said
    own = caveats.sources_caveat(find_model("tiny-llama"), find_corpus("sample"))
    assert own == "Whether the base has read the held-out text before, in its pre-training, is not known."


def test_how_far_training_could_have_gone_is_told_where_it_was_measured():
    found = stage_records()
    assert caveats.reach_sentence(found) == ""
    for (stage, seed), record in found.by_run.items():
        if stage == "landmarks":
            ceiling = {"landmark": 0.01 + 0.01 * seed, "magnitude": 0.5}
            change(found, (stage, seed), training=replace(record.training, ceiling=ceiling))
    assert f"perplexity down by {percentage(1.98)} by landmarks at most" in caveats.reach_sentence(found)
    assert "magnitude" not in caveats.reach_sentence(found), "the stage that brings a part says its reach"


def test_what_departs_from_the_plan_is_listed_where_a_scale_has_one(monkeypatch):
    full, found = load_settings("full"), stage_records()
    assert caveats.departures_sentence(Results(MICRO, {"ablation": found})) == ""
    monkeypatch.setattr(caveats, "departures", lambda registered, settings: ["ablation: seeds 3 in place of 5"])
    said = caveats.departures_sentence(Results(full, {"ablation": found}))
    assert said.startswith("From the plan the study departs in this: ")
    assert "ablation: seeds 3 in place of 5; " in said and "16 of 16 runs are of another state of the plan." in said
    for key in found.by_run:
        change(found, key, plan=plan_digest("full"))
    monkeypatch.setattr(caveats, "departures", lambda registered, settings: [])
    assert "in nothing" in caveats.departures_sentence(Results(full, {"ablation": found}))


@pytest.mark.parametrize(
    ("edges", "said"),
    [([False, False], "No best rate is an edge"), ([True, False], "For one of two arms that is an edge")],
)
def test_an_edge_of_the_grid_is_told(edges, said):
    best = pd.DataFrame(
        {"label": ["LoRA", "rsLoRA"], "rate": [5e-4, 2e-3], "perplexity": [15.15, 15.0], "on_edge": edges}
    )
    means = pd.DataFrame({"arm": ["lora", "rslora"] * 3, "rate": [5e-4, 5e-4, 1e-3, 1e-3, 2e-3, 2e-3]})
    means["perplexity"] = [15.15, 15.3, 16, 16, 17, 15.0]
    told = measures.rates_sentence(best, means, 5e-4)
    assert said in told and "at 5·10⁻⁴ for LoRA; 2·10⁻³ for rsLoRA" in told
    assert "Over three rates of the grid" in told
    assert f"rsLoRA 15.00 and LoRA 15.15, {percentage(1, 1)} from lowest to highest; at the one rate" in told
    assert "of the tables it is 1.0" in told
    assert "Over two to three rates" in measures.rates_sentence(best, means.head(5), 5e-4)
    assert "no rates were compared" in measures.rates_sentence(None, None, 5e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([0.0, -5.0, -6.0], "where the best stage lies 6.00"),
        ([0.0, -5.0, -4.0], "no stage has a lower mean"),
        ([0.0, 1.0, -4.0], "does not lower perplexity by itself"),
    ],
)
def test_the_share_of_the_first_stage_is_told_as_it_is(changes, said):
    table = pd.DataFrame({"stage": ["base", "rslora", "landmarks"], "effect_on_base": changes})
    assert said in measures.share_sentence(table)


def test_cost_is_compared_with_peft_either_way():
    table = pd.DataFrame(
        {
            "method": [
                "our HyLoRADA",
                "our DoRA",
                "PEFT DoRA",
                "PEFT DoRA, adapter as base",
                "PEFT rsLoRA, adapter as base",
            ],
            "step": [1.2, 1.1, 1.6, 1.4, 0.9],
            "memory": 1.1,
            "inference": [1.5, 1.4, 1.9, math.nan, math.nan],
            "merged": [1.0, 1.0, math.nan, math.nan, math.nan],
            "generation": [2.5, 2.0, 3.3, math.nan, math.nan],
        }
    )
    said = measures.cost_sentence(table)
    assert "1.10 times, less than the 1.40 of the PEFT library with the adapter in the base's type (1.60 as it" in said
    assert "PEFT's rsLoRA in that type takes 0.90." in said and "from a cache 2.50 times" in said
    slower = table.assign(step=[1.2, 1.5, 1.6, 1.4, 0.9])
    assert "no less than the 1.40" in measures.cost_sentence(slower)


def test_growth_in_length_is_read_off_the_times():
    def bench(power: float) -> dict:
        rows = [
            {"name": f"{n:,} tokens, {how}", "milliseconds": n**power, "ratio": {"median": 0.1}, "peak_mib": mib}
            for n in (512, 4096)
            for how, mib in (("full", 40.0), ("in groups", 60.0))
        ]
        return {"sections": {"attention": rows}}

    assert "in proportion to length" in measures.groups_sentence(bench(1.0))
    assert "and 1.50 times its memory" in measures.groups_sentence(bench(1.0))
    assert "to the power 2.00" in measures.groups_sentence(bench(2.0))


@pytest.mark.parametrize(
    ("study", "row", "sentence"),
    [
        ("designs", "per_layer_sequence", lambda: pooling_sentence(None)),
        ("single_fixes", "padding_masked_rslora", lambda: published.end_sentence(None, None)),
        ("single_fixes", "positions_passed_position_bias", lambda: published.passed_sentence(None)),
    ],
)
def test_a_renamed_row_stops_the_sentence_that_speaks_of_it(study, row, sentence, monkeypatch):
    """Not at this scale is a sentence; not in the plan is an error, with the nearest name."""
    assert "not" in sentence()
    renamed = {name + "_2" * (name == row): of for name, of in STUDIES[study].rows.items()}
    monkeypatch.setitem(STUDIES, study, replace(STUDIES[study], rows=renamed))
    with pytest.raises(HyLoRADAError, match=f"{study} has no row {row!r}; did you mean {row + '_2'!r}"):
        sentence()
