"""What ARTIFACT.md tells an evaluator to do can be done, and its numbers are those of the kept records."""

import importlib.util
import re
import shlex
from types import ModuleType

import pytest
from repository import ROOT

from hylorada.reading import read_json
from hylorada.study.claims.judgement import judge
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.sources.registry import CORPORA, MODELS
from hylorada.verbs.parser import parser

ARTIFACT, README = ((ROOT / f"{name}.md").read_text(encoding="utf-8") for name in ("ARTIFACT", "README"))
PROGRAMS = {"hylorada", "make", "snakemake", "python", "git", "sha256sum"}
TYPED = [r"Python 3\.11", r"License 2\.0"]  # numbers that are no result


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("artifact_table", ROOT / "tools" / "artifact_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tool) -> dict[str, str]:
    """What stands between the marks, by name."""
    return {found[2]: found[0].removeprefix(found[1]).removesuffix(found[3]) for found in tool.PART.finditer(ARTIFACT)}


def commands() -> list[list[str]]:
    """Every command in a block or between backticks, as its words; what makes no sense alone is no command."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", ARTIFACT, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    said = [text for text in re.findall(r"`([^`\n]+)`", ARTIFACT) if " " in text and text.split()[0] in PROGRAMS]
    return [shlex.split(line, comments=True) for line in [*lines, *said] if line]


def of(program: str) -> list[list[str]]:
    return [words[1:] for words in commands() if words[0] == program]


def test_every_program_is_known_to_this_test():
    assert {words[0] for words in commands()} == PROGRAMS


def test_every_command_of_hylorada_is_one():
    verbs = {parser().parse_args(words).verb for words in of("hylorada")}
    assert {"run", "claims", "compare", "why", "bench", "page", "paper"} <= verbs


def test_every_target_and_variable_of_make_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets, named = re.findall(r"^(\w+):", makefile, flags=re.MULTILINE), set()
    for target, *variables in of("make"):
        assert target in targets
        for name, value in (variable.split("=") for variable in variables):
            assert f",{name})" in makefile
            assert load_settings(value) if name == "SCALE" else (ROOT / value / "micro" / "kept.json").is_file()
            named.add(name)
    assert named == {"SCALE", "RECORDS"}


def test_every_option_of_the_workflow_is_read():
    snakefile = (ROOT / "Snakefile").read_text()
    calls = of("snakemake")
    assert len(calls) > 1
    for words in calls:
        for option, value in zip(words, words[1:], strict=False):
            if option == "--config":
                assert f'config.get("{value.split("=")[0]}"' in snakefile
            if option == "--profile":
                assert (ROOT / value / "config.yaml").is_file()


def test_every_script_is_there():
    scripts = [word for words in of("python") for word in words if word.endswith(".py")]
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_every_path_is_there_or_made():
    made = (ROOT / "Snakefile").read_text() + (ROOT / ".gitignore").read_text() + "paper/tables/claims.tex"
    paths = [text for text in re.findall(r"`([\w./-]+/[\w./-]+)`", ARTIFACT) if not text.startswith("openai")]
    assert len(paths) > 15
    for path in paths:
        table = re.sub(r"^paper/tables/\w+", "paper/tables/{table}", path)
        assert (ROOT / path).exists() or path in made or table in made, path


def test_the_parts_with_numbers_are_those_of_the_kept_records(tool, written):
    """All but the judged statements, which take longer and are tested below."""
    settings, studies = tool.reference()
    made = {"machine": tool.machine(studies), "runs": tool.runs(settings, studies), "scales": tool.scales()}
    made |= {"deviations": tool.deviations(settings, studies), "licences": tool.licences()}
    assert set(written) == {*made, "verdicts"}
    for name, text in made.items():
        assert written[name].strip() == text.strip(), f"{name}: run python tools/artifact_table.py"


@pytest.fixture(scope="module")
def judgement(tool):
    return judge(*tool.kept())


def test_the_counts_of_verdicts_are_those_of_the_statements_judged_by_the_kept_records(tool, written, judgement):
    assert written["verdicts"].strip() == tool.verdicts(judgement).strip(), "run python tools/artifact_table.py"
    assert sum(judgement.counts.values()) == len(list(judgement.catalogue))


def test_the_readme_and_the_page_tell_what_the_kept_records_give_today(judgement, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import make_docs

    kept = make_docs.largest_kept(make_docs.REFERENCE)
    assert make_docs.kept_scale(kept) == judgement.settings.scale
    assert make_docs.result(judgement).strip() in README, "run `make docs`"
    assert f'content="{judgement.digest}"' in (ROOT / "docs" / "index.html").read_text(encoding="utf-8"), "as above"


def test_every_run_is_in_one_row_of_the_table(tool, written):
    rows = [line.strip("|").split("|") for line in written["runs"].strip().splitlines()[2:]]
    assert (
        sum(int(row[2]) for row in rows)
        == len(all_runs(tool.kept()[0]))
        == read_json(tool.kept()[1] / "kept.json")["runs"]
    )


def test_a_place_without_a_part_is_an_error(tool):
    with pytest.raises(KeyError):
        tool.filled("<!-- made: weather -->\n<!-- end -->", {"runs": "sunny"})


def test_what_is_written_once_is_not_changed_by_writing_it_again(tool, written):
    assert (
        tool.filled(ARTIFACT, {name: text.removeprefix("\n").removesuffix("\n") for name, text in written.items()})
        == ARTIFACT
    )


def test_no_number_is_typed(tool):
    prose = re.sub(r"^```.*?^```$", "", tool.PART.sub("", ARTIFACT), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    for named in TYPED:
        assert re.search(named, prose), f"{named} is no longer needed here"
        prose = re.sub(named, "", prose)
    assert re.findall(r"\S*\d\S*", prose) == []


def test_every_licence_is_named(written):
    assert all(row.licence in written["licences"] for row in (MODELS | CORPORA).values())
