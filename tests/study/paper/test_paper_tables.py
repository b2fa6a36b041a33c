"""Facts, parts, compute and absences in the paper, and the whole paper from records that never ran."""

import re
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from fake_paper import fake_paper
from paper_text import MAIN
from repository import ROOT

from hylorada.cli import main
from hylorada.study.claims.catalogue import load_catalogue
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.figures.style import save_figure
from hylorada.study.paper.absences import absences
from hylorada.study.paper.compile import build_pdf, find_tex
from hylorada.study.paper.floats import ALWAYS, PAPER_FIGURES, write_floats
from hylorada.study.paper.macros import macro_values
from hylorada.study.paper.sentences.claims import MACROS as CLAIMS_MACROS
from hylorada.study.paper.sentences.claims import detectable_by_pair, noise_sentence, pooled_sd, without_farthest
from hylorada.study.paper.sentences.effects import effect_sentences
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.protocol import Protocol
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.records import Records, study_records
from hylorada.study.results.compute import compute_table
from hylorada.study.results.facts import FACTS, PROCEDURES, facts_table, mended_alone
from hylorada.study.results.parts import PARTS, parts_table
from hylorada.study.results.results import Results, read_results
from hylorada.study.results.words import SPACE, percentage

TEX = find_tex({"PATH": ""}) or find_tex()
MICRO = load_settings("micro")
KEPT = ("as_published", "direct", "controls")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of a micro scale with three further studies."""
    folder = tmp_path_factory.mktemp("paper")
    fake_paper(folder / "runs", studies={name: MICRO.studies[name] for name in KEPT})
    return folder


@pytest.fixture(scope="module")
def settings():
    return replace(MICRO, studies={name: MICRO.studies[name] for name in KEPT})


@pytest.fixture(scope="module")
def records(folder, settings):
    return study_records(settings, "ablation", folder / "runs")


@pytest.fixture(scope="module")
def studies(folder, settings):
    return {name: study_records(settings, name, folder / "runs") for name in KEPT}


def test_every_fact_of_a_protocol_is_in_the_table_once():
    told = [name for fact in FACTS for name in fact.of]
    assert sorted(told) == sorted(field.name for field in fields(Protocol) if field.name != "label")


def test_facts_that_differ_between_protocols_read_differently(records, studies):
    table = facts_table({"ablation": records, **studies}).set_index("fact")
    assert table.loc["padding", "as_published"] != table.loc["padding", "corrected"]
    assert table.loc["learning rate", "as_published"] == "5·10⁻⁴"
    assert table.loc["learning rate", "landmark_study"] == "2·10⁻⁴"
    assert "32\N{NARROW NO-BREAK SPACE}768" in table.loc["landmark buckets", "as_published"]
    assert table.loc["steps", "landmark_study"] == "31"  # not run here, so that nothing is said of here


def test_every_hyperparameter_in_the_paper_is_that_of_the_records(settings, records, studies):
    """The settings of a scale may say what they like: the text, its tables and captions follow what was run."""
    asked = {
        **{"learning_rate": 3e-3, "landmark_lr": 4e-3, "position_bias_lr": 7e-3, "embedding_lr": 6e-5},
        **{"weight_decay": 0.5, "warmup_ratio": 0.25, "max_grad_norm": None, "batch_size": 3},
    }
    told = ("3·10⁻³", "4·10⁻³", "7·10⁻³", "6·10⁻⁵", "0.5", f"25{SPACE}% warm-up", "none", "3 rows")
    facts = facts_table({"ablation": with_training(records, **asked)})["corrected"]
    assert [words for words in told if not any(words in fact for fact in facts)] == []
    values = macro_values(Results(settings, {"ablation": with_training(records, **asked), **studies}))
    names = ("HyLearningRate", "HyLandmarkLR", "HyPositionLR", "HyWeightDecay", "HyWarmupPercent", "HyBatchBlocks")
    assert [values[name] for name in names] == ["3·10⁻³", "4·10⁻³", "7·10⁻³", "0.5", "25", "3"]
    assert values["HyClip"] == "not clipped"
    apart = with_training(records, **asked)
    apart.by_run["rslora", 0] = with_training(records, learning_rate=1e-3).by_run["rslora", 0]
    rates = facts_table({"ablation": apart}).set_index("fact").loc["learning rate", "corrected"]
    assert rates == "each arm's own"


def with_training(records: Records, **asked) -> Records:
    """The same records, as if each run had been asked for other training."""
    by_run = {}
    for key, record in records.by_run.items():
        one = record.specification
        if one.training is not None:
            one = replace(one, training=replace(one.training, **asked))
        by_run[key] = replace(record, specification=one)
    return Records(by_run, records.tokens, records.folders)


def test_each_mended_fact_is_marked_where_it_is_told(records):
    table = facts_table({"ablation": records})
    marked = ", ".join(filter(None, table["mended"])).split(", ")
    assert sorted(marked) == sorted(PROTOCOLS[name].label for name in PROTOCOLS if name not in PROCEDURES)
    assert mended_alone()["padding_in_loss"] == "padding masked"


def test_parts_are_counted_on_built_models_and_missing_where_no_run_has_them(records, studies):
    table = parts_table({"ablation": records, **studies}).set_index("part")
    assert table.loc["low-rank update", "here"] == records.record("rslora", 0).parameters["lora"]
    assert table.loc["landmarks", "here"] == records.record("landmarks", 0).parameters["landmark"]
    assert table.loc["one constant vector", "here"] > 0 and pd.isna(table.loc["sparse bottleneck", "here"])


def test_what_the_table_of_parts_says_of_merging_is_what_the_stages_say():
    merges = {part.row: part.merges == "yes" for part in PARTS if part.study == "ablation"}
    kinds = {"rslora": "lora", "magnitude": "magnitude", "position_bias": "position_bias", "landmarks": "landmark"}
    stays = STAGES["landmarks"].stays
    assert {row: merges[row] for row in kinds} == {row: kind not in stays for row, kind in kinds.items()}


def test_each_run_is_counted_once_in_what_the_study_took(folder, records, studies):
    table = compute_table({"ablation": records, **studies}).set_index("study")
    assert table.loc["all", "runs"] == len(list((folder / "runs").iterdir()))
    assert table.loc["all", "training"] == pytest.approx(table.drop("all")["training"].sum())
    assert table.loc["controls", "runs"] < len(studies["controls"].by_run)  # direct has some of them


def test_what_is_absent_is_told_by_settings_and_records(records):
    kept = {name: study_records(MICRO, name, ROOT / "data" / "reference" / "micro") for name in MICRO.tables}
    said = " ".join(absences(MICRO, kept))
    for words in ("published base and text", "A GPU", "Rows of tables", "Seeds.", "published amounts", "Other bases"):
        assert words in said
    few = " ".join(absences(replace(MICRO, studies={}), {"ablation": records}))
    assert "Whole tables" in few and "Rows of tables" not in few and "published amounts" not in few


def test_floats_are_only_those_that_the_scale_has_and_show_something(settings, studies, records, tmp_path):
    write_floats(settings, {"ablation": records, **studies}, tmp_path / "floats.tex")
    text = (tmp_path / "floats.tex").read_text()
    assert re.findall(r"\\define\{tab:(\w+)\}", text) == ["direct", "controls"]
    figures = re.findall(r"\\define\{fig:(\w+)\}", text)
    assert figures == [*ALWAYS, "s2_cost"], "six thousand tokens move nothing that the others could show"
    long = {key: replace(record, specification=replace(record.specification, train_tokens=65_536))
            for key, record in records.by_run.items()}  # fmt: skip
    trained = Records(long, records.tokens, records.folders)
    write_floats(settings, {"ablation": trained, **studies}, tmp_path / "long.tex")
    figures = re.findall(r"\\define\{fig:(\w+)\}", (tmp_path / "long.tex").read_text())
    assert set(figures) == set(PAPER_FIGURES) & set(figures_of(settings))


def test_a_table_of_one_seed_says_so_in_its_caption_and_gets_no_sentence(settings, studies, records, folder, tmp_path):
    two = Records({(row, k): record for (row, _), record in studies["controls"].by_run.items() for k in (0, 1)}, {})
    write_floats(settings, {"ablation": records, **studies, "controls": two}, tmp_path / "floats.tex")
    direct, controls = re.findall(r"\\caption{(.*)}\\label{tab", (tmp_path / "floats.tex").read_text())
    assert "One seed a row, so that no effect can be told from chance; trained on" in direct
    assert "2 seeds; trained on" in controls and "Finds: the smallest effect that so many" in controls
    assert "Effects are against ``rsLoRA, rank 8''" in controls and "Effects are against" not in direct
    told = effect_sentences(read_results(settings, folder / "runs"))
    one_seed = {name for name in settings.studies if len(settings.for_study(name).seeds) == 1}
    assert one_seed >= {"direct", "controls"} and told["HyDirectSentence"] == told["HyControlsSentence"] == ""


def test_the_spread_within_families_of_published_numbers_is_computed_from_them():
    said = noise_sentence(load_catalogue())
    assert (
        f"{percentage(4.3, 1)} (8 degrees of freedom), and of {percentage(2.1, 1)} without" in said
    )  # as ratios: exp(0.0420) - 1
    assert said.endswith("Of the five published steps five, or four, are smaller.")


def test_the_noise_of_single_runs_by_hand():
    """Families (1, 3) and (2, 2, 5): squares about their means 2 and 6, over one and two degrees of freedom."""
    families = [np.array([1.0, 3.0]), np.array([2.0, 2.0, 5.0]), np.array([9.0])]
    assert pooled_sd(families) == (pytest.approx((8 / 3) ** 0.5), 3)
    assert [list(values) for values in without_farthest(families)] == [[1.0, 3.0], [2.0, 2.0], [9.0]]
    assert detectable_by_pair(1.0, 10**6) == pytest.approx(2**0.5 * (1.959964 + 0.841621), rel=1e-4)
    assert detectable_by_pair(1.0, 8) > detectable_by_pair(1.0, 10**6)  # a spread that is known less well


@pytest.mark.skipif(TEX is None, reason="no TeX engine runs on this platform")
def test_the_paper_compiles_from_records_and_nothing_sticks_out(folder, settings, records, tmp_path):
    import yaml

    scale, out = folder / "micro.yaml", folder / "paper"
    scale.write_text(yaml.safe_dump({name: value for name, value in vars(settings).items() if name != "scale"}))
    csv = str(folder / "tables" / "ablation.csv")
    assert (
        main(["table", "--scale", str(scale), "--records", str(folder / "runs"), "--out", str(out), "--csv", csv]) == 0
    )
    words = "".join(rf"\newcommand{{\{name}}}{{word}}" + "\n" for name in CLAIMS_MACROS)
    judged = {"claims_numbers": words, "claims": CLAIM, "contradictions": CONTRADICTION, "verdicts": VERDICTS}
    for name, text in judged.items():
        (out / "tables" / f"{name}.tex").write_text(text)
    for name in re.findall(r"fig:(\w+)", (out / "tables" / "floats.tex").read_text()) + ["published_numbers"]:
        row = FIGURES[name] if name in FIGURES and FIGURES[name].reads == "ablation" else FIGURES["ablation"]
        save_figure(row.draw(records, STAGES, *[{}] * bool(row.beside)), folder / "figures" / name)
    assert build_pdf(MAIN, tmp_path / "paper.pdf", TEX, generated=out, figures=folder / "figures") == []


CLAIM = r"""\claimsof{A document}
\claim{AF-021}{table, row rsLoRA: improvement, against baseline}{17 \%}{mismatch}
\claimscount{Match}{2}
"""
CONTRADICTION = r"\contradiction{X01}{one against the other}{1 match}" + "\n"
VERDICTS = r"\begin{tabular}{lr}\toprule verdict & all\\ \midrule match & 2\\ \bottomrule\end{tabular}"
