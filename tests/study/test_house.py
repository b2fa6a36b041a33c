"""The wings of the study: imports go down only, and LaTeX is in `paper` alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hylorada.study

STUDY = Path(hylorada.study.__file__).parent
FLOORS = (("checkout",), ("sources",), ("plan",), ("run", "records"), ("results",), ("claims",), ("figures",))
FLOORS += (("paper", "page", "trace"),)  # from the ground up; wings of one floor do not know each other
FLOOR = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}
NOT_FROM = {wing: {"run"} for wing in ("results", "claims", "figures", "paper", "page", "trace")}  # they read records
LATEX = re.compile(r"\\(?:[,%;&]|[A-Za-z]{2,}\{|(?:toprule|midrule|bottomrule|item|times|cdot)\b)|``")


def wing_of(path: Path) -> str:
    return path.relative_to(STUDY).parts[0].removesuffix(".py")


def wings_read(source: str) -> Iterator[str]:
    """Yield the wings that a module imports from, functions included."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[2] for name in names if name.startswith("hylorada.study."))


def wrong_imports(wing: str, source: str) -> list[str]:
    allowed = {other for other in FLOOR if FLOOR[other] < FLOOR[wing]} - NOT_FROM.get(wing, set()) | {wing}
    return [f"{wing} imports {other}" for other in wings_read(source) if other not in allowed]


FILES = sorted(path for path in STUDY.rglob("*.py") if path != STUDY / "__init__.py")
NAMES = [path.relative_to(STUDY).as_posix() for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_wing_imports_only_from_floors_below_it(path):
    assert wrong_imports(wing_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("wing", "source", "wrong"),
    [
        ("run", "from hylorada.study.records.records import Records", ["run imports records"]),
        ("records", "def f():\n    from hylorada.study.run import execute", ["records imports run"]),
        ("paper", "import hylorada.study.run.execute", ["paper imports run"]),
        ("page", "from hylorada.study.paper.latex import set_text", ["page imports paper"]),
        ("plan", "from hylorada.study import sources, results", ["plan imports results"]),
        ("figures", "from hylorada.study.results.effects import stage_means", []),
    ],
)
def test_the_rule_finds_what_is_wrong(wing, source, wrong):
    assert wrong_imports(wing, source) == wrong


@pytest.mark.parametrize("path", [path for path in FILES if wing_of(path) != "paper"], ids=str)
def test_latex_is_written_in_the_paper_alone(path):
    found = {
        text
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for text in LATEX.findall(node.value)
    }
    assert found == set()


def test_the_map_names_every_wing_on_its_floor():
    rows = re.findall(r"^    (\d)  ([a-z, ]+?)  ", hylorada.study.__doc__, flags=re.MULTILINE)
    told = {wing: int(floor) - 1 for floor, wings in rows for wing in wings.split(", ")}
    assert told == FLOOR
    assert set(FLOOR) == {wing_of(path) for path in FILES}
