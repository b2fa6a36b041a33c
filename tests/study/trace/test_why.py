"""From a figure, a table, a claim or a record back to the runs and what made them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fake_claims import fake_claims
from fake_records import fake_study
from repository import CPU_BENCHMARK, ROOT, scale_file

from hylorada.cli import main, parser
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.figures.rows import FIGURES
from hylorada.study.figures.style import save_figure
from hylorada.study.paper.generated import write_generated
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.records import load_records
from hylorada.study.results.results import Results
from hylorada.study.trace.outputs import OUTPUTS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder as the workflow leaves it, of the ablation alone, with a scale that has one study more."""
    folder = tmp_path_factory.mktemp("why")
    runs = folder / "results" / "runs"
    settings, planned = fake_study(runs)
    records = load_records(planned, runs)
    results = Results(replace(settings, studies={}), {"ablation": records})
    write_generated(results, folder / "paper", folder / "results" / "tables" / "ablation.csv")
    save_figure(FIGURES["ablation"].draw(records, STAGES), folder / "figures" / "ablation")
    scale = scale_file("micro") | {"train_lines": None}
    for name, studies in {"own": {}, "wider": {"direct": {"seeds": [0]}}}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(scale | {"studies": studies}))
    names = [run.name for runs in planned.values() for run in runs]
    write_json(folder / "results" / "claims.json", fake_claims(names, scale="own", digest=records.digest))
    return folder


@pytest.fixture
def own(made, tmp_path, monkeypatch):
    """A copy, as the working folder, times kept."""
    folder = Path(shutil.copytree(made, tmp_path / "own"))
    monkeypatch.chdir(folder)
    return folder


