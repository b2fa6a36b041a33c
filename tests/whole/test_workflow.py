"""The whole workflow at smoke scale, from fetch to PDF: killed, resumed, complete, and idle the second time."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pypdf import PdfReader
from repository import ROOT

from hylorada.cli import main
from hylorada.files import sha256_of
from hylorada.reading import read_json
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.runs import all_runs, cells, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES

BIN = str(Path(sys.executable).parent)


def snakemake(folder: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return [*command, "--directory", str(folder), "--cores", "2", "--config", "scale=smoke", *more]


def surroundings() -> dict[str, str]:
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def make(folder: Path, *more: str) -> str:
    done = subprocess.run(snakemake(folder, *more), env=surroundings(), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, dict[Path, int]]:
    """A workflow killed for good once a record is there and another run is at work; the records it left."""
    folder = tmp_path_factory.mktemp("workflow")
    with (folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            snakemake(folder), env=surroundings(), stdout=log, stderr=log, start_new_session=True
        )
        for _ in range(6000):
            records = list(folder.glob("results/runs/*/record.json"))
            if records and list(folder.glob("results/runs/.*.work/training_state")):
                break
            assert process.poll() is None, (folder / "killed.log").read_text()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = {path: path.stat().st_mtime_ns for path in folder.glob("results/runs/*/record.json")}
    assert left and len(left) < len(all_runs(load_settings("smoke")))
    return folder, left


@pytest.fixture(scope="module")
def finished(killed) -> Path:
    """The same folder after one plain call more."""
    make(killed[0])
    return killed[0]


def test_a_killed_workflow_resumes_and_keeps_the_records_it_had(killed, finished):
    folder, left = killed
    runs = all_runs(load_settings("smoke")).values()
    assert all((run.folder(folder / "results" / "runs") / "record.json").is_file() for run in runs)
    assert all(path.stat().st_mtime_ns == before for path, before in left.items())
    assert not list(folder.glob("results/runs/.*")), "no work is left lying about"


def test_it_makes_the_paper_with_every_stage_in_it(finished):
    text = " ".join(page.extract_text() for page in PdfReader(finished / "paper" / "main.pdf").pages)
    text = re.sub(r"-?\s+", " ", text)
    assert "??" not in text
    for stage in STAGES.values():
        assert stage.label.removeprefix("+ ") in text, stage.label
    smoke = load_settings("smoke")
    floats = (finished / "paper" / "tables" / "floats.tex").read_text()
    shown = [name for name in smoke.studies if f"tables/{name}}}" in floats]
    assert len(shown) > 2
    for name in shown:  # the others stand in a figure, or in the table of both protocols
        assert STUDIES[name].title in text, name
        for row in smoke.rows(name).values():
            assert row.label in text, row.label


def test_the_table_is_made_of_the_records(finished):
    rows = (finished / "results" / "tables" / "ablation.csv").read_text().splitlines()
    (base,) = plan(load_settings("smoke"), "ablation")["base"]
    perplexity = read_json(base.folder(finished / "results" / "runs") / "record.json")["results"]["perplexity"]
    assert len(rows) == 1 + len(STAGES) and f"{perplexity:.6f}"[:7] in rows[1]


def test_figures_tables_report_and_logs_are_there_and_filled(finished):
    smoke = load_settings("smoke")
    figures = [f"figures/{name}.{ending}" for name in figures_of(smoke) for ending in ("pdf", "png")]
    for made in (*figures, "paper/numbers.tex"):
        assert (finished / made).stat().st_size > 500, made
    report = (finished / "results" / "report.html").read_text()
    assert all(name in report for name in figures_of(smoke))
    assert not any(place in report for place in (str(ROOT), str(finished), "source-cache")), "it can be given away"
    assert FIGURES["position_nll"].caption.split("?")[0] in report
    assert "AF-050" in (finished / "results" / "index.html").read_text()
    logs = list(finished.glob("logs/**/*.log"))
    fetched, made = 2 + 1, len(cells(smoke)) + len(("table", "figure", "claims", "paper", "page"))
    assert len(logs) == fetched + made + 1  # the report's
    assert all(log.stat().st_size for log in logs), [log for log in logs if not log.stat().st_size]


def test_a_second_call_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if ".snakemake" not in path.parts}
    assert "Nothing to be done" in make(finished)
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if ".snakemake" not in path.parts}
    assert after == before


def test_the_pdf_is_byte_identical_when_nothing_changed(finished, monkeypatch):
    """By the rules' own commands, in this process; the second call above shows that no rule wants to run by itself."""
    pdf = finished / "paper" / "main.pdf"
    before = sha256_of(pdf)
    monkeypatch.chdir(finished)
    for made in ("paper/numbers.tex", "figures/ablation.pdf", "paper/main.pdf"):
        (finished / made).unlink()
    for command in (["table", "--scale", "smoke"], ["figure", "ablation", "--scale", "smoke"], ["paper"]):
        assert main(command) == 0
    assert sha256_of(pdf) == before


def test_no_output_of_a_rule_is_tracked(finished):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    made = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert not made & set(tracked.stdout.splitlines())


def test_the_rules_pass_the_linter():
    done = subprocess.run([*snakemake(ROOT), "--lint"], env=surroundings(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_tex_everything_else_is_planned_and_one_line_says_how_to_get_it(tmp_path):
    env = surroundings() | {"HYLORADA_TEX": "none"}
    done = subprocess.run([*snakemake(tmp_path), "-n"], env=env, capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert done.returncode == 0 and "rule paper" not in told and "rule table" in told
    assert len([line for line in told.splitlines() if "No TeX was found" in line]) == 1
