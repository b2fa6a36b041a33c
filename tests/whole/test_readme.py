"""What the README says can be done, done; what it says there is, there."""

import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from repository import ROOT

from hylorada.baselines import METHODS
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import KEPT
from hylorada.study.sources.registry import CORPORA, MODELS, GgufModel
from hylorada.study.sources.tiny import llama_config, random_model
from hylorada.study.sources.weights import save
from hylorada.verbs.parser import parser

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """Every call of a program, in a block of commands or between backticks, as its arguments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", README)
    split = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [words[1:] for words in split]


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head, cell by cell."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_lines_of_python_run_as_they_stand(tmp_path, monkeypatch, capsys):
    """In a folder like a checkout after `hylorada fetch`, but with a tiny model at the place of the real one."""
    source, methods = blocks("python")
    (place,) = re.findall(r'^base = "(.+?)"', source, flags=re.MULTILINE)
    assert Path(place).name in MODELS
    save(*random_model(llama_config(hidden=32, layers=2, heads=4, context=4096), seed=0), tmp_path / place, False)
    shutil.copytree(ROOT / "data" / "sample", tmp_path / "data" / "sample")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(source, names)
    assert 1 < names["perplexity"] < float("inf")
    assert names["again"].hylorada_config == names["model"].hylorada_config
    assert all(
        tensor.equal(names["again"].adapter_tensors()[n]) for n, tensor in names["model"].adapter_tensors().items()
    )

    capsys.readouterr()
    exec(methods, names)
    (told,) = re.findall(r"# (lora, .+)", methods)
    assert capsys.readouterr().out.strip() == told == ", ".join(METHODS)
    assert names["model"].count_params()["embeddings"] > 0


def test_every_command_of_hylorada_is_one():
    called = [parser().parse_args(arguments).verb for arguments in commands("hylorada")]
    assert set(called) == set(parser()._subparsers._group_actions[0].choices), (
        "a verb is not in the README, or the reverse"
    )


def test_every_target_and_scale_of_make_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for target, *rest in commands("make"):
        assert target in targets
        for name, _, value in (word.partition("=") for word in rest):
            assert name in ("SCALE", "RECORDS")
            if name == "RECORDS":
                assert (ROOT / value / "micro" / KEPT).is_file()
            else:
                assert value == "mine.yaml" or load_settings(value)


def test_the_settings_to_change_for_another_model_are_settings(tmp_path):
    (changes,) = blocks("yaml")
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        yaml.safe_dump(yaml.safe_load((ROOT / "config" / "micro.yaml").read_text()) | yaml.safe_load(changes))
    )
    assert load_settings(str(mine)).base == "local:models/mine"


def test_every_scale_is_named():
    section = README.split("\n## Another scale")[1].split("\n## ")[0]
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} <= set(re.findall(r"`(\w+)`", section))


def test_every_result_is_made_by_the_workflow():
    snakefile = (ROOT / "Snakefile").read_text()
    made = [file for row in table("Every result, its command and its file") for file in re.findall(r"`(.+?)`", row[2])]
    assert len(made) > 6
    for file in made:
        rule = re.sub(r"^figures/\w+", "figures/{figure}", file)
        assert rule in snakefile or file in ("data/models", "data/corpora", "data/tokens"), file


def test_the_number_of_runs_is_that_of_the_default_scale():
    (runs,) = re.findall(r"(\d+) runs", README)
    assert int(runs) == len(all_runs(load_settings("micro")))


TREE = README.split("\n## Where things are\n")[1].split("```")[1].strip("\n").split("\n")


def names_of(line: str) -> list[str]:
    """Names of a line of the tree: with a slash or an ending, or the one file that has neither."""
    return re.findall(r"(?:^ *|  |, |: |; )([\w-]+(?:\.py|/)|Snakefile)(?=[ ,:]|$)", line)


@pytest.mark.parametrize("line", TREE)
def test_every_path_of_the_tree_exists(line):
    depth = len(line) - len(line.lstrip())
    folder = ROOT / {0: "", 2: "hylorada", 4: "hylorada/study"}[depth]
    assert names_of(line) and all((folder / name).exists() for name in names_of(line))


def test_no_folder_is_missing_from_the_tree():
    mapped = {name.rstrip("/") for line in TREE if not line.startswith(" ") for name in names_of(line)}
    made = (ROOT / ".gitignore").read_text()
    ours = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and f"/{p.name}/" not in made}
    assert {name for name in ours if not name.endswith(".egg-info")} <= mapped


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert "docs/idea.svg" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_picture_is_whole_and_tells_its_content_to_those_who_cannot_see_it():
    picture = ElementTree.parse(ROOT / "docs" / "idea.svg").getroot()
    namespace = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{namespace}svg"
    assert picture.find(f"{namespace}title").text and len(picture.find(f"{namespace}desc").text) > 100


def test_sources_and_licences_are_those_of_the_registry():
    stated = {tuple(cell.strip("`") for cell in row) for row in table("Sources and licences")}
    assert stated == {(name, row.description, row.licence) for name, row in (MODELS | CORPORA).items()}
    firsts = [row.parts[0] for row in MODELS.values() if isinstance(row, GgufModel)] + [CORPORA["wiki"].dump]
    for member in firsts:
        assert f"`{member.wheel.requirement.split('==')[0]}`" in README


def test_no_result_is_typed():
    typed = re.sub(r"<!-- made: result -->.*?<!-- end -->", "", README, flags=re.DOTALL)
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", typed, flags=re.DOTALL | re.MULTILINE)
    stated = [words for row in (MODELS | CORPORA).values() for words in (row.licence, row.description)]
    for named in [r"Python \d\.\d+", r"License \d\.\d", *stated]:
        prose = re.sub(named, "", prose)
    assert re.findall(r"\d+\.\d+", prose) == []


def test_the_citation_is_that_of_the_citation_file():
    preferred = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    (entry,) = blocks("bibtex")
    assert preferred["title"] in " ".join(entry.split())
    assert preferred["authors"][0]["name"] in entry and str(preferred["year"]) in entry
