"""One run: its record says what made it, equal runs give equal bits, and a record is never taken for another."""

import fcntl
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import SMOKE, run_stage, small_scale

from hylorada import loops, wide_products
from hylorada.allocator import in_use
from hylorada.nll import TokenNLL
from hylorada.reading import read_json
from hylorada.study.plan.record import read_record
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.settings import AMOUNTS
from hylorada.study.records.lineage import lineage
from hylorada.study.records.records import machine_key
from hylorada.study.run.execute import execute
from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.identity import model_folder
from hylorada.study.sources.tokens import read_tokens, write_tokens


def test_a_record_says_what_it_is_and_what_made_it(data, tmp_path):
    scale, results = small_scale(tmp_path), tmp_path / "results"
    assert run_stage(scale, "learned_buckets", data, results, "--summary", str(tmp_path / "s.json")) == 0
    (planned,) = plan(load_settings(scale), "ablation")["learned_buckets"]
    folder = planned.folder(results)
    record = json.loads((folder / "record.json").read_text())
    assert record["identity"] == planned.identity and record["specification"] == planned.specification.to_json()
    assert len(record["training"]["history"]) == 4 and record["results"]["scored_tokens"] > 300
    assert record["parameters"]["landmark"] > 0 and record["machine"]["threads"] == 1
    assert record["machine"]["allocator"] == in_use()
    assert {"torch", "transformers", "python"} <= set(record["machine"]["versions"])
    assert record["started"] <= record["finished"] and record["peak_memory_gib"]["process"] > 0.1
    boundaries = record["learned"]["landmark.boundaries"]
    assert len(boundaries) == 31 and any(name.endswith("combine.gate") for name in record["learned"])
    assert {p.name for p in folder.iterdir()} == {"record.json", "nll.npz", "lines.npz", "adapter"}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "work of a finished run must go"
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert row["identity"] == planned.identity
    before = (folder / "record.json").stat().st_mtime_ns
    assert run_stage(scale, "learned_buckets", data, results) == 0
    assert (folder / "record.json").stat().st_mtime_ns == before, "a record is written once"


def test_a_table_of_compiled_pieces_scores_its_base_with_them_and_its_records_say_so(data, tmp_path, monkeypatch):
    """The loops run as they are written: what they come to is held to the model's own in tests/method."""
    monkeypatch.setattr(loops, "_graph", lambda formula: formula)
    monkeypatch.setattr(loops, "check_compiler", lambda device: "no compiler")
    scale = small_scale(tmp_path, compile="pieces", measures={}, line_tokens=None)
    for stage in ("base", "rslora"):
        assert run_stage(scale, stage, data, tmp_path / "results") == 0
    planned = plan(load_settings(scale), "ablation")
    base, arm = (
        read_record(planned[stage][0].folder(tmp_path / "results") / "record.json") for stage in ("base", "rslora")
    )
    for record in (base, arm):
        assert record.specification.compile == "pieces"
        assert record.machine.compiled == "RMSNorm, SwiGLU, rotary positions by no compiler"
        assert "compiled: RMSNorm" in lineage(record)["machine"]
    assert base.results["base_probe_nll"] == arm.results["base_probe_nll"]
    monkeypatch.undo()
    loops.check_compiler.cache_clear()
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        assert run_stage(small_scale(tmp_path, compile="pieces"), "magnitude", data, tmp_path / "results") == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_record_says_what_multiplied_bfloat16_in_place_of_units(dtype, data, tmp_path, monkeypatch):
    """Other bits than those of units: such a machine is not the same as one that has them."""
    monkeypatch.setattr(wide_products, "without_units", lambda: tuple(wide_products.HALVES))
    scale = small_scale(tmp_path, dtype=dtype, measures={}, line_tokens=None)
    assert run_stage(scale, "base", data, tmp_path / "results") == 0
    (planned,) = plan(load_settings(scale), "ablation")["base"]
    record = read_record(planned.folder(tmp_path / "results") / "record.json")
    told = dtype == "bfloat16"
    assert record.machine.half_products == (wide_products.UNITS if told else None)
    assert ("bfloat16 multiplied by float32 units" in lineage(record)["machine"]) is told
    other = replace(record, machine=replace(record.machine, half_products=None))
    assert (machine_key(record) != machine_key(other)) is told


def test_equal_runs_give_equal_bits(data, tmp_path):
    scale = small_scale(tmp_path)
    stored = []
    for name in ("one", "two"):
        assert run_stage(scale, "landmarks", data, tmp_path / name) == 0
        (planned,) = plan(load_settings(scale), "ablation")["landmarks"]
        with np.load(planned.folder(tmp_path / name) / "nll.npz") as file:
            stored.append(file["nll"])
    assert np.array_equal(*stored)


