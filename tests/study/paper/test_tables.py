"""Records read and held against each other, the table and the numbers made of them, and the words they choose."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import EFFECTS, fake_study
from paper_text import source

from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.nll import TokenNLL
from hylorada.reading import read_json
from hylorada.study.paper.compile import macros
from hylorada.study.paper.latex import set_text
from hylorada.study.paper.macros import macro_values, write_numbers
from hylorada.study.paper.sentences.claims import MACROS as CLAIMS_MACROS
from hylorada.study.paper.sentences.effects import ablation_sentence
from hylorada.study.paper.tables import ablation_tabular, write_tables
from hylorada.study.plan.ablation import STAGES
from hylorada.study.records.records import load_folder, load_records
from hylorada.study.results.results import Results
from hylorada.study.results.statistics import Effect, Interval
from hylorada.study.results.tables import ablation_table
from hylorada.study.results.words import fixed, percentage, scientific, span, thousands


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Results folder, settings and plan of a study of three seeds."""
    results = tmp_path_factory.mktemp("study")
    return results, *fake_study(results)


@pytest.fixture
def own(study, tmp_path):
    """The same, in a copy that a test may damage."""
    results, settings, planned = study
    return Path(shutil.copytree(results, tmp_path / "results")), settings, planned


@pytest.fixture(scope="module")
def records(study):
    return load_records(study[2], study[0])


def results_of(settings, records) -> Results:
    """The results of the ablation alone."""
    return Results(settings, {"ablation": records})


def change(own, stage: str, seed: int, **changes) -> None:
    """Write other values into a record; `results__x=1` is record["results"]["x"] = 1."""
    results, _, planned = own
    run = next(run for run in planned[stage] if run.seed == seed)
    record = read_json(run.folder(results) / "record.json")
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = record
        for name in parents:
            inner = inner[name]
        inner[last] = value
    write_json(run.folder(results) / "record.json", record)


def test_the_frame_has_one_row_a_run_and_the_base_comes_first(records):
    assert len(records.frame) == 1 + 5 * 3
    assert list(dict.fromkeys(records.frame["stage"])) == list(STAGES) == records.stages
    assert records.seeds("base") == [None] and records.seeds("rslora") == [0, 1, 2]
    row = records.frame.query("stage == 'magnitude' and seed == 1").iloc[0]
    assert row["perplexity"] == pytest.approx(records.nll("magnitude", 1).corpus_perplexity())


def test_a_missing_record_is_named_with_the_command_that_makes_it(own):
    results, _, planned = own
    shutil.rmtree(planned["magnitude"][1].folder(results))
    with pytest.raises(HyLoRADAError, match="'magnitude', seed 1; `hylorada run --scale"):
        load_records(planned, results)


def test_a_record_of_another_identity_is_refused(own):
    change(own, "landmarks", 2, identity="f" * 64)
    with pytest.raises(HyLoRADAError, match="identity ffffffff.*is planned"):
        load_records(own[2], own[0])


def test_runs_scored_on_other_tokens_are_refused_by_name(own):
    path = own[2]["rslora"][2].folder(own[0]) / "nll.npz"
    store = TokenNLL.load(path)
    store.token_id[7] += 1
    store.save(path)
    with pytest.raises(HyLoRADAError, match="'base' and stage 'rslora', seed 2 .*token_id differs"):
        load_records(own[2], own[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"results__base_probe_nll": 3.25 + 1e-9}, "on one machine"),
        ({"results__base_probe_nll": 3.26, "machine__threads": 2}, "more than two machines may differ"),
        ({"data__tokens_digest": "0" * 64}, "differ in data"),
        ({"specification__evaluation__stride": 3}, "differ in evaluation"),
        ({"specification__compile": "pieces"}, r"differ in compile \(None and pieces\), so they cannot be compared"),
        ({"specification__training__weight_decay": 0.5}, "differ in training settings"),
    ],
)
def test_runs_that_differ_in_more_than_stage_and_seed_are_refused(own, changes, said):
    change(own, "position_bias", 1, **changes)
    with pytest.raises(HyLoRADAError, match=said) as caught:
        load_records(own[2], own[0])
    assert "stage 'position_bias', seed 1" in str(caught.value)


