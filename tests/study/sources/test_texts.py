"""Texts of the user's own: four forms, three splits, and no text in two of them."""

import json
import os
import unicodedata
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from fetched import nothing_left
from pyarrow import parquet

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import fetch, texts
from hylorada.study.sources.split_files import find_files
from hylorada.study.sources.splits import SPLITS


@pytest.mark.parametrize("form", ["txt", "jsonl", "parquet", "folders"])
def test_local_texts_come_in_four_forms(form, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for part in SPLITS:
        rows = [{"title": "One", "text": f"first of {part}\u2028here"}, {"title": "Two", "text": f"second of {part}"}]
        if form == "folders":
            (folder / part).mkdir()
            for row in rows:
                (folder / part / f"{row['title']}.txt").write_text(row["text"] + "\n")
        elif form == "txt":
            (folder / f"{part}.txt").write_text("\n".join(row["text"] for row in rows) + "\n")
        elif form == "jsonl":
            (folder / f"{part}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            from datasets import Dataset

            Dataset.from_list(rows).to_parquet(str(folder / f"{part}.parquet"))
    corpus = fetch.load_corpus(fetch.fetch_corpus(f"local:{folder}", tmp_path / "data", progress=False))
    titles = ["", ""] if form == "txt" else ["One", "Two"]
    assert corpus["validation"][:] == {
        "title": titles,
        "text": ["first of validation\u2028here", "second of validation"],
    }


def test_local_texts_without_a_split_a_column_or_a_text_are_refused(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    name = f"local:{folder}"

    def refused(complaint):
        with pytest.raises(HyLoRADAError, match=complaint):
            fetch.fetch_corpus(name, tmp_path / "data", progress=False)
        assert nothing_left(tmp_path / "data")

    for part in ("train", "validation"):
        (folder / f"{part}.txt").write_text("words")
    refused("holds no form of the split 'test'; give exactly one of test.txt, test.jsonl, test.parquet .* or test/")
    (folder / "test.jsonl").write_text('{"body": "words"}\n')
    refused("test.jsonl: row 1 has no string in a column 'text'")
    for row in ('{"text": "half of one: \\ud83c"}', '{"title": "\\ud83c", "text": "words"}'):
        (folder / "test.jsonl").write_text(f'{{"text": "whole: \\ud83c\\udf0a"}}\n{row}\n')
        refused("test.jsonl: row 2 holds half a character")
    (folder / "test.jsonl").write_text("words\n")
    refused("test.jsonl is damaged, or no JSON object a line")
    (folder / "test.jsonl").write_text('{"text": "  "}\n')
    refused("no text in test")
    (folder / "test.txt").write_text("words")
    refused("more than one form of the split 'test'")
    (folder / "test.jsonl").unlink()
    (folder / "test.txt").write_bytes(b"\xff\xfe")
    refused("test.txt is not UTF-8")
    (folder / "test.txt").unlink()
    torn = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": torn}), folder / "test.parquet")
    refused("test.parquet holds text that is not UTF-8")


def test_names_of_files_that_are_not_utf8_are_no_hindrance(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/m\xefne")
    for part in SPLITS:
        os.makedirs(f"{folder}/{part}")
        Path(f"{folder}/{part}/na\udcefve.txt").write_text(f"words of {part}")
    corpus = fetch.load_corpus(fetch.fetch_corpus(f"local:{folder}", tmp_path / "data", progress=False))
    assert corpus["test"][:] == {"title": ["na\ufffdve"], "text": ["words of test"]}


@pytest.mark.parametrize(("words", "part", "refused"), [(20, "test", True), (20, "train", False), (19, "test", False)])
def test_a_corpus_of_the_users_own_is_refused_when_a_text_is_in_two_splits(words, part, refused):
    text = " ".join(map(str, range(words)))
    columns = {name: {"title": ["", ""], "text": [name, "other"]} for name in ("train", "validation", "test")}
    columns["train"]["text"].append(text)
    columns[part]["text"].append(f" {text}\n")
    if refused:
        with pytest.raises(
            HyLoRADAError, match="mine: a text is in train and in test .0 1 2 3 4 5 ....; keep it in one"
        ):
            texts.hold_apart(columns, "mine")
    else:
        assert texts.hold_apart(columns, "mine") is columns


@pytest.mark.parametrize(
    "other",
    [
        str.upper,
        lambda t: t.replace(" ", "\u00a0\n"),
        lambda t: f"\ufeff{t}\u200b",
        partial(unicodedata.normalize, "NFD"),
    ],
    ids=["case", "white space", "unseen signs", "accents"],
)
def test_a_text_is_known_again_in_another_form(other):
    text = " ".join(f"wörd{number}" for number in range(20))
    columns = {part: {"title": [""], "text": [part]} for part in SPLITS} | {"train": {"title": [""], "text": [text]}}
    columns["test"]["text"] = [other(text)]
    assert other(text) != text
    with pytest.raises(HyLoRADAError, match="mine: a text is in train and in test"):
        texts.hold_apart(columns, "mine")


@pytest.mark.parametrize("form", ["txt", "jsonl", "parquet", "folders"])
def test_a_byte_order_mark_is_no_text(form, tmp_path):
    """The title behind it is one, and the same text in two splits is seen where one of them has the mark."""
    rows = [" = Bridges = ", "", "An arch stands by its own weight."]

    def written(folder, mark):
        (folder / "train").mkdir(parents=True)
        for part in SPLITS:
            if form == "txt":
                (folder / f"{part}.txt").write_text(mark + "\n".join(rows), encoding="utf-8")
            elif form == "folders":
                (folder / part).mkdir(exist_ok=True)
                (folder / part / "Bridges.txt").write_text(mark + rows[2], encoding="utf-8")
            elif form == "jsonl":
                values = [{"title": f"{mark}Bridges", "text": mark + rows[2]}]
                lines = mark + "\n".join(map(json.dumps, values))
                (folder / f"{part}.jsonl").write_text(lines, encoding="utf-8")
            else:
                from datasets import Dataset

                Dataset.from_dict({"text": [mark + rows[2]]}).to_parquet(str(folder / f"{part}.parquet"))
        return texts.read_files(find_files(folder))

    plain, marked = written(tmp_path / "plain", ""), written(tmp_path / "marked", "\ufeff")
    assert marked == plain
    assert plain["test"]["title"] == ([""] if form == "parquet" else ["Bridges"])


def test_one_text_with_and_without_a_byte_order_mark_is_one_text(tmp_path):
    long = " ".join(map(str, range(texts.NO_ACCIDENT)))
    for part, text in (("train", long), ("validation", "other words"), ("test", f"\ufeff{long}")):
        (tmp_path / f"{part}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(HyLoRADAError, match="a text is in train and in test"):
        fetch.fetch_corpus(f"local:{tmp_path}", tmp_path / "data", progress=False)


@pytest.mark.parametrize("damage", ["inside", "end", "all"])
def test_a_damaged_parquet_is_named_and_not_the_folder_that_it_was_to_fill(damage, tmp_path):
    from datasets import Dataset

    for part in SPLITS:
        rows = {"text": [f"{part} {number} {'words ' * 40}" for number in range(200)]}
        Dataset.from_dict(rows).to_parquet(str(tmp_path / f"{part}.parquet"))
    path = tmp_path / "validation.parquet"
    held = path.read_bytes()
    noise = bytes(number * 37 % 256 for number in range(len(held)))
    path.write_bytes({"inside": held[:20] + noise[:600] + held[620:], "end": held[:-9], "all": noise}[damage])
    with pytest.raises(HyLoRADAError, match="validation.parquet is damaged, or no parquet file") as told:
        fetch.fetch_corpus(f"local:{tmp_path}", tmp_path / "data", progress=False)
    assert "\n" not in str(told.value) and nothing_left(tmp_path / "data")
