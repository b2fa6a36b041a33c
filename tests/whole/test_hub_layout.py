"""The hub's layout: the `gpt2` scale from its cache without a network, folders as downloaded, and articles of lines."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hub_cache
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from repository import scale_file

from hylorada import HyLoRADAError
from hylorada.cli import main
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.sources import fetch, hub
from hylorada.study.sources.lines import lines_of
from hylorada.study.sources.registry import find_corpus, find_model
from hylorada.study.sources.split_files import find_files, flat
from hylorada.study.sources.wikitext import group_articles

GPT2 = scale_file("gpt2")
NEEDS_MORE = (
    "context",
    "methods_code",
)  # longer positions than the tiny models have, and a text that is not of the hub
FITTING = {  # what a width of 32 can hold, and two rates for a grid
    "ranks": ["rslora", "lora", "rslora_r2", "rslora_r16", "lora_r2"],
    "rates": ["rslora_lr1e-04", "rslora_lr5e-04"],
}


def small_studies() -> dict:
    """Every study of the scale with what it measures, of each a little; retrieval asks for a longer prompt."""
    small = {}
    for name, budget in GPT2["studies"].items():
        asked = budget.get("measures", GPT2["measures"])
        amounts = {"lines": 6, "end_token": 6, "shifts": 2}
        measures = {measure: amounts[measure] for measure in asked if measure in amounts}
        rows = {"rows": FITTING[name]} if name in FITTING else {}
        small[name] = {"seeds": [0], "measures": measures} | rows
    return {name: budget for name, budget in small.items() if name not in NEEDS_MORE}


SMALL = dict(
    **dict(seeds=[0, 1], threads=1, block_tokens=32, train_tokens=128, evaluation_stride=16, evaluation_batch=8),
    **dict(batch_size=2, checkpoint_every=2, train_lines=16, line_tokens=32, measures={}),
    studies=small_studies(),
)


def small_gpt2(folder: Path) -> Path:
    """The `gpt2` scale with its own names and small budgets, as a file."""
    path = folder / "gpt2.yaml"
    path.write_text(yaml.safe_dump(GPT2 | SMALL))
    return path


def fill_cache(home: Path, **how) -> None:
    corpus = find_corpus(GPT2["corpus"])
    for model in map(find_model, GPT2["bases"]):
        hub_cache.put_in_cache(home, "models", model.repository, model.revision, hub_cache.write_gpt2)
    write = how.get("write", hub_cache.write_wikitext)
    hub_cache.put_in_cache(home, "datasets", corpus.repository, corpus.revision, write)


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An empty home of the hub's library, which has no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "home"


ALL_VERBS = """
import sys
from hylorada.cli import main
for verb in (["fetch"], ["tokens"], ["run", "--quiet"], ["table"], ["claims"], ["figure", "ablation"]):
    data = ["--data", "data"] * (verb[0] in ("fetch", "tokens", "run"))
    if status := main([*verb, "--scale", sys.argv[1], *data]):
        sys.exit(status)