def test_another_machine_may_add_up_in_another_order(own):
    change(own, "position_bias", 1, results__base_probe_nll=3.2501, machine__processor="another")
    assert load_records(own[2], own[0]).record("position_bias", 1).machine.processor == "another"


def test_a_folder_of_records_is_read_without_plan_and_without_tokens(own, records):
    results, _, planned = own
    (results / ".rslora-seed0.1.part").mkdir()
    shutil.copy(planned["rslora"][0].folder(results) / "record.json", results / ".rslora-seed0.1.part")
    for path in results.glob("*/nll.npz"):
        path.unlink()
    alone = load_folder(results)
    pd.testing.assert_frame_equal(alone.frame, records.frame)
    assert alone.digest == records.digest
    with pytest.raises(HyLoRADAError, match=r"rslora-seed1-\w+ was kept without its nll.npz"):
        alone.nll("rslora", 1)


def test_a_folder_that_mixes_two_studies_or_holds_none_is_refused(own, tmp_path):
    results, _, planned = own
    first = planned["rslora"][0].folder(results)
    other = Path(shutil.copytree(first, first.with_name("rslora-seed0-00000000")))
    write_json(other / "record.json", read_json(first / "record.json") | {"name": other.name})
    with pytest.raises(HyLoRADAError, match="two records of stage 'rslora', seed 0"):
        load_folder(results)
    with pytest.raises(HyLoRADAError, match="no sub-folder with a record.json"):
        load_folder(tmp_path)


def test_the_table_finds_the_effects_that_were_put_in(records):
    table = ablation_table(records).set_index("stage")
    for stage in list(STAGES)[1:]:
        row = table.loc[stage]
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]
        assert abs(row["effect"] - 100 * np.expm1(EFFECTS[stage])) < 3.0
        assert row["against"] == STAGES[stage].against
    assert table.loc["rslora", "resolved"] and not table.loc["position_bias", "resolved"]


def test_effects_are_the_ratios_of_the_perplexities(records):
    table = ablation_table(records).set_index("stage")
    for stage, row in table.iloc[1:].iterrows():
        assert row["effect"] == pytest.approx(
            100 * (row["perplexity"] / table.loc[STAGES[stage].against, "perplexity"] - 1)
        )
        assert row["effect_on_base"] == pytest.approx(100 * (row["perplexity"] / table.loc["base", "perplexity"] - 1))
    geometric = records.frame.query("stage == 'landmarks'")["perplexity"].map(np.log).mean()
    assert np.log(table.loc["landmarks", "perplexity"]) == pytest.approx(geometric)


def test_the_written_table_is_the_table(study, records, tmp_path):
    write_tables(results_of(replace(study[1], studies={}), records), tmp_path / "t", tmp_path / "ablation.csv")
    read, table = pd.read_csv(tmp_path / "ablation.csv", keep_default_na=True), ablation_table(records)
    np.testing.assert_array_equal(read["effect"], table["effect"])
    tex = (tmp_path / "t" / "ablation.tex").read_text()
    lines = tex.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert [line.split(" & ")[0] for line in lines] == [stage.label for stage in STAGES.values()]
    assert [line.split(" & ")[4] for line in lines] == [f"{value:.2f}" for value in table["perplexity"]]
    assert {line.count(" & ") for line in lines} == {9}


