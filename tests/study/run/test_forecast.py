"""What `--dry-run` says: tokens and time of each run, by the pace of what is done, here or in the reference."""

from dataclasses import replace

from fake_records import fake_study

from hylorada.cli import main
from hylorada.files import read_json, write_json
from hylorada.study.plan import specification
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.run.forecast import forecast

MICRO = load_settings("micro")
STEP = 38.0 / (16 * 511)  # seconds a target of the made-up records: 30 s of training, 8 of scoring, 16 blocks of 512


def test_what_is_left_takes_its_tokens_at_the_pace_of_what_is_done_here(tmp_path):
    _, planned = fake_study(tmp_path, seeds=1)
    (done,), (left,) = planned["rslora"], plan(MICRO, "direct")["recommended_r16"]
    lines = forecast([done, left], {done.name}, tmp_path, tmp_path / "none")
    assert lines[0].startswith("done ") and lines[0].endswith(" 38 s")
    seconds = STEP * left.specification.train_tokens
    assert lines[1].startswith("to do ") and f" {seconds:.0f} s" in lines[1]
    assert lines[2] == f"1 done, 1 to do: about {seconds:.0f} s of one process, by what is done here"


def test_before_a_first_record_the_references_pace_counts_and_its_machine_is_named(tmp_path):
    _, planned = fake_study(tmp_path / "reference", seeds=1)
    for run in (run for runs in planned.values() for run in runs if run.seed is not None):
        path = run.folder(tmp_path / "reference") / "record.json"
        write_json(path, read_json(path) | {"evaluation_seconds": 14.0})
    (left,) = plan(MICRO, "direct")["recommended_r16"]
    *_, summary = forecast([left], set(), tmp_path / "empty", tmp_path / "reference")
    assert summary.endswith("at the pace of the reference records (cpu, Imaginary(R) CPU_9 @ 100%)")
    assert f"about {44 / (16 * 511) * left.specification.train_tokens:.0f} s " in summary


def test_lines_count_with_their_padding_and_runs_on_all_text_stay_out_of_the_estimate(tmp_path):
    _, _ = fake_study(tmp_path, seeds=1)
    (published,) = plan(MICRO, "as_published")["published_rslora"]
    (whole,) = plan(replace(MICRO, train_tokens=None, seeds=[7]), "ablation")["rslora"]
    lines = forecast([published, whole], set(), tmp_path, tmp_path)
    assert f"{12 * 512:,} tokens" in lines[0] and " all tokens" in lines[1] and lines[1].endswith(" -")
    assert lines[2].endswith("; 1 on all their text are not in it")
    assert forecast([whole], set(), tmp_path, tmp_path)[-1] == (
        "0 done, 1 to do: no estimate, since all of them train on all their text"
    )


def test_without_any_record_there_is_no_estimate_and_with_all_of_them_nothing_to_do(tmp_path):
    (left,) = plan(MICRO, "direct")["recommended_r16"]
    assert forecast([left], set(), tmp_path, tmp_path)[-1] == "0 done, 1 to do: no record to estimate from"
    _, planned = fake_study(tmp_path, seeds=1)
    runs = [run for runs in planned.values() for run in runs]
    assert forecast(runs, {run.name for run in runs}, tmp_path, tmp_path)[-1] == f"{len(runs)} done, nothing to do"


def test_a_plan_is_listed_at_the_cost_of_one_digest_a_run(tmp_path, monkeypatch, capsys):
    """With eight, a thousand runs took longer to list than a first one to make."""
    digested, digest = [], specification._digest
    monkeypatch.setattr(specification, "_digest", lambda values: digested.append(values) or digest(values))
    seeds = ["--set", f"seeds={list(range(20))}", "studies={}"]
    assert main(["run", "--dry-run", "--scale", "smoke", "--records", str(tmp_path / "none"), *seeds]) == 0
    assert len(digested) == 101 and "0 done, 101 to do" in capsys.readouterr().out
