"""What is told while runs are made: study, run, what is done and left; by one of the processes that share a plan."""

import logging
import os
import time
from pathlib import Path
from threading import Event

import pytest
import yaml
from fake_records import fake_study
from repository import scale_file
from small_runs import small_scale

from hylorada.cli import main
from hylorada.files import work_of
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.run import progress as told
from hylorada.study.run.progress import Progress, Shared


@pytest.fixture
def half(tmp_path):
    """Records of the ablation's first seed alone; all its planned runs, and where the records lie."""
    scale = tmp_path / "plain.yaml"
    scale.write_text(yaml.safe_dump(scale_file("micro") | {"measures": {}, "seeds": [0, 1]}))
    fake_study(tmp_path / "runs", seeds=1, scale=str(scale))
    runs = [run for runs in plan(load_settings(str(scale)), "ablation").values() for run in runs]
    return {run.name: ("ablation", run) for run in runs}, tmp_path / "runs"


def begin(records: Path, name: str, seconds: float) -> None:
    """Leave what a run at work leaves, begun so long ago."""
    lock = work_of(records / name) / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - seconds,) * 2)


def standing(half, since: float, jobs: int | None) -> str:
    planned, records = half
    return Progress(planned, records, [], "none", time.time() - since, jobs).standing().words


def test_the_line_says_study_run_what_is_done_of_all_the_time_left_and_the_last_result(half):
    planned, records = half
    left = [name for name in planned if not (records / name).exists()]
    assert len(planned) == 11 and len(left) == 5  # a minute each: 30 s, 8 s, and 22 s around them
    done = f"6 of 11 runs done; {5 * 6144:,} of {10 * 6144:,} tokens"
    assert standing(half, 5, 1).startswith(f"{done}; about 5 min left; last ")
    begin(records, left[0], seconds=30)
    first = f"ablation, {left[0].rpartition('-')[0]}"
    assert standing(half, 60, 1).startswith(f"{first}; {done}; about 4 min left; last ")
    assert "seed1" in first and standing(half, 60, 1).count("-seed0: perplexity ") == 1
    begin(records, left[1], seconds=30)
    assert standing(half, 60, None).startswith(f"{first} and 1 more; {done}; about 120 s left"), "two at once"
    assert standing(half, 5, 1).startswith(done), "what was begun before anybody was at work is left from earlier"


def test_of_processes_that_share_a_folder_one_speaks_once_a_minute(tmp_path):
    first = Shared(tmp_path / "turns")
    second = Shared(tmp_path / "turns")
    assert first.since == second.since
    assert first.is_due() and not first.is_due() and not second.is_due()
    os.utime(tmp_path / "turns" / "told", (time.time() - 61,) * 2)
    assert second.is_due() and not first.is_due()
    first.close()
    os.utime(tmp_path / "turns" / "session", (1, 1))
    third = Shared(tmp_path / "turns")
    assert third.since == second.since - second.since + 1, "the second is still at work, in the session that it is of"
    for one in (second, third):
        one.close()
    alone = Shared(tmp_path / "turns")
    assert alone.since > time.time() - 60, "nobody was left, so that a new one begins"
    alone.close()


def test_what_cannot_be_read_is_told_once_and_stops_no_run(half, caplog):
    planned, records = half
    (records / next(iter(planned)) / "record.json").write_text("{}")
    progress = Progress(planned, records, [], "none", 0.0, 1)
    with caplog.at_level(logging.INFO, logger="hylorada"):
        told._speak(lambda progress, over, turns: progress.standing(), progress, Event(), None)
    (line,) = caplog.messages
    assert line.startswith("no progress is told: ") and "is no whole record" in line


def test_a_log_gets_the_line_of_the_runs_asked_for_or_of_the_whole_scale(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(told, "MINUTE", 0.05)
    monkeypatch.setattr(told, "MOMENT", 0.05)
    scale, records = small_scale(tmp_path), tmp_path / "runs"
    command = ["run", "--scale", scale, "--data", str(data), "--records", str(records)]
    with caplog.at_level(logging.INFO, logger="hylorada"):
        assert main([*command, "--stage", "base", "rslora"]) == 0
        alone = [line for line in caplog.messages if " tokens; " in line]
        caplog.clear()
        assert main([*command, "--stage", "magnitude", "--progress", str(tmp_path / "turns")]) == 0
    assert alone and " of 2 runs done; " in alone[0]
    shared = [line for line in caplog.messages if " tokens; " in line]
    assert shared and "2 of 6 runs done; " in shared[0], "of the whole scale, with what others have done of it"