def test_beside_a_pipe_or_a_device_no_table_is_put(study, records, tmp_path):
    """As with --csv /dev/null: the folder of devices is no place for the other tables."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_tables(results_of(replace(study[1], studies={}), records), tmp_path / "t", tmp_path / "pipe")
    assert os.read(reader, 20).startswith(b"stage,")
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "t"]
    write_tables(results_of(replace(study[1], studies={}), records), tmp_path / "t", tmp_path / "plain" / "a.csv")
    assert len(list((tmp_path / "plain").iterdir())) == len(list((tmp_path / "t").iterdir())) > 1


def test_the_table_prints_true_minus_signs_and_only_the_rules_of_the_paper(records):
    tex = ablation_tabular(ablation_table(records))
    assert "$-$" in tex and not re.search(r"(?<!\$)-\d", tex)
    assert set(re.findall(r"\\([a-z]+rule)", tex)) == {"toprule", "midrule", "bottomrule"}


def test_one_seed_says_so_where_an_interval_would_stand(tmp_path):
    _, planned = fake_study(tmp_path, seeds=1)
    table = ablation_table(load_records(planned, tmp_path))
    assert ablation_tabular(table).count("one seed") == 2 * 5
    assert table["effect"].notna().sum() == 5


def test_stages_of_other_seeds_are_not_compared(own):
    results, _, planned = own
    shutil.rmtree(planned["magnitude"][2].folder(results))
    with pytest.raises(HyLoRADAError, match=r"'magnitude' has the seeds \[0, 1\] and 'rslora' has \[0, 1, 2\]"):
        ablation_table(load_folder(results))


def test_numbers_print_as_in_print():
    assert set_text(fixed(-1.234)) == "$-$1.23" and fixed(-0.001) == "0.00" and fixed(2.5, 1, plus=True) == "+2.5"
    assert set_text(thousands(134_515_008)) == r"134\,515\,008" and thousands(12) == "12"
    assert set_text(percentage(-5.24)) == r"$-$5.24\,\%" and set_text(scientific(5e-4)) == r"\ensuremath{5\cdot10^{-4}}"
    assert set_text(r"a_b 5% #{$&} ~^ \x") == (
        r"a\_b 5\% \#\{\$\&\} \textasciitilde{}\textasciicircum{} \textbackslash{}x"
    )


def test_marks_of_plain_text_are_set():
    assert set_text("[table leave_one_out] of `q_proj`: “5–6 %”") == (
        r"Table~\ref{tab:leave_one_out} of \texttt{q\_proj}: ``5--6\,\%''"
    )


def test_the_paper_gets_exactly_the_macros_it_uses(study, records):
    assert {*macro_values(results_of(study[1], records)), *CLAIMS_MACROS} == macros(source())


def test_numbers_come_from_settings_records_and_code(study, records):
    values = macro_values(results_of(study[1], records))
    assert values["HyBasePPL"] == f"{records.frame['perplexity'][0]:.2f}"
    assert (
        values["HyTrainTokens"] == "8\N{NARROW NO-BREAK SPACE}192"
        and values["HySteps"] == "16"
        and values["HySeeds"] == "3"
    )
    assert values["HyHardware"] == "Imaginary(R) CPU_9 @ 100%, 2 cores, 1 thread a run"
    assert values["HyRunSeconds"] == "39 (38 to 40)"
    assert values["HyLearningRate"] == "5·10⁻⁴"
    assert values["HyBaseName"] in values["HyBaseDescription"]


@pytest.mark.parametrize(
    ("articles", "tokens", "said"),
    [
        (None, None, "Each test article is scored whole"),
        (None, 2000, "Each test article is scored over its first 2\N{NARROW NO-BREAK SPACE}000 tokens"),
        (7, None, "Each of the first 7 test articles is scored whole"),
    ],
)
def test_the_text_says_which_part_of_the_test_articles_is_scored(study, records, articles, tokens, said):
    _, settings, _ = study
    by_run = {
        key: replace(record, specification=replace(record.specification, evaluation=scored))
        for key, record in records.by_run.items()
        if (scored := replace(record.specification.evaluation, articles=articles, tokens_per_article=tokens))
    }
    records = replace(records, by_run=by_run)
    assert macro_values(results_of(settings, records))["HyTestScope"] == said


def test_equal_records_give_equal_files_and_other_results_another_digest(own, tmp_path):
    results, settings, planned = own
    for name in ("a.tex", "b.tex"):
        write_numbers(results_of(settings, load_records(planned, results)), tmp_path / name)
    change(own, "rslora", 0, results__perplexity=1.0)
    write_numbers(results_of(settings, load_records(planned, results)), tmp_path / "c.tex")
    first = [(tmp_path / name).read_text().splitlines()[0] for name in ("a.tex", "b.tex", "c.tex")]
    assert (tmp_path / "a.tex").read_bytes() == (tmp_path / "b.tex").read_bytes()
    assert re.fullmatch(r"% made by .* digest [0-9a-f]{64}", first[0]) and first[2] != first[0]


def effect(low: float, high: float, check: tuple[float, float] | None = None, detectable: float = 0.02) -> Effect:
    return Effect((low + high) / 2, 3, Interval(low, high, 0.01), Interval(*(check or (low, high)), 0.01), detectable)


def test_the_sentence_names_what_is_resolved_with_its_direction_and_calls_the_rest_inconclusive():
    steps = {"rslora": effect(-0.2, -0.1), "magnitude": effect(0.001, 0.003), "landmarks": effect(-0.01, 0.03)}
    said = ablation_sentence(steps, articles=13)
    assert f"falls with rsLoRA ({percentage(-13.93)}, {span(-18.13, -9.52)})" in said
    assert f"rises with gated magnitude ({percentage(0.2)}, 0.10 to 0.30, less than is of interest)" in said
    assert (
        f"The step to landmarks is inconclusive: at 3 seeds and 13 articles, an effect has to be {percentage(2.02)}"
        in said
    )


def test_an_interval_that_its_check_does_not_bear_out_is_called_inconclusive():
    said = ablation_sentence({"rslora": effect(-0.2, -0.1, check=(-0.4, 0.1))}, articles=13)
    assert said.startswith("The step to rsLoRA is inconclusive") and "falls" not in said


def test_a_step_within_the_smallest_effect_of_interest_is_called_none_and_not_inconclusive():
    none = replace(
        effect(-0.004, 0.003),
        reach=0.02,
        equivalence=Interval(-0.003, 0.002, 0.1),
        equivalence_check=Interval(-0.004, 0.003, 0.1),
    )
    wide = replace(none, equivalence_check=Interval(-0.02, 0.003, 0.1))
    said = ablation_sentence({"magnitude": none, "landmarks": wide}, articles=13)
    assert said.startswith(
        f"The step to gated magnitude is equivalent to none: perplexity stays within {percentage(0.5, 1)} of what"
    )
    assert "The step to landmarks is inconclusive" in said
    wider = replace(none, equivalence=Interval(-0.007, 0.002, 0.1))
    assert f"equivalent to none: perplexity stays within {percentage(1, 0)} of what" in ablation_sentence(
        {"magnitude": wider}, 13
    )
    said = ablation_sentence(
        {"magnitude": replace(none, reach=0.004), "landmarks": replace(none, reach=None)}, articles=13
    )
    assert said.startswith("The two steps to gated magnitude and landmarks are not testable at this budget")
    assert said.endswith(f"within {percentage(1, 0)}, and training could have moved it by {percentage(0.4)} at most.")


def test_with_everything_resolved_nothing_is_called_inconclusive():
    assert "inconclusive" not in ablation_sentence({"rslora": effect(-0.2, -0.1)}, articles=13)


def test_one_seed_decides_nothing():
    said = ablation_sentence({name: Effect(-0.5, 1) for name in list(STAGES)[1:]}, articles=13)
    assert said == "With one seed an arm no step has an interval, and all five are inconclusive."
