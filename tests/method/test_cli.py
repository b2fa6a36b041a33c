"""The command line's own words: what is given to it, where it writes, and what is not installed."""

import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from bases import llama

from hylorada.cli import main
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.sources.tiny import byte_tokenizer

FOREIGN = "import pathlib\npathlib.Path({mark!r}).touch()\n"


def told(arguments: list[str], capsys) -> str:
    """Return the one line that a refused command says."""
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def not_installed(name: str) -> None:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    "arguments", [["table", "--records", ""], ["table", "--records="], ["fetch", "--model", ""], ["why", ""]]
)
def test_an_empty_word_is_no_choice(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nothing is given" in told(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table", "--csv", "folder"], "is a folder; name a file"),
        (["claims", "--json", "file/x.json"], "cannot lie in it"),
        (
            ["claims", "--json", "new", "--csv", "folder/../new"],
            "--json and --csv are one file, folder/../new; name two",
        ),
        (["page", "--out", "folder"], "is a folder; name a file"),
        (["figure", "ablation", "--out", "file"], "is no folder; name a folder"),
        (["page", "--figures", "nope"], "nope is no folder of figures"),
        (["run", "--scale", "smoke", "--summary", "folder"], "is a folder; name a file"),
        (["train", "--scale", "smoke", "--stage", "rslora", "--out", "file"], "is no folder; name a folder"),
        (["export", "nowhere", "--base", "nowhere", "--out", "file"], "is no folder; name a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    assert said in told(arguments, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_has_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not there
    for name in [name for name in sys.modules if name.startswith("hylorada.study.re")]:
        monkeypatch.delitem(sys.modules, name)
    said = told(["compare", "--records", os.devnull], capsys)
    assert said == "hylorada: compare needs pandas; pip install 'hylorada[study]'."
    monkeypatch.setattr("importlib.metadata.Distribution.from_name", not_installed)
    assert told(["compare", "--records", os.devnull], capsys) == "hylorada: compare needs pandas; pip install pandas."


def test_a_models_own_code_never_runs_whoever_says_yes(capsys, tmp_path, monkeypatch):
    """Every door by which a model comes in: its config names code that would leave a mark, and the answer is yes."""
    folder, mark = tmp_path / "model", tmp_path / "mark"
    llama().save_pretrained(folder)
    byte_tokenizer(64).save_pretrained(folder)
    (folder / "foreign.py").write_text(FOREIGN.format(mark=str(mark)))
    for name, own in (
        ("config.json", {"AutoConfig": "foreign.Config", "AutoModelForCausalLM": "foreign.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["foreign.Tokenizer", None]}),
    ):
        write_json(folder / name, read_json(folder / name) | {"auto_map": own})
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    for arguments in (
        ["bench", "--model", str(folder), "--tokens", "8", "--rounds", "1", "--only", "norms", "--quiet"],
        ["export", str(tmp_path / "no-adapter"), "--base", str(folder), "--out", str(tmp_path / "out")],
        ["fetch", "--model", f"local:{folder}", "--data", str(tmp_path / "data")],
    ):
        main(arguments)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"model_type": "foreign"})
    for arguments in (
        ["bench", "--model", str(folder), "--tokens", "8"],
        ["export", str(tmp_path / "no-adapter"), "--base", str(folder), "--out", str(tmp_path / "out")],
        ["fetch", "--model", f"local:{folder}", "--data", str(tmp_path / "other")],
    ):
        capsys.readouterr()
        told(arguments, capsys)
    assert not mark.exists()


def test_a_full_disk_under_standard_output_is_one_line(capsys, monkeypatch):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["fetch", "--list"]) == 2
    said = capsys.readouterr().err
    assert said == "hylorada: what was to be written: No space left on device; make room, or name another place.\n"
