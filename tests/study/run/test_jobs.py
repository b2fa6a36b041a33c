"""Runs at once: each is made, the costliest first; a failure is told and stops no other; an interrupt stops all."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from held_runs import make_run
from small_runs import small_scale

from hylorada import HyLoRADAError
from hylorada.cli import main
from hylorada.study.plan.runs import Run, all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.run.jobs import run_at_once


def note(folder: Path, run: Run, ends: dict[str, str]) -> None:
    """Stand in for a run: leave a line that it was made, or end as asked (in a worker process)."""
    match ends.get(run.stage):
        case "error":
            raise HyLoRADAError(f"{run.stage} has no text.")
        case "fault":
            raise KeyError(run.stage)
        case "death":
            os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "made").open("a") as file:
        file.write(f"{run.stage} {os.getpid()}\n")


def made(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "made").read_text().splitlines()]


def is_held(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_costliest_run_comes_first_and_each_once(tmp_path):
    runs = [make_run("base", None, None), make_run("short"), make_run("long", 64, 3), make_run("all", None)]
    run_at_once(runs, partial(note, tmp_path, ends={}), jobs=1)
    assert made(tmp_path) == ["all", "long", "short", "base"]
    assert not {str(os.getpid())} & {line.split()[1] for line in (tmp_path / "made").read_text().splitlines()}


def test_what_fails_is_told_on_one_line_and_the_others_are_made(tmp_path, capfd):
    runs = [make_run(f"run{number}") for number in range(5)]
    ends = {"run0": "error", "run1": "fault"}
    with pytest.raises(HyLoRADAError, match="2 of 5 runs failed; the same command takes them up again") as told:
        run_at_once(runs, partial(note, tmp_path, ends=ends), jobs=2)
    assert "\n" not in str(told.value) and "run" in str(told.value)
    assert sorted(made(tmp_path)) == ["run2", "run3", "run4"]
    assert "KeyError: 'run1'" in capfd.readouterr().err, "a fault of the program shows its traceback"


def test_a_run_whose_process_dies_is_told_and_the_others_are_made(tmp_path):
    runs = [make_run(f"run{number}") for number in range(4)]
    dying = partial(note, tmp_path, ends={"run0": "death"})
    with pytest.raises(HyLoRADAError, match="1 of 4 runs failed; .* run0-.*: its process ended with status -9"):
        run_at_once(runs, dying, jobs=2)
    assert sorted(made(tmp_path)) == ["run1", "run2", "run3"]
    with pytest.raises(HyLoRADAError, match="1 of 4 runs failed, and 3 were not begun"):
        run_at_once(runs, dying, jobs=1)


def test_workers_end_with_their_parent_even_when_it_is_killed(tmp_path):
    lock = tmp_path / "lock"
    program = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from held_runs import hold, make_run\nfrom hylorada.study.run.jobs import run_at_once\n"
        "run_at_once([make_run('long')], partial(hold, Path(sys.argv[1])), jobs=1)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(lock)]) as parent:
        wait_until(lock.with_suffix(".held").exists)
        assert is_held(lock)
        parent.kill()
    wait_until(lambda: not is_held(lock))


def test_workers_give_back_the_semaphores_that_they_took(tmp_path):
    program = (
        "from held_runs import make_run, take_semaphore\nfrom hylorada.study.run.jobs import run_at_once\n"
        "run_at_once([make_run('a'), make_run('b')], take_semaphore, jobs=2)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def wait_until(reached) -> None:
    """Return when `reached` is true; it must be within a minute."""
    for _ in range(1200):
        if reached():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def results(scale: str, records: Path) -> dict[str, dict]:
    found = {}
    for run in all_runs(load_settings(scale)).values():
        record = json.loads((run.folder(records) / "record.json").read_text())
        history = record["training"] and record["training"]["history"]
        found[run.name] = record["results"] | {"history": history}
    return found


def test_two_jobs_give_the_records_that_one_gives(data, tmp_path, capsys):
    scale = small_scale(tmp_path, train_tokens=256)
    common = ["run", "--scale", scale, "--data", str(data)]
    for jobs in ("1", "2"):
        assert main([*common, "--records", str(tmp_path / jobs), "--jobs", jobs, "--quiet"]) == 0
    one = results(scale, tmp_path / "1")
    assert one == results(scale, tmp_path / "2") and len(one) == 6
    assert main([*common, "--records", str(tmp_path / "2"), "--jobs", "2"]) == 0, "nothing is left to do"
    assert main([*common, "--jobs", "0"]) == 2 and "--jobs 0 is too small" in capsys.readouterr().err


def states(records: Path) -> dict[Path, int]:
    """The steps in the newest saved state of each run that is at work or was."""
    saved = sorted(records.glob(".*.work/training_state/step-*"))
    return {state.parent: int(state.name.removeprefix("step-")) for state in saved}


def test_an_interrupt_stops_every_worker_and_leaves_each_run_a_state_to_go_on_from(data, tmp_path):
    scale, records = (
        small_scale(tmp_path, train_tokens=256, num_epochs=4000),
        tmp_path / "runs",
    )  # longer than any wait
    names = [name for name in all_runs(load_settings(scale)) if name.startswith(("rslora", "magnitude"))]
    command = [sys.executable, "-m", "hylorada", "run", "--scale", scale, "--data", str(data)]
    command += ["--records", str(records), "--jobs", "2", "--runs", *names]
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heeds)
    wait_until(lambda: process.poll() is not None or len(states(records)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=240)[1]
    assert process.returncode == 130 and "goes on from the last checkpoint" in told and "Traceback" not in told
    locks = list(records.glob(".*.work/lock"))
    assert len(locks) == 2 and not any(map(is_held, locks))
    assert len(states(records)) == 2 and not list(records.glob("*/record.json"))
    assert all(0 < steps < 8000 for steps in states(records).values())
