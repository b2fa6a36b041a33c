"""The Makefile: its help names every target, `make quick` takes what it says, and `make clean` what was made alone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bases import FAMILIES
from repository import ROOT

from hylorada.baselines import METHODS
from hylorada.study.plan.ablation import STAGES

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, folder: Path = ROOT) -> str:
    # These tests run under `make test` too, whose level and flags would speak in what is read here.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "--file", str(ROOT / "Makefile"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=env).stdout


def test_help_lists_every_target():
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"^make (\w+) ", make("help"), flags=re.MULTILINE)) == set(targets.split()) - {"help"}


def test_set_up_gets_the_allocator_once(tmp_path):
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    assert ".venv/bin/python tools/get_allocator.py" in make("--dry-run", "setup", folder=tmp_path).splitlines()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".stamp").write_text("")
    assert "get_allocator" not in make("--dry-run", "setup", folder=tmp_path)


def test_the_quick_tests_are_the_formulas_and_every_claim_of_one_family():
    *_, command = make("--dry-run", "quick").replace("\\\n", "").splitlines()
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    listing = f"{command} --collect-only -q -p no:cacheprovider"
    listed = subprocess.run(listing, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    chosen = [line.partition("::") for line in listed.splitlines() if "::" in line]
    formulas = re.findall(r"^def (test_\w+)", (ROOT / "tests/method/test_formulas.py").read_text(), flags=re.MULTILINE)
    assert set(formulas) <= {re.sub(r"\[.*", "", test) for _, _, test in chosen}
    rows = [test for file, _, test in chosen if file.endswith("test_every_method.py")]
    families = {family for family in FAMILIES for test in rows if re.search(rf"[\[-]{family}-", test)}
    assert families == {"llama"}
    for name in [*list(STAGES)[1:], *(f"method-{name}" for name in METHODS)]:
        assert any(f"llama-{name}]" in test for test in rows), name


@pytest.fixture
def fake_workflow(tmp_path):
    """Return what a snakemake that only tells its arguments and cache was called with by `make paper`."""
    for name in ("requirements.lock", "pyproject.toml", ".venv/.stamp", ".venv/bin/snakemake"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('#!/bin/sh\nprintf \'%s\\n\' told "$@" "$XDG_CACHE_HOME"\n')
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "full_answer.py").write_text("")
    (tmp_path / ".venv/bin/snakemake").chmod(0o755)

    def paper(*given: str, **surroundings: str | None) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"VIRTUAL_ENV": None, "CONDA_PREFIX": None} | surroundings).items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            lines = make("--silent", "paper", *given, folder=tmp_path).splitlines()
        return lines[lines.index("told") + 1 :]

    return paper


@pytest.mark.parametrize(
    "scale", ["my scales/mine.yaml", "it's $x.yaml", "$(shell touch a)$(touch b)`touch c`;touch d"]
)
def test_a_scale_is_one_word_whatever_it_holds_and_nothing_in_it_runs(scale, fake_workflow, tmp_path):
    before = sorted(tmp_path.iterdir())
    *asked, _ = fake_workflow(f"SCALE={scale}", "RECORDS=kept ones")
    assert asked == ["--cores", "all", "--config", f"scale={scale}", f"records=kept ones/{scale}"]
    assert fake_workflow(SCALE=scale)[3] == f"scale={scale}"
    assert fake_workflow()[3:-1] == ["scale=micro"]
    assert fake_workflow("RECORDS=kept ones")[3:-1] == ["records=kept ones"], "of the largest scale that is kept there"
    assert sorted(tmp_path.iterdir()) == before
    for line in (ROOT / "Snakefile").read_text(encoding="utf-8").splitlines():
        for value in re.findall(r"\{(?:params\.\w+|SCALE|RECORDS)(:q)?\}", line):
            assert value == ":q", line


def test_caches_lie_in_the_checkout_where_the_home_folder_cannot_be_used(fake_workflow, tmp_path):
    for home in ("/proc/nobody", None):
        assert fake_workflow(HOME=home, XDG_CACHE_HOME=None)[-1] == str(tmp_path / ".snakemake" / "cache")
    assert fake_workflow(HOME=str(tmp_path / "home"), XDG_CACHE_HOME=None)[-1] == ""
    assert fake_workflow(XDG_CACHE_HOME=str(tmp_path / "mine"))[-1] == str(tmp_path / "mine")


def test_clean_leaves_what_git_keeps(tmp_path):
    """Figures and records go; the note on the figures, the sources and the downloads stay."""
    made = [
        "figures/ablation.pdf",
        "figures/old/one.png",
        "results/runs/a/record.json",
        "paper/main.pdf",
        "data/tokens/t",
    ]
    kept = ["figures/README.md", "paper/main.tex", "data/cache/wheel"]
    for name in (*made, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    make("clean", folder=tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    ignored = subprocess.run(["git", "check-ignore", *made, *kept], cwd=ROOT, capture_output=True, text=True).stdout
    if (ROOT / ".git").exists():
        assert set(ignored.split()) == {*made, "data/cache/wheel"}