def ask(capsys, *words: str, scale: str = "own.yaml") -> str:
    capsys.readouterr()
    assert main(["why", "--ids", "--scale", scale, *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["why", "--scale", "own.yaml", *words]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    return told


OF_THE_ABLATION = [
    *("figures/ablation.pdf", "figures/ablation.png", "paper/tables/ablation.tex", "paper/numbers.tex"),
    *(f"results/tables/{name}.csv" for name in ("ablation", "protocols", "efficiency")),
]


@pytest.mark.parametrize("file", OF_THE_ABLATION)
def test_a_file_leads_to_command_rule_runs_settings_data_code_and_machine(own, capsys, file):
    told = ask(capsys, file)
    for path in (own / "results" / "runs").iterdir():
        record = read_json(path / "record.json")
        assert f"{record['name']}: " in told and f"perplexity {record['results']['perplexity']:.4f}" in told
    for part in (
        *("0" * 40, "Imaginary(R) CPU_9", "torch 2.13.0+cpu", "the present code", "learning_rate=0.0005"),
        *("Apache-2.0", "CC-BY-SA-3.0", "sha256 " + "d" * 12, "31 s training", "newer than all of its 16 records"),
    ):
        assert part in told, part
    rule = re.search(r"\(rule (\w+)\)", told).group(1)
    assert re.search(rf"^rule {rule}:", (ROOT / "Snakefile").read_text(), flags=re.MULTILINE)
    command = re.search(r"made by  hylorada (.+?)   \(", told).group(1)
    parser().parse_args(command.split())


def test_a_reader_who_asks_for_no_ids_sees_names_and_no_digests(own, capsys):
    for words in (["figures/ablation.pdf"], ["AF-021"]):
        assert main(["why", "--scale", "own.yaml", *words]) == 0
        told = capsys.readouterr().out
        assert "rslora-seed0: seed 0, perplexity " in told and "commit   0000000\n" in told
        assert "code     the present code" in told and "sha256" not in told
        assert re.findall(r"\b[0-9a-f]{8,}\b", told) == []
    (late,) = (own / "results" / "runs").glob("rslora-seed1-*")
    shutil.rmtree(late)
    assert main(["why", "--scale", "own.yaml", "figures/ablation.pdf"]) == 0
    assert f"`hylorada run --runs {late.name}` makes it" in capsys.readouterr().out, "a command takes the whole name"


def test_a_row_leads_to_its_runs_and_those_it_is_held_against(own, capsys):
    told = ask(capsys, "results/tables/ablation.csv", "--row", "landmarks")
    names = set(re.findall(r"(\w+)-seed\d-\w{8}: ", told))
    assert names == {"landmarks", STAGES["landmarks"].against}
    assert "--row 'landmark' is no row of this table; did you mean 'landmarks'" in refused(
        capsys, "results/tables/ablation.csv", "--row", "landmark"
    )


def test_a_claim_leads_to_its_verdict_and_its_runs(own, capsys):
    claim = next(c for c in read_json(own / "results" / "claims.json")["claims"] if c["id"] == "AF-021")
    told = ask(capsys, "AF-021")
    for part in (claim["quantity"], claim["verdict"], claim["reason"], claim["source"], *claim["records"], "0" * 40):
        assert part in told, part
    assert "this verdict rests on no run" in ask(capsys, "RN-002")
    assert "has no claim AF-999; it has claims from AF-021 to AF-062, RN-000 to RN-005" in refused(capsys, "AF-999")
    late = own / "results" / "runs" / claim["records"][0] / "record.json"
    os.utime(late, (later := late.stat().st_mtime + 1000, later))
    assert f"OLDER than {claim['records'][0]}" in ask(capsys, "AF-021")


def test_a_record_leads_to_what_made_it_from_its_folder_or_its_files(own, capsys):
    (folder,) = (own / "results" / "runs").glob("landmarks-seed1-*")
    told = ask(capsys, str(folder))
    assert "seed 1" in told and "0" * 40 in told and f"hylorada run --runs {folder.name}" in told
    for file in ("record.json", "nll.npz"):
        assert ask(capsys, str(folder / file)).splitlines()[1:] == told.splitlines()[1:]


@pytest.mark.parametrize("name", ["base", "landmarks-seed1"])
def test_a_reference_record_can_be_asked_about(capsys, name):
    folder, *_ = sorted((ROOT / "data" / "reference" / "micro").glob(f"{name}-[0-9a-f]*"))
    record = read_json(folder / "record.json")
    told = ask(capsys, str(folder), scale="micro")
    assert record["git"]["commit"] in told and record["machine"]["processor"] in told


def test_a_file_older_than_its_records_is_told(own, capsys):
    (late,) = (own / "results" / "runs").glob("rslora-seed1-*/record.json")
    os.utime(late, (later := late.stat().st_mtime + 1000, later))
    told = ask(capsys, "figures/ablation.pdf")
    assert f"OLDER than 1 of its 16 records ({late.parent.name}); make it again" in told and "newer" not in told


@pytest.mark.parametrize("file", ["results/tables/ablation.csv", "results/tables/protocols.csv", "paper/numbers.tex"])
def test_a_file_of_other_records_is_told_whatever_its_age(own, capsys, file):
    (path,) = (own / "results" / "runs").glob("rslora-seed1-*/record.json")
    times = path.stat().st_atime, path.stat().st_mtime
    record = read_json(path)
    record["results"]["mean_nll"] += 0.01
    write_json(path, record)
    os.utime(path, times)
    told = ask(capsys, file)
    assert "made from OTHER records" in told and "OLDER" not in told and "newer" not in told


def test_runs_of_older_code_stand_in_and_are_told(own, capsys):
    (folder,) = (own / "results" / "runs").glob("rslora-seed1-*")
    record = read_json(folder / "record.json")
    record["specification"]["code"], record["name"] = "f" * 64, "rslora-seed1-ffffffff"
    write_json(folder / "record.json", record)
    folder.rename(folder.parent / record["name"])
    told = ask(capsys, "paper/tables/ablation.tex")
    (line,) = [line for line in told.splitlines() if "rslora-seed1-ffffffff: " in line]
    assert "by other code than the present" in line and told.count("by other code") == 1


def test_runs_without_a_record_are_named(own, capsys):
    (own / "figures" / "direct.pdf").write_bytes(b"%PDF-")
    told = ask(capsys, "figures/direct.pdf", scale="wider.yaml")
    settings = load_settings("wider.yaml")
    for row, runs in plan(settings, "direct").items():
        assert all(run.name in told for run in runs), row
    missing = next(run for runs in plan(settings, "direct").values() for run in runs if run.stage == "recommended")
    assert f"{missing.name}: NO RECORD; `hylorada run --runs {missing.name}` makes it" in told
    assert "of its runs have no record in" in told


def test_a_file_of_everything_is_told_briefly(own, capsys):
    (own / "paper" / "main.pdf").write_bytes(b"%PDF-")
    told = ask(capsys, "paper/main.pdf")
    assert len(told.splitlines()) < 30 and "adapter  in 6 ways" in told
    assert all(path.name in told for path in (own / "results" / "runs").iterdir())
    cell = own / "results" / "cells" / "rslora-00000000.json"
    names = [path.name for path in (own / "results" / "runs").glob("rslora-*")]
    write_json(cell, [{"name": name} for name in names])
    told = ask(capsys, "results/cells/rslora-00000000.json")
    assert all(name in told for name in names) and "landmarks-seed0" not in told


def test_the_cost_comes_from_the_benchmark_and_no_run(own, capsys):
    told = ask(capsys, "results/tables/cost.csv")
    record = read_json(CPU_BENCHMARK)
    for part in ("hylorada bench", record["machine"]["processor"], record["finished"], "peft"):
        assert part in told
    assert "seed" not in told


def test_what_is_unknown_or_absent_is_refused_in_one_line(own, capsys):
    told = refused(capsys, "notes.txt")
    assert all(output.pattern in told for output in OUTPUTS)
    assert "is not there; `hylorada figure position_nll` makes it" in refused(capsys, "figures/position_nll.pdf")
    (own / "figures" / "ablatoin.pdf").write_bytes(b"%PDF-")
    assert "figure 'ablatoin' is not known; did you mean 'ablation'" in refused(capsys, "figures/ablatoin.pdf")


def test_every_command_named_is_one_of_ours():
    for output in OUTPUTS:
        if output.command.startswith("hylorada ") and output.rule != "claims":
            options = parser().parse_args(output.command.removeprefix("hylorada ").format("ablation").split())
            assert options.verb == output.rule


def test_a_reader_that_has_seen_enough_is_no_fault():
    """As in `hylorada why ... | head -1`: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "hylorada", "fetch", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
