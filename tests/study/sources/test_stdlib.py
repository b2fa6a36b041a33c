"""The code corpus: modules of the running Python, each in one split, none a copy of another."""

import json
import platform
import tokenize
from types import SimpleNamespace

import pytest
from repository import ROOT

from hylorada.cli import main
from hylorada.errors import HyLoRADAError
from hylorada.study.sources import fetch, identity, registry, stdlib
from hylorada.study.sources.splits import SPLITS
from hylorada.study.sources.wiki import read_split

SPLIT = {"train": ["ape", "ant"], "validation": ["bee"], "test": ["cat.tail"]}


def source(name, lines=100):
    """Text of a module whose long lines no other module has."""
    return "".join(
        f"{name}_{number} = 'a line of {name} that is longer than forty characters'\n" for number in range(lines)
    )


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of four modules, listed by SPLIT in a checkout of its own."""
    folder, pinned = tmp_path / "lib", tmp_path / "checkout" / "data" / "code"
    (folder / "cat").mkdir(parents=True)
    pinned.mkdir(parents=True)
    for titles in SPLIT.values():
        for title in titles:
            folder.joinpath(*title.split(".")).with_suffix(".py").write_text(source(title))
    (pinned / "split.yaml").write_text(json.dumps(SPLIT))
    monkeypatch.setattr(stdlib, "sysconfig", SimpleNamespace(get_paths=lambda: {"stdlib": str(folder)}))
    monkeypatch.setattr(identity, "project_root", lambda: tmp_path / "checkout")
    return folder


def refused(tmp_path, complaint):
    with pytest.raises(HyLoRADAError, match=complaint) as caught:
        fetch.fetch_corpus("code", tmp_path / "data", progress=False)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def pinned_list():
    return read_split(ROOT / "data" / "code" / "split.yaml")


def test_the_command_fetches_the_running_pythons_modules_whole_and_says_which_python(tmp_path, capsys):
    assert main(["fetch", "--corpus", "code", "--data", str(tmp_path), "--quiet"]) == 0
    target = identity.corpus_folder("code", tmp_path)
    assert capsys.readouterr().out.strip() == str(target)
    corpus = fetch.load_corpus(target)
    assert {part: corpus[part]["title"][:] for part in corpus} == pinned_list()
    texts = dict(zip(corpus["test"]["title"], corpus["test"]["text"], strict=True))
    for module in (json, json.decoder):  # one is a package, the other a module in it
        with tokenize.open(module.__file__) as file:
            assert texts[module.__name__] == file.read()
    made = json.loads((target / "source.json").read_text())
    assert made["python"] == platform.python_version() and made["licence"] == "PSF-2.0"
    assert made["identity"] == identity.source_identity("corpus", "code")
    assert 0 < max(made["largest_share_of_lines_in_train"].values()) < stdlib.LARGEST_SHARE / 2
    characters = {part: made["counts"][part]["characters"] for part in SPLITS}
    whole = sum(characters.values())
    assert 2_000_000 < whole < 3_500_000
    assert all(0.07 < characters[part] / whole < 0.13 for part in ("validation", "test"))


def test_the_list_keeps_packages_together_and_has_the_length_that_the_registry_states():
    split = pinned_list()
    packages = {part: {title.split(".")[0] for title in titles} for part, titles in split.items()}
    assert sum(map(len, packages.values())) == len(set.union(*packages.values()))
    assert registry.CORPORA["code"].description.startswith(f"{sum(map(len, split.values()))} modules ")


@pytest.mark.parametrize("copy", ["posixpath", "lzma", "poplib"])  # of ntpath, bz2 and the other mail protocols
def test_real_near_copies_in_two_splits_are_found(copy):
    split = pinned_list()
    split["train"].remove(copy)
    split["test"].append(copy)
    with pytest.raises(HyLoRADAError, match=f"% of the long lines of {copy}, in test, stand in training modules"):
        stdlib.hold_apart(stdlib.read_modules(split))


def test_modules_are_found_as_files_and_as_packages_and_laid_out_by_the_list(library):
    (library / "bee.py").unlink()
    (library / "bee").mkdir()
    (library / "bee" / "__init__.py").write_text(source("bee"))
    assert stdlib.read_modules(SPLIT) == {
        part: {"title": titles, "text": [source(title) for title in titles]} for part, titles in SPLIT.items()
    }


def test_the_identity_is_that_of_the_text_and_the_list(library, monkeypatch, tmp_path):
    first = identity.source_identity("corpus", "code")
    assert identity.source_identity("corpus", "code") == first == json.loads(json.dumps(first))
    moved = library.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(stdlib.sysconfig, "get_paths", lambda: {"stdlib": str(moved)})
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    assert identity.source_identity("corpus", "code") == first
    (moved / "ant.py").write_text(source("ant") + "# one line more\n")
    second = identity.source_identity("corpus", "code")
    changed = {part for part in SPLITS if first["text_sha256"][part] != second["text_sha256"][part]}
    assert changed == {"train"} and first["split_sha256"] == second["split_sha256"]
    turned = SPLIT | {"train": SPLIT["train"][::-1]}
    (tmp_path / "checkout" / "data" / "code" / "split.yaml").write_text(json.dumps(turned))
    assert identity.source_identity("corpus", "code")["split_sha256"] != first["split_sha256"]


def test_a_corpus_of_another_python_is_made_again(library, tmp_path):
    target = fetch.fetch_corpus("code", tmp_path / "data", progress=False)
    (library / "bee.py").write_text(source("bee", lines=101))
    fetch.fetch_corpus("code", tmp_path / "data", progress=False)
    assert fetch.load_corpus(target)["validation"]["text"][0] == source("bee", lines=101)


def test_a_missing_module_is_named_with_the_version_that_lacks_it(library, tmp_path):
    (library / "cat" / "tail.py").unlink()
    refused(tmp_path, rf"^Python {platform.python_version()} lacks cat.tail in .*; the corpus code needs every module")


def test_many_missing_modules_are_named_in_part(library):
    with pytest.raises(HyLoRADAError, match="lacks a0, a1, a2, a3, a4 and 2 more modules in"):
        stdlib.read_modules(SPLIT | {"validation": [f"a{number}" for number in range(7)]})


def test_a_module_of_which_only_a_stub_is_left_is_named(library, tmp_path):
    (library / "bee.py").write_text("from _bee import *\n")
    refused(
        tmp_path, f"^Python {platform.python_version()} has moved the source of bee elsewhere; the corpus code needs"
    )


def test_a_python_without_source_files_says_so(library, tmp_path):
    for file in library.rglob("*.py"):
        file.rename(file.with_suffix(".pyc"))
    refused(tmp_path, f"^Python {platform.python_version()} keeps no source files of its standard library in {library}")


@pytest.mark.parametrize("content", [b"# coding: nonsense\n", b"\xff\xfe", b"#" * 99 + b"\n" * 3 + b"\xff"])
def test_a_module_in_no_known_encoding_is_named(library, tmp_path, content):
    (library / "bee.py").write_bytes(content + source("bee").encode())
    refused(tmp_path, r"the module bee \(.*bee.py\) cannot be read")


def test_a_module_is_read_in_the_encoding_that_it_declares(library):
    text = "# coding: latin-1\n# é\n" + source("bee")
    (library / "bee.py").write_bytes(text.encode("latin-1"))
    assert stdlib.read_modules(SPLIT)["validation"]["text"] == [text]


@pytest.mark.parametrize(("first", "second"), [("ape", "ant"), ("ape", "cat.tail"), ("bee", "cat.tail")])
def test_equal_texts_are_refused_in_any_splits(library, tmp_path, first, second):
    (library / f"{first}.py").write_text(source("same"))
    library.joinpath(*second.split(".")).with_suffix(".py").write_text(source("same") + "\n")
    refused(tmp_path, f"the modules {first} and {second} have the same text")


@pytest.mark.parametrize("held_out", ["bee", "cat.tail"])
def test_up_to_a_twentieth_of_the_long_lines_may_stand_in_train_and_no_more(library, tmp_path, held_out):
    part = next(part for part in SPLITS if held_out in SPLIT[part])
    file = library.joinpath(*held_out.split(".")).with_suffix(".py")
    short = "else:  # a line that all code has\n" * 50
    ape = [f"    {line}" for line in source("ape").splitlines(keepends=True)]
    (library / "ape.py").write_text(short + source("ape"))
    file.write_text(short + source(held_out, lines=95) + "".join(ape[:5]))
    largest = stdlib.hold_apart(stdlib.read_modules(SPLIT))
    assert largest == {"validation": 0.0, "test": 0.0} | {part: 0.05}
    file.write_text(short + source(held_out, lines=94) + "".join(ape[:6]))
    refused(tmp_path, f"6.0% of the long lines of {held_out}, in {part}, stand in training modules too, and at most 5%")
