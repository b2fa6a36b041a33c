"""Kept scales: ordered by what they trained, found below a folder, and where the full answer stands."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from repository import ROOT

from hylorada import HyLoRADAError
from hylorada.files import write_json
from hylorada.study.plan.record import read_record
from hylorada.study.plan.registered import read_plan
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import KEPT, read_archive
from hylorada.study.records.kept import full_answer, kept_scale, kept_scales, kept_tokens, largest_kept

MICRO = ROOT / "data" / "reference" / "micro"


def keep(folder: Path, **values) -> None:
    folder.mkdir(parents=True)
    write_json(folder / KEPT, {"scale": folder.name, "runs": 1} | values)


def test_the_largest_kept_scale_is_the_one_that_trained_most(tmp_path):
    keep(tmp_path / "a_large", trained_tokens=300)
    keep(tmp_path / "small", trained_tokens=20)
    (tmp_path / "other").mkdir()
    assert [folder.name for folder in kept_scales(tmp_path)] == ["small", "a_large"]
    assert largest_kept(tmp_path) == tmp_path / "a_large" and kept_scale(largest_kept(tmp_path)) == "a_large"
    assert largest_kept(tmp_path / "small") == tmp_path / "small"
    with pytest.raises(HyLoRADAError, match=r"holds no kept records \(kept.json\); name a folder that does"):
        largest_kept(tmp_path / "other")
    keep(tmp_path / "older")
    with pytest.raises(HyLoRADAError, match="lacks trained_tokens; keep the records again"):
        kept_scales(tmp_path)


def test_the_tokens_that_a_kept_scale_names_are_those_of_its_records():
    trained = [read_record(path).training for path in MICRO.glob("*/record.json")]
    assert kept_tokens(MICRO) == sum(training.targets for training in trained if training)


def test_a_quick_look_says_where_the_full_answer_stands(tmp_path):
    full = read_plan().scale
    told = f"micro is the quick look; the full answer is that of {full}"
    assert full_answer("micro", tmp_path) == f"{told}, which takes hours: make paper SCALE={full}"
    keep(tmp_path / full, trained_tokens=1)
    assert (
        full_answer("micro", tmp_path) == f"{told}, from kept records: make paper SCALE={full} RECORDS=data/reference"
    )
    assert full_answer(full, tmp_path) == full_answer("smoke", tmp_path) == "", "random models ask something else"


def test_kept_records_of_one_python_are_read_under_another_and_no_others_are(tmp_path):
    """The corpus `code` is the standard library of the Python that runs, which changes with its last number too."""
    run = plan(load_settings("micro"), "methods_code")["rslora_code"][0]
    corpus = run.specification.corpus | {"text_sha256": {"train": "of another Python"}}
    elsewhere = replace(run, specification=replace(run.specification, corpus=corpus))
    found = read_archive(MICRO).of(elsewhere)
    assert found.specification.stage == "rslora_code" and found.specification.training.seed == run.seed
    other = replace(run.specification, corpus=corpus, dtype="float32")
    assert read_archive(MICRO).of(replace(run, specification=other)) is None, "all else is held to"
    shutil.copytree(MICRO / found.name, tmp_path / found.name)
    assert read_archive(tmp_path).of(elsewhere) is None, "a folder in the making is of the Python that makes it"