def test_a_killed_run_resumes_where_it_stood_and_ends_with_the_same_bits(data, tmp_path):
    """Killed for good (SIGKILL) in the middle of training, in a process of its own."""
    scale, results = small_scale(tmp_path, num_epochs=2), tmp_path / "results"
    (planned,) = plan(load_settings(scale), "ablation")["magnitude"]
    kill = (
        "import os, signal; from hylorada import trainer, cli\n"
        "save = trainer.HyLoRADATrainer._save_state\n"
        "def then_die(self):\n    save(self)\n    len(self.history) == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "trainer.HyLoRADATrainer._save_state = then_die\n"
        f"cli.main(['run', '--scale', {scale!r}, '--stage', 'magnitude', '--quiet', '--data', {str(data)!r}, "
        f"'--records', {str(results)!r}])"
    )
    died = subprocess.run([sys.executable, "-c", kill])
    assert died.returncode == -9
    work = results / f".{planned.name}.work"
    assert len(json.loads((work / "training_state" / "step-00000003" / "state.json").read_text())["history"]) == 3
    assert not planned.folder(results).exists(), "nothing half-written may look finished"
    assert run_stage(scale, "magnitude", data, results) == 0
    assert run_stage(scale, "magnitude", data, tmp_path / "whole") == 0
    both = [json.loads((planned.folder(r) / "record.json").read_text()) for r in (results, tmp_path / "whole")]
    assert both[0]["training"]["history"] == both[1]["training"]["history"]
    assert both[0]["results"] == both[1]["results"]
    for name in ("nll.npz", "adapter/hylorada.safetensors"):
        one, other = (planned.folder(r) / name for r in (results, tmp_path / "whole"))
        assert one.read_bytes() == other.read_bytes(), name


def test_two_processes_do_not_work_on_one_run(data, tmp_path, capsys):
    scale, results = small_scale(tmp_path), tmp_path / "results"
    (planned,) = plan(load_settings(scale), "ablation")["base"]
    work = results / f".{planned.name}.work"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_stage(scale, "base", data, results) == 2
    assert "another process is at work" in capsys.readouterr().err
    assert run_stage(scale, "base", data, results) == 0


def test_a_run_refuses_a_model_or_tokens_that_are_not_what_its_identity_names(data, tmp_path, capsys):
    """An identity speaks of the pins of today; what lies in the data folder may be of yesterday, or tampered with."""
    scale = small_scale(tmp_path)
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    source = model_folder(SMOKE.base, mine) / "source.json"
    honest = source.read_text()
    source.write_text(json.dumps(json.loads(honest) | {"identity": {"name": "older"}}))
    assert run_stage(scale, "base", mine, tmp_path / "r") == 2
    assert "of an older pin; run `hylorada fetch`" in capsys.readouterr().err
    source.write_text(honest)
    tokens = tokens_path(SMOKE.base, SMOKE.corpus, mine)
    text = read_tokens(tokens)
    with np.load(tokens) as columns:
        held = {name: columns[name] for name in columns if name != "sources"}
    write_tokens(tokens, held, text.sources | {"corpus": {"name": "other"}})
    assert run_stage(scale, "base", mine, tmp_path / "r") == 2
    assert "the tokens are of another model or text" in capsys.readouterr().err
    weights = model_folder(SMOKE.base, mine) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert run_stage(scale, "base", mine, tmp_path / "r") == 2
    assert "was changed after it was fetched" in capsys.readouterr().err
    assert not list((tmp_path / "r").glob("*/record.json"))


def test_a_record_made_meanwhile_by_another_process_is_taken_and_not_made_again(data, tmp_path):
    scale, records = small_scale(tmp_path), tmp_path / "r"
    assert run_stage(scale, "base", data, records) == 0
    (planned,) = plan(load_settings(scale), "ablation")["base"]
    before = (planned.folder(records) / "record.json").stat().st_mtime_ns
    model, tokens = model_folder(SMOKE.base, data), tokens_path(SMOKE.base, SMOKE.corpus, data)
    assert execute(planned, planned.folder(records), model, tokens, False).identity == planned.identity
    assert (planned.folder(records) / "record.json").stat().st_mtime_ns == before


def test_work_left_beside_a_record_is_cleared_away(tmp_path, data):
    """As by a kill between the writing of the record and the end of the process."""
    scale, results = small_scale(tmp_path), tmp_path / "runs"
    assert run_stage(scale, "base", data, results) == 0
    (planned,) = plan(load_settings(scale), "ablation")["base"]
    made = (planned.folder(results) / "record.json").stat().st_mtime_ns
    left = results / f".{planned.name}.work"
    (left / "training_state").mkdir(parents=True)
    assert run_stage(scale, "base", data, results) == 0
    assert not left.exists() and (planned.folder(results) / "record.json").stat().st_mtime_ns == made


