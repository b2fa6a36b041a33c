"""Processes that one launcher started share the runs out: each is made once, by one process, as it is made alone."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from held_runs import make_run
from small_runs import small_scale
from struck import struck

from hylorada import HyLoRADAError
from hylorada.cli import main
from hylorada.errors import BusyError
from hylorada.study.plan.record import read_record
from hylorada.study.run import share

LAUNCHED = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "2"}


def as_rank(arguments: list[str], rank: int) -> int:
    """Do a command as the process of a launcher (in a process of its own)."""
    os.environ.update(LAUNCHED, RANK=str(rank), LOCAL_RANK=str(rank))
    return main(arguments)


def results(records: Path) -> dict:
    found = {path.parent.name: read_record(path) for path in records.glob("[!.]*/record.json")}
    return {name: (record.results, record.training and record.training.history) for name, record in found.items()}


def test_two_processes_share_the_runs_and_make_them_as_one_does(data, tmp_path):
    scale, summary = small_scale(tmp_path, train_tokens=256), tmp_path / "summary.json"
    common = ["run", "--scale", scale, "--data", str(data), "--stage", "base", "rslora", "magnitude"]
    assert main([*common, "--records", str(tmp_path / "alone"), "--quiet"]) == 0
    shared = [*common, "--records", str(tmp_path / "shared"), "--summary", str(summary)]
    with ThreadPoolExecutor(2) as pool:
        work = [partial(as_rank, shared, rank) for rank in (0, 1)]
        first, second = pool.map(partial(struck, folder=tmp_path), work)
    assert [first.status, second.status] == [0, 0], first.err + second.err
    assert results(tmp_path / "shared") == results(tmp_path / "alone") and len(results(tmp_path / "alone")) == 3
    assert min(first.events, second.events) > 50, "both took part"
    assert first.out == f"3 records in {tmp_path / 'shared'}\n" and second.out == "" and summary.is_file()
    assert not list((tmp_path / "shared").glob(".*"))


@pytest.mark.parametrize(("cards", "taken"), [(None, "1"), ("4,7", "7"), ("3", "3")])
def test_a_process_trains_alone_on_a_card_of_its_own(cards, taken, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert share.stand_alone() is None and "CUDA_VISIBLE_DEVICES" not in os.environ
    for name, value in (LAUNCHED | {"RANK": "5", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    if cards:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    assert share.stand_alone() == 5 and os.environ["CUDA_VISIBLE_DEVICES"] == taken
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & os.environ.keys()


def test_a_run_that_fails_or_is_busy_keeps_no_other_from_being_made(tmp_path, monkeypatch):
    monkeypatch.setattr(share, "PAUSE", 0)
    runs, asked = [make_run("long", 128), make_run("bad", 96), make_run("short", 64)], []

    def make(run) -> None:
        asked.append(run.stage)
        if run.stage == "bad":
            raise HyLoRADAError("no text.")
        if asked.count("long") < 3 and run.stage == "long":
            raise BusyError("another process is at work on it.")
        run.folder(tmp_path).mkdir()
        (run.folder(tmp_path) / "record.json").touch()

    with pytest.raises(
        HyLoRADAError, match="1 of 3 runs failed; the same command takes them up again. bad-.*: no text"
    ):
        share.share_out(runs, tmp_path, make)
    assert asked == ["long", "bad", "long", "short", "long"]
