"""Runs by the command line: by hand, chosen, listed without being made, and refused on one line."""

import json
from pathlib import Path

import pytest
from small_runs import SMOKE, run_stage, small_scale

from hylorada.cli import main
from hylorada.study.plan.runs import all_runs, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.sources.identity import model_folder


def test_train_and_evaluate_by_hand_give_the_record(data, tmp_path, capsys):
    scale, out = small_scale(tmp_path), tmp_path / "adapter"
    common = ["--scale", scale, "--data", str(data), "--quiet"]
    assert main(["train", "--stage", "rslora", "--seed", "0", "--out", str(out), *common]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--adapter", str(out), "--out", str(tmp_path / "nll.npz"), *common]) == 0
    by_hand = json.loads(capsys.readouterr().out)
    assert run_stage(scale, "rslora", data, tmp_path / "results") == 0
    (planned,) = plan(load_settings(scale), "ablation")["rslora"]
    record = json.loads((planned.folder(tmp_path / "results") / "record.json").read_text())
    assert by_hand.items() <= record["results"].items()


def test_an_adapter_trained_by_hand_is_exported_or_refused_by_the_part_that_cannot_be(data, tmp_path, capsys):
    base, common = (
        str(model_folder(SMOKE.base, data)),
        ["--scale", small_scale(tmp_path), "--data", str(data), "--quiet"],
    )
    for stage in ("magnitude", "landmarks"):
        assert main(["train", "--stage", stage, "--out", str(tmp_path / stage), *common]) == 0
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "magnitude"), "--base", base, "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert main(["export", str(tmp_path / "landmarks"), "--base", base, "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err
    assert "position_bias" in told and "landmark" in told and not (tmp_path / "no").exists()
    plain = ["--svd-rank", "16", "--drop", "--out", str(tmp_path / "plain")]
    assert main(["export", str(tmp_path / "landmarks"), "--base", base, *plain]) == 0
    assert "relative error: mean" in capsys.readouterr().out and (tmp_path / "plain" / "svd_error.json").is_file()
    assert main(["export", str(out), "--base", str(tmp_path), "--out", str(tmp_path / "no")]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--scale", "smoke", "--stage", "rslra"], "did you mean 'rslora'"),
        (["run", "--scale", "smok"], "did you mean 'smoke'"),
        (["train", "--scale", "smoke", "--stage", "base", "--out", "x"], "nothing to train"),
        (["figure", "ablatoin", "--scale", "smoke"], "did you mean 'ablation'"),
        (["fetch", "--model", "smollm3"], "did you mean 'smollm2-135m'"),
        (["run", "--scale", "smoke", "--data", "nowhere"], "run `hylorada tokens` first"),
        (["evaluate", "--scale", "smoke", "--adapter", "nowhere", "--data", "DATA"], "no adapter folder"),
        (["evaluate", "--scale", "smoke", "--adapter", "nowhere", "--data", "neither"], "no adapter folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(data) if word == "DATA" else word for word in arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("hylorada: ") and message in told
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("more", "message"),
    [([], "is no folder; name a folder"), (["--seed", "-1", "--out", "new"], "seeds: -1 is not allowed")],
)
def test_a_training_that_could_not_be_kept_does_not_begin(tmp_path, capsys, more, message):
    (tmp_path / "note.txt").write_text("mine")
    command = ["train", "--scale", "smoke", "--stage", "rslora", "--out", str(tmp_path / "note.txt"), *more]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"] and (tmp_path / "note.txt").read_text() == "mine"


def test_a_folder_of_other_things_is_never_replaced_by_an_adapter(tmp_path, capsys):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "notes.txt").write_text("mine")
    command = ["train", "--scale", "smoke", "--stage", "rslora", "--out", str(tmp_path / "precious")]
    assert main(command) == 2
    assert "holds other things (notes.txt)" in capsys.readouterr().err
    assert (tmp_path / "precious" / "notes.txt").read_text() == "mine"


def test_a_place_that_may_not_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "closed/runs")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(["fetch", "--model", "tiny-gpt2", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.endswith("could not be made (Permission denied); name another place.\n") and said.count("\n") == 1


def test_dry_run_lists_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--dry-run"]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    count = len(all_runs(load_settings("micro")))
    assert len(lines) == count > 51 and all(line.startswith("to do") for line in lines)
    assert summary.startswith(f"0 done, {count} to do: about ") and " min of one process, " in summary
    assert "at the pace of the reference records" in summary
    assert "at the pace of the reference records (cpu, " in summary
    assert main(["run", "--scale", "gpt2", "--study", "direct", "--stage", "base", "--dry-run"]) == 0
    summary = capsys.readouterr().out.splitlines()[-1]
    assert (
        summary.startswith("0 done, 1 to do: no estimate (hub:Salesforce/wikitext")
        and "before it is fetched" in summary
    )
    assert list(tmp_path.iterdir()) == []


def test_runs_can_be_chosen_by_study_row_and_name(tmp_path, capsys):
    scale = small_scale(tmp_path, studies={"direct": {"train_tokens": 64}})
    assert main(["run", "--scale", scale, "--study", "direct", "--stage", "recommended", "--dry-run"]) == 0
    line, _ = capsys.readouterr().out.splitlines()
    name = line.split()[2]
    assert name.startswith("recommended-seed0-") and " 64 tokens" in line
    assert main(["run", "--scale", scale, "--runs", name, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line
    for option, given, near in (("--study", "dierct", "direct"), ("--stage", "recomended", "recommended")):
        assert main(["run", "--scale", scale, option, given, "--dry-run"]) == 2
        assert f"did you mean {near!r}" in capsys.readouterr().err