def test_a_published_run_follows_its_protocol_and_is_scored_on_lines(data, tmp_path):
    """Every fact that can be read off a record: rows, steps, rates, what moved and what did not."""
    lines = {"lines": 8, "end_token": 8}
    scale = small_scale(tmp_path, train_lines=16, measures=lines, studies={"as_published": {}})
    settings = load_settings(scale)
    for name in ("published_magnitude", "published_position_bias", "published_learned_buckets"):
        assert run_stage(scale, name, data, tmp_path / "r") == 0
    planned = plan(settings, "as_published")
    found = {
        name: read_json(runs[0].folder(tmp_path / "r") / "record.json")
        for name, runs in planned.items()
        if (runs[0].folder(tmp_path / "r") / "record.json").is_file()
    }
    assert len(found) == 3
    for record in found.values():
        history, protocol = record["training"]["history"], record["specification"]["protocol"]
        assert protocol["name"] == "as_published" and not protocol["positions_reach_bias"]
        assert len(history) == 4 and {row["learning_rate"] for row in history} == {5e-4}
        assert sum(row["targets"] for row in history) == 16 * (settings.line_tokens - 1)  # padding counts
        assert 0.2 < record["training"]["padding_share"] < 1
        assert record["measures"].keys() == {"end_token"} and 0 < record["measures"]["end_token"]["mean"] < 1
        assert record["results"]["published_perplexity"] > record["results"]["geometric_perplexity"]
        assert record["moved"]["lora"]["changed"] > 0
    bias, buckets = found["published_position_bias"], found["published_learned_buckets"]
    assert bias["moved"]["position_bias"] == {"entries": 65, "changed": 0, "largest": 0.0}
    assert buckets["moved"]["landmark"]["changed"] == 0 < buckets["moved"]["landmark"]["entries"]
    assert len(buckets["learned"]["landmark.boundaries"]) == 31  # kept, though nothing trained them
    stores = [TokenNLL.load(planned[name][0].folder(tmp_path / "r") / "nll.npz") for name in list(found)[:2]]
    assert np.array_equal(stores[0].nll, stores[1].nll), "stage 3 is stage 2, bit for bit at equal seed"
    assert stores[0].text.max() == 7 and set(stores[0].article) <= {0, 1}


def test_every_measure_of_a_scale_is_in_the_record(data, tmp_path):
    beside = {"lines": 8, "end_token": 1, "shifts": 2, "retrieval": 1, "placebo": 1, "ceiling": 16}
    scale = small_scale(tmp_path, measures=beside, train_tokens=128)
    assert run_stage(scale, "rslora", data, tmp_path / "r") == 0
    (planned,) = plan(load_settings(scale), "ablation")["rslora"]
    record = read_json(planned.folder(tmp_path / "r") / "record.json")
    assert record["measures"].keys() | {"ceiling"} == set(AMOUNTS)
    assert record["training"]["ceiling"] == {}, "rsLoRA has no part beside A and B"
    shifts, retrieval = record["measures"]["shifts"], record["measures"]["retrieval"]
    assert len(shifts["nll"]) == shifts["parts"] == 4 and shifts["tokens"] > 50
    for kind, chance in (("key_value", 1 / 4), ("passkey", 1 / 4)):
        places = retrieval[kind]["places"]
        assert {place["trials"] for place in places} == {1} and {place["chance"] for place in places} == {chance}
        assert all(place["low"] <= place["hits"] <= place["high"] for place in places)
        assert retrieval[kind]["verdict"] == "not measurable here"  # a random model, asked once a place
    lines = TokenNLL.load(planned.folder(tmp_path / "r") / "lines.npz")
    assert record["measures"]["lines"]["results"]["perplexity"] == pytest.approx(lines.corpus_perplexity())
    assert (
        record["views"]["kinds"]["word"]["tokens"] + record["views"]["kinds"]["layout"]["tokens"]
        == (record["results"]["scored_tokens"])
    )


def test_a_tracked_run_gives_the_same_record(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = small_scale(tmp_path)
    (planned,) = plan(load_settings(scale), "ablation")["rslora"]
    results = []
    for folder, more in (("a", []), ("b", ["--tracker", "tensorboard"])):
        assert run_stage(scale, "rslora", data, tmp_path / folder, *more) == 0
        results.append(json.loads((planned.folder(tmp_path / folder) / "record.json").read_text())["results"])
    assert results[0] == results[1]
    assert list((tmp_path / "results" / "tracking" / planned.name).glob("events.*"))
