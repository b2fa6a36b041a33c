"""What a name stands for is checked at every door: files that were fetched, scored tokens, records."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from fake_records import fake_study
from small_runs import SMOKE

from hylorada import HyLoRADAError
from hylorada.fetched import hold_fetched
from hylorada.load import load_base, load_tokenizer
from hylorada.nll import TokenNLL
from hylorada.study.plan.record import read_record, write_record
from hylorada.study.plan.runs import plan
from hylorada.study.records.archive import read_archive
from hylorada.study.records.records import load_records
from hylorada.study.run.execute import check_sources
from hylorada.study.sources.encode import is_pinned_text, make_tokens, tokens_path
from hylorada.study.sources.fetch import fetch_model, load_corpus
from hylorada.study.sources.identity import corpus_folder, model_folder
from hylorada.study.sources.splits import SPLITS
from hylorada.study.sources.tokens import read_tokens


@pytest.fixture
def own(data, tmp_path) -> Path:
    """A copy of the fetched data, to be changed."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def other_norm(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))


def other_token(folder: Path) -> None:
    vocabulary = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(vocabulary.replace('"a"', '"\\u0103"', 1))


def one_file_less(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def one_file_more(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")  # transformers would load an adapter


@pytest.mark.parametrize("change", [other_norm, other_token, one_file_less, one_file_more])
def test_a_model_that_was_changed_after_it_was_fetched_is_refused_by_every_reader(own, change):
    folder = model_folder(SMOKE.base, own)
    specification = plan(replace(SMOKE, studies={}), "ablation")["base"][0].specification
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, own))
    assert check_sources(specification, folder, text) == hold_fetched(folder)["files"]["model.safetensors"]
    change(folder)
    for read in (
        lambda: check_sources(specification, folder, text),
        lambda: load_base(folder, torch.float32),
        lambda: load_tokenizer(folder),
        lambda: make_tokens(SMOKE.base, SMOKE.corpus, own),
    ):
        with pytest.raises(HyLoRADAError, match=r"after it was fetched|since it was fetched|beside what was fetched"):
            read()
    fetch_model(SMOKE.base, own, progress=False)  # makes it again
    assert load_tokenizer(folder).eos_token_id == text.end


def test_another_word_in_a_corpus_is_refused(own):
    folder = corpus_folder(SMOKE.corpus, own)
    (table,) = (folder / "test").glob("*.arrow")
    held = table.read_bytes()
    assert held.count(b"bridge") > 2
    table.write_bytes(held.replace(b"bridge", b"BRIDGE", 1))
    for read in (lambda: load_corpus(folder), lambda: make_tokens(SMOKE.base, SMOKE.corpus, own)):
        with pytest.raises(HyLoRADAError, match=r"\.arrow was changed after it was fetched; remove the folder"):
            read()


def test_another_word_in_a_corpus_is_refused_though_its_source_says_so_too(own):
    """`source.json` can be changed as any file; what the code knows of a text holds beyond it."""
    folder = corpus_folder(SMOKE.corpus, own)
    (table,) = (folder / "test").glob("*.arrow")
    table.write_bytes(table.read_bytes().replace(b"bridge", b"BRIDGE", 1))
    made = json.loads((folder / "source.json").read_text())
    made["files"][table.relative_to(folder).as_posix()] = sha256(table.read_bytes()).hexdigest()
    (folder / "source.json").write_text(json.dumps(made))
    assert "BRIDGE" in " ".join(load_corpus(folder)["test"]["text"])
    with pytest.raises(HyLoRADAError, match="holds other texts than those that sample is pinned to; remove"):
        make_tokens(SMOKE.base, SMOKE.corpus, own)


def test_texts_are_held_to_the_digests_in_an_identity_and_those_of_others_to_nothing():
    texts = {split: [f"A text of {split}.", "Another."] for split in SPLITS}
    pins = {part: sha256("\x00".join(rows).encode()).hexdigest() for part, rows in texts.items()}
    assert is_pinned_text("wiki", {"text_sha256": pins}, texts)
    assert not is_pinned_text("wiki", {"text_sha256": pins}, texts | {"test": ["A text of test.", "another."]})
    assert not is_pinned_text("wiki", {"text_sha256": pins | {"train": "0" * 64}}, texts)
    assert is_pinned_text(f"hub:of/somebody@{'0' * 40}", {"repository": "of/somebody"}, texts)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"identity": {}, "files": 3}', "{"])
def test_a_source_that_says_something_else_is_told_and_fetched_again(own, text):
    folder = model_folder(SMOKE.base, own)
    (folder / "source.json").write_text(text)
    with pytest.raises(HyLoRADAError, match=r"source\.json"):
        hold_fetched(folder)
    fetch_model(SMOKE.base, own, progress=False)
    assert hold_fetched(folder)["name"] == SMOKE.base


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Records of the ablation of one seed, with digests as runs write them."""
    folder = tmp_path_factory.mktemp("records")
    _, planned = fake_study(folder, seeds=1)
    for runs in planned.values():
        for run in runs:
            path = run.folder(folder) / "record.json"
            stores = {name: TokenNLL.load(path.with_name(f"{name}.npz")).digest for name in ("nll", "lines")}
            write_record(path, replace(read_record(path), stores=stores))
    return folder, planned


@pytest.mark.parametrize("digests", ["with digests", "as older ones are"])
def test_scored_tokens_of_another_run_are_refused_beside_a_record(study, tmp_path, digests):
    folder, planned = Path(shutil.copytree(study[0], tmp_path / "records")), study[1]
    (ours,), (others,) = planned["rslora"], planned["landmarks"]
    path = ours.folder(folder) / "record.json"
    if digests == "as older ones are":
        path.write_text(json.dumps(replace(read_record(path), stores=None).to_json()))
    load_records(planned, folder)
    shutil.copyfile(others.folder(folder) / "nll.npz", path.with_name("nll.npz"))
    with pytest.raises(HyLoRADAError, match=r"nll\.npz holds other tokens than its record tells of"):
        load_records(planned, folder)


def test_lines_of_another_run_are_refused_beside_a_record(study, tmp_path):
    folder, planned = Path(shutil.copytree(study[0], tmp_path / "records")), study[1]
    (ours,), (others,) = planned["rslora"], planned["landmarks"]
    shutil.copyfile(others.folder(folder) / "lines.npz", ours.folder(folder) / "lines.npz")
    with pytest.raises(HyLoRADAError, match=r"lines\.npz holds other tokens"):
        load_records(planned, folder).lines("rslora", 0)


def test_another_record_under_the_name_of_a_run_and_a_changed_number_are_refused(study, tmp_path):
    folder, planned = Path(shutil.copytree(study[0], tmp_path / "records")), study[1]
    (ours,), (others,) = planned["rslora"], planned["landmarks"]
    path = ours.folder(folder) / "record.json"
    held = path.read_text()
    path.write_text(held.replace('"perplexity": ', '"perplexity": 1', 1))
    with pytest.raises(HyLoRADAError, match="was changed after it was written; remove its folder and make the run"):
        read_archive(folder)
    shutil.copyfile(others.folder(folder) / "record.json", path)
    with pytest.raises(HyLoRADAError, match=f"is the record of {others.name}, and its folder is called {ours.name}"):
        load_records(planned, folder)