"""


def test_the_gpt2_scale_runs_from_the_hubs_cache_by_its_own_names(tmp_path):
    """Fetch, tokens, every run of every study, tables, claims and a figure, in a process that may not reach the hub."""
    fill_cache(tmp_path / "home")
    scale = small_gpt2(tmp_path)
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", ALL_VERBS, str(scale)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = all_runs(load_settings(str(scale))).values()
    assert {run.base for run in runs} == set(GPT2["bases"]) and all(name.startswith("hub:") for name in GPT2["bases"])
    records = [json.loads((run.folder(tmp_path / "results/runs") / "record.json").read_text()) for run in runs]
    whole = [record for record in records if record["specification"]["protocol"]["name"] == "corrected"]
    scored = {record["specification"]["evaluation"]["split"] for record in whole}
    assert scored == {"test", "validation"} and len(whole) < len(records)  # rates are compared on validation articles
    for record in whole:
        split = record["specification"]["evaluation"]["split"]
        assert record["results"]["articles"] == hub_cache.PARTS[split]
    judged = json.loads((tmp_path / "results" / "claims.json").read_text())["claims"]
    zeros = [claim["id"] for claim in judged if claim["verdict"] == "STRUCTURAL ZERO" and claim["kind"] == "ppl"]
    assert len(judged) == 366 and "AF-040" in zeros  # the published stage with the inert bias is the one before it
    assert (tmp_path / "paper" / "tables" / "ablation.tex").is_file()
    assert (tmp_path / "figures" / "ablation.pdf").is_file()


def test_downloaded_folders_run_by_their_paths(tmp_path):
    """With all that a download of the whole repositories brings along: other formats of the weights, other texts."""
    hub_cache.write_gpt2(tmp_path / "gpt2")
    for name in ("pytorch_model.bin", "tf_model.h5", "onnx/config.json", "README.md", ".gitattributes"):
        (tmp_path / "gpt2" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "gpt2" / name).write_text("of no use here")
    hub_cache.write_wikitext(tmp_path / "wikitext", ("wikitext-2-raw-v1", "wikitext-2-v1"), shards=2)
    base, corpus = f"local:{tmp_path / 'gpt2'}", f"local:{tmp_path / 'wikitext' / 'wikitext-2-raw-v1'}"
    scale = tmp_path / "mine.yaml"
    own = dict(base=base, bases=[base], corpus=corpus, seeds=[0], studies={}, train_lines=None, line_tokens=None)
    scale.write_text(yaml.safe_dump(GPT2 | SMALL | own))
    common = ["--scale", str(scale), "--data", str(tmp_path / "data")]
    assert main(["fetch", *common, "--quiet"]) == 0 and main(["tokens", *common]) == 0
    command = ["run", *common, "--stage", "rslora", "--records", str(tmp_path / "runs"), "--quiet"]
    assert main(command) == 0
    (record,) = (tmp_path / "runs").glob("rslora-*/record.json")
    read = json.loads(record.read_text())
    assert read["results"]["articles"] == hub_cache.PARTS["test"]
    assert set(read["specification"]["corpus"]["files"]) == {
        f"{part}-0000{index}-of-00002.parquet" for part in hub_cache.PARTS for index in (0, 1)
    }


@pytest.mark.parametrize("older", [False, True])
def test_a_model_of_the_hub_keeps_its_weights_and_ties(older, offline, tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    repository, revision = find_model(GPT2["base"]).repository, find_model(GPT2["base"]).revision
    hub_cache.put_in_cache(offline, "models", repository, revision, lambda at: hub_cache.write_gpt2(at, older))
    folder = fetch.fetch_model(GPT2["base"], tmp_path / "data", progress=False)
    snapshot = hub.model_snapshot(repository, revision)
    made, there = AutoModelForCausalLM.from_pretrained(folder), load_file(snapshot / "model.safetensors")
    assert made.lm_head.weight is made.transformer.wte.weight
    for name, tensor in made.transformer.state_dict().items():
        assert tensor.equal(there["transformer." * older + name].bfloat16()), name
    text = "Naïve 東京 <|endoftext|> = x"
    ids = AutoTokenizer.from_pretrained(folder)(text).input_ids
    assert ids == AutoTokenizer.from_pretrained(snapshot)(text).input_ids and ids.count(256) == 1


def test_wikitext_of_the_hub_is_articles_whose_lines_are_its_rows(offline, tmp_path):
    fill_cache(offline)
    corpus = fetch.load_corpus(fetch.fetch_corpus(GPT2["corpus"], tmp_path / "data", progress=False))
    for part, number in hub_cache.PARTS.items():
        assert len(corpus[part]) == number
        assert lines_of(corpus[part]["text"][:]) == hub_cache.rows(part)
    assert corpus["test"]["title"][:] == ["Article 20", "Article 21"]


def test_what_the_cache_lacks_is_told_on_one_line(offline, tmp_path):
    name = GPT2["corpus"]
    repository, configuration, revision = (
        getattr(find_corpus(name), key) for key in ("repository", "configuration", "revision")
    )
    with pytest.raises(HyLoRADAError, match="could not be downloaded .LocalEntryNotFoundError.: check its name"):
        fetch.fetch_corpus(name, tmp_path / "data", progress=False)
    fill_cache(offline, write=lambda folder: hub_cache.write_wikitext(folder, shards=2))
    with pytest.raises(HyLoRADAError, match="no configuration 'wikitext-2-raw'.* did you mean 'wikitext-2-raw-v1'"):
        hub.data_set_files(repository, "wikitext-2-raw", revision)
    with pytest.raises(HyLoRADAError, match="train of the data set .* there is none"):
        hub.data_set_files(repository, "wikitext-2-v1", revision)
    with pytest.raises(HyLoRADAError, match="no configuration 'default'"):
        hub.data_set_files(repository, None, revision)
    files = hub.data_set_files(repository, configuration, revision)
    assert [path.name for path in files["test"].paths] == [f"test-0000{index}-of-00002.parquet" for index in (0, 1)]
    files["test"].paths[1].unlink()
    with pytest.raises(HyLoRADAError, match="does not hold all shards .* test-00000-of-00002.parquet; bring"):
        hub.data_set_files(repository, configuration, revision)


CARDS = {
    "one configuration": "configs:\n- config_name: only\n  data_files:\n" + "".join(
        f"  - split: {part}\n    path: [wikitext-2-raw-v1/{part}-*]\n" for part in hub_cache.PARTS
    ),
    "a folder alone": "configs:\n- config_name: default\n  data_dir: wikitext-2-raw-v1\n",
    "no list": "license: mit\n",
    "no card": None,
}  # fmt: skip


@pytest.mark.parametrize("card", CARDS)
def test_a_data_set_without_a_full_card_is_found_by_its_file_names(card, offline):
    def write(folder: Path) -> None:
        hub_cache.write_wikitext(folder)
        (folder / "README.md").unlink()
        if CARDS[card] is not None:
            (folder / "README.md").write_text(f"---\n{CARDS[card]}---\n\n# Texts\n")

    fill_cache(offline, write=write)
    repository, revision = find_corpus(GPT2["corpus"]).repository, find_corpus(GPT2["corpus"]).revision
    files = hub.data_set_files(repository, None, revision)
    assert [path.parent.name for path in flat(files)] == ["wikitext-2-raw-v1"] * 3
    if card.startswith("no "):
        assert flat(hub.data_set_files(repository, "wikitext-2-raw-v1", revision)) == flat(files)
        with pytest.raises(HyLoRADAError, match="has no folder 'other'"):
            hub.data_set_files(repository, "other", revision)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_as_downloaded_is_found_with_or_without_its_configuration(shards, tmp_path):
    folder = tmp_path / "wikitext"
    hub_cache.write_wikitext(folder, shards=shards)
    for place in (folder, folder / "wikitext-2-raw-v1"):
        name = f"local:{place}"
        corpus = fetch.load_corpus(fetch.fetch_corpus(name, tmp_path / "data", progress=False))
        assert lines_of(corpus["train"]["text"][:]) == hub_cache.rows("train")


def test_a_folder_that_can_be_read_in_two_ways_is_refused(tmp_path):
    folder = tmp_path / "wikitext"
    hub_cache.write_wikitext(folder, ("wikitext-2-raw-v1", "wikitext-2-v1"), shards=2)
    with pytest.raises(HyLoRADAError, match="splits in each of wikitext-2-raw-v1, wikitext-2-v1; give one of them"):
        find_files(folder)
    inside = folder / "wikitext-2-v1"
    shutil.copy(inside / "test-00000-of-00002.parquet", inside / "test-00000-of-00001.parquet")
    with pytest.raises(HyLoRADAError, match="does not hold all shards of one set"):
        find_files(inside)
    (inside / "test-00000-of-00001.parquet").rename(inside / "test.parquet")
    with pytest.raises(HyLoRADAError, match="more than one form of the split 'test'"):
        find_files(inside)


def grouped(*rows: str) -> dict[str, list[str]]:
    return group_articles({"test": {"title": [""] * len(rows), "text": list(rows)}})["test"]


def test_titles_begin_articles_and_nothing_else_does():
    first = ["", " = One = \n", "", " Text . \n", " = 2 \n", " = 1 = \n", " More . \n", "", " = = Part = = \n", ""]
    second = [" = E = mc 2 = \n", "", " = = Part = = \n", "", "", " = = = Smaller = = = \n", "", " = \n", ""]
    corpus = grouped(*first, *second)
    assert corpus["title"] == ["One", "E = mc 2"]
    assert [lines_of([text]) for text in corpus["text"]] == [first, second]


def test_text_before_the_first_title_is_an_article_without_one():
    corpus = grouped(" The end of something . \n", "", " = One = \n", "", " Text . \n")
    assert corpus["title"] == ["", "One"] and corpus["text"][0] == " The end of something . \n\n"


def test_a_corpus_without_titles_or_with_its_own_stays_as_it_is():
    lines = {"test": {"title": ["", ""], "text": ["A line.", "= no title, being in no blank rows ="]}}
    assert group_articles(lines) == lines
    named = {"test": {"title": ["Mine"], "text": [" = One = "]}}
    assert group_articles(named) == named


def test_a_split_without_titles_beside_one_with_them_is_refused():
    columns = {"title": [""], "text": ["A line."]}
    with pytest.raises(HyLoRADAError, match="^train has no title of an article"):
        group_articles({"train": columns, "test": {"title": [""], "text": [" = One = \n"]}})


ROWS = st.sampled_from(["", " = One = \n", "= Two =", " = = Part = = \n", " = 2 \n", " Text . \n", "bare", " \n", "\n"])


@given(st.lists(ROWS, min_size=1).filter(lambda rows: any(row.strip() for row in rows)))
def test_grouping_keeps_every_line_in_order(rows):
    corpus = grouped(*rows)
    assert lines_of(corpus["text"]) == lines_of(rows)
    assert len(corpus["title"]) == len(corpus["text"])
