"""What `--dry-run` says: tokens and time of each run, by the paces of what is done, here or in the reference."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import torch
import yaml
from fake_records import fake_study
from repository import ROOT, scale_file
from safetensors.torch import save_file

from hylorada.cli import main
from hylorada.evaluation import score_windows
from hylorada.study.plan import specification
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import read_archive
from hylorada.study.run.amounts import LIST_TOKENS, OF_A_BATCH, PASSKEY_ROWS, PASSKEY_TOKENS, Amounts, tokens_read
from hylorada.study.run.forecast import forecast
from hylorada.study.run.paces import FLOAT32, Paces

MICRO = load_settings("micro")
KEPT = ROOT / "data" / "reference" / "micro"
TRAINING, SCORING, AROUND = 30.0, 8.0, 22.0  # seconds of the made-up records, for 6,144 tokens of training


def estimates(wanted, done, records, references=(), data="none"):
    """The lines of `forecast`, which ends with their summary."""
    return forecast(wanted, done, records, references, data)


@pytest.fixture(scope="module")
def scale(tmp_path_factory) -> str:
    """micro without the published lines, which the made-up records do not have."""
    path = tmp_path_factory.mktemp("scale") / "plain.yaml"
    path.write_text(yaml.safe_dump(scale_file("micro") | {"measures": {}}))
    return str(path)


@pytest.fixture(scope="module")
def kept():
    """The archive of the kept records, and what counts their texts."""
    archive, amounts = read_archive(KEPT), Amounts("none")
    amounts.learn(archive.records.values())
    return archive, amounts


def wall(record) -> float:
    return (datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)).total_seconds()


def as_made(archive, run):
    """The record of a planned run, and the run as it was made: on the text of the Python of then."""
    record = archive.of(run)
    return record, replace(run, specification=record.specification)


def test_every_study_takes_what_the_others_foretell_within_a_third(kept):
    archive, amounts = kept
    predicted, taken = {}, {}
    for study in MICRO.tables:
        made = [as_made(archive, run) for runs in plan(MICRO, study).values() for run in runs]
        runs = {record.name: run for record, run in made}
        paces = Paces([record for name, record in archive.records.items() if name not in runs], list, amounts)
        predicted[study] = sum(paces.of(run).seconds for run in runs.values())
        taken[study] = sum(wall(archive.records[name]) for name in runs)
    ratios = {study: predicted[study] / taken[study] for study in predicted}
    assert all(3 / 4 < ratio < 4 / 3 for ratio in ratios.values()), ratios
    assert 0.9 < sum(predicted.values()) / sum(taken.values()) < 1.1


def test_what_the_first_runs_take_foretells_the_rest_on_a_machine_three_times_as_slow(kept):
    archive, amounts = kept
    slow = {
        name: replace(
            record,
            evaluation_seconds=3 * record.evaluation_seconds,
            training=record.training and replace(record.training, seconds=3 * record.training.seconds),
        )
        for name, record in archive.records.items()
    }
    planned = [run for study in MICRO.tables for runs in plan(MICRO, study).values() for run in runs]
    runs = [as_made(archive, run) for run in planned]
    first = {record.name for record, _ in runs[:3]}
    paces = Paces([slow[name] for name in first], lambda: list(archive.records.values()), amounts)
    rest = {record.name: run for record, run in runs if record.name not in first}
    predicted, taken = sum(paces.of(run).seconds for run in rest.values()), sum(slow[name].seconds for name in rest)
    assert 3 / 4 < predicted / taken < 4 / 3
    assert not any(paces.of(run).notes for run in rest.values())


@pytest.mark.parametrize(("length", "stride", "batch"), [(64, 64, 1), (64, 32, 4), (512, 511, 32), (16, 15, 3)])
def test_the_tokens_of_scoring_are_those_of_its_windows_padded_in_batches(length, stride, batch):
    lengths = np.random.default_rng(0).integers(0, 1500, 40).tolist()
    step = min(stride, length - 1)
    windows = [end - begin for n in lengths for begin, end, _ in score_windows(n, length, step)]
    batches = np.array_split(sorted(windows, reverse=True), range(batch, len(windows), batch))
    expected = sum(len(each) * max(each) + OF_A_BATCH for each in batches)
    assert tokens_read(lengths, length, step, batch) == expected


def test_a_trial_of_retrieval_reads_about_what_the_records_say(kept):
    for record in kept[0].records.values():
        if record.measures.retrieval is not None:
            read = sum(kind.tokens_read for kind in record.measures.retrieval.values())
            trials = record.specification.measures["retrieval"]
            assert PASSKEY_ROWS * PASSKEY_TOKENS + LIST_TOKENS == pytest.approx(read / trials, rel=0.1)


def test_texts_are_counted_by_the_token_file_and_without_one_by_records_or_kept_counts(kept, tmp_path):
    (run,) = plan(replace(MICRO, seeds=[0]), "ablation")["rslora"]
    rng, columns = np.random.default_rng(0), {}
    for split, articles in (("train", 3), ("validation", 40), ("test", 13)):
        columns[f"{split}_lengths"] = rng.integers(300, 900, articles)
        columns[f"{split}_line_lengths"] = rng.integers(20, 80, 300)
        columns[f"{split}_line_characters"] = columns[f"{split}_line_stripped"] = np.arange(300)
    (tmp_path / "tokens").mkdir()
    np.savez(tmp_path / "tokens" / "smollm2-135m--wiki.npz", **columns)
    articles = np.minimum(columns["test_lengths"], 512)
    lines = columns["validation_line_lengths"][101:125]  # 24, of more than 100 characters
    counted = Amounts(tmp_path).of(run)
    assert counted.scored == articles.sum() + lines.sum() + OF_A_BATCH * (13 + 24)
    whole = replace(run, specification=replace(run.specification, train_tokens=None))
    assert Amounts(tmp_path).of(whole).trained == (columns["train_lengths"].sum() + 3) // 512 * 512
    assert kept[1].of(run).scored == pytest.approx(9_462 + OF_A_BATCH * 37, rel=0.01)  # those of the kept nll.npz
    plain = replace(run, specification=replace(run.specification, measures={}))
    assert Amounts("none").of(plain).scored == 13 * (512 + OF_A_BATCH), "every article is longer, by the kept counts"
    assert Amounts("none").of(run).scored is None


def test_what_is_left_takes_training_and_scoring_at_the_paces_of_what_is_done_here(tmp_path, scale):
    _, planned = fake_study(tmp_path, seeds=2, scale=scale)
    done, left = planned["rslora"]
    (left.folder(tmp_path) / "record.json").unlink()
    line, other, summary = estimates([done, left], {done.name}, tmp_path)
    assert line.startswith("done ") and line.endswith(" 38 s")
    assert other.startswith("to do ") and other.endswith(f" {TRAINING + SCORING + AROUND:.0f} s")
    assert summary == "1 done, 1 to do: about 60 s of one process, by what is done here"
    twice = replace(left, specification=replace(left.specification, train_tokens=2 * 6144))
    assert estimates([twice], [], tmp_path)[0].endswith(f" {2 * TRAINING + SCORING + AROUND:.0f} s")


def test_before_a_first_record_the_references_pace_counts_and_its_machine_is_named(tmp_path, scale):
    _, planned = fake_study(tmp_path / "reference", seeds=1, scale=scale)
    *_, summary = estimates(planned["rslora"], [], tmp_path / "empty", [tmp_path / "reference"])
    assert "about 60 s of one process" in summary
    assert summary.endswith("at the pace of the reference records (cpu, Imaginary(R) CPU_9 @ 100%)")


def test_float32_and_a_base_that_no_record_is_of_are_scaled_and_told(tmp_path, scale, monkeypatch):
    _, planned = fake_study(tmp_path / "runs", seeds=1, scale=scale)
    (run,) = planned["rslora"]
    wide = replace(run, specification=replace(run.specification, dtype="float32"))
    line, summary = estimates([wide], [], tmp_path / "runs")
    assert (
        line.endswith(f" {(FLOAT32 * (TRAINING + SCORING) + AROUND) / 60:.0f} min")
        and "; float32 as 3.7 times bfl" in summary
    )
    evaluation = replace(run.specification.evaluation, dtype="float32")
    scored = replace(run, specification=replace(run.specification, evaluation=evaluation))
    line, _ = estimates([scored], [], tmp_path / "runs")
    assert line.endswith(f" {TRAINING + FLOAT32 * SCORING + AROUND:.0f} s")
    other = replace(run, base="hub:a/b@" + 40 * "0", specification=replace(run.specification, base={"name": "b"}))
    assert "no record is of hub:a/b, or of a base near its size" in estimates([other], [], tmp_path / "runs")[-1]
    monkeypatch.setattr(Amounts, "parameters", lambda self, base: 2 * 134_515_008)
    line, summary = estimates([other], [], tmp_path / "runs")
    seconds = int(line.split()[-2])
    assert seconds == pytest.approx(2 * (TRAINING + SCORING) + AROUND, rel=0.06), "its text is that of the kept counts"
    assert summary.endswith("; hub:a/b by its parameters")


def test_the_parameters_of_a_fetched_base_are_counted_in_its_weights(tmp_path):
    (tmp_path / "models" / "tiny-llama").mkdir(parents=True)
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "models" / "tiny-llama" / "model.safetensors")
    assert Amounts(tmp_path).parameters("tiny-llama") == 22 and Amounts(tmp_path).parameters("tiny-gpt2") is None


def test_lines_count_with_their_padding_and_runs_on_text_that_is_not_there_are_not_in_the_estimate(tmp_path, scale):
    fake_study(tmp_path, seeds=1, scale=scale)
    settings = load_settings(scale)
    (published,) = plan(settings, "as_published")["published_rslora"]
    (code,), (rslora,) = plan(settings, "methods_code")["base_code"], plan(settings, "direct")["recommended"]
    lines = estimates([published, code, rslora], [], tmp_path)
    assert f"{12 * 512:,} tokens" in lines[0] and lines[0].endswith(" -") and lines[1].endswith(" -")
    assert ", without 2 of them, by what is done here; code is not counted before it is fetched; wiki is" in lines[3]
    assert (
        estimates([code], [], tmp_path)[-1] == "0 done, 1 to do: no estimate (code is not counted before it is fetched)"
    )


def test_without_any_record_there_is_no_estimate_and_with_all_of_them_nothing_to_do(tmp_path):
    (left,) = plan(MICRO, "direct")["recommended_r16"]
    told = estimates([left], [], tmp_path)[-1]
    assert told == "0 done, 1 to do: no estimate (no record is of smollm2-135m, or of a base near its size)"
    _, planned = fake_study(tmp_path, seeds=1)
    runs = [run for runs in planned.values() for run in runs]
    assert estimates(runs, {run.name for run in runs}, tmp_path)[-1] == f"{len(runs)} done, nothing to do"


def test_a_plan_is_listed_at_the_cost_of_one_digest_a_run(tmp_path, monkeypatch, capsys):
    """With eight, a thousand runs took longer to list than a first one to make."""
    digested, digest = [], specification._digest
    monkeypatch.setattr(specification, "_digest", lambda values: digested.append(values) or digest(values))
    seeds = ["--set", f"seeds={list(range(20))}", "studies={}"]
    assert main(["run", "--dry-run", "--scale", "smoke", "--records", str(tmp_path / "none"), *seeds]) == 0
    assert len(digested) == 101 and "0 done, 101 to do" in capsys.readouterr().out
