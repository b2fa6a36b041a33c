"""The table of families says what their tiny models do, and no more."""

import importlib.util

import pytest
from family_bases import FAMILIES
from family_measures import COLUMNS, measure
from repository import ROOT

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PAGE = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("family_table", ROOT / "tools" / "family_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_says_what_an_adapter_does_on_a_family(family, tool):
    answers = measure(family)
    written = [line for line in PAGE.splitlines() if line.startswith((f"| `{family}` |", f"- `{family}`,"))]
    assert written == [tool.row(family, answers), *tool.reasons(family, answers)], "run python tools/family_table.py"


def test_the_page_holds_the_families_that_are_measured_and_no_others(tool):
    untold = {family: dict.fromkeys(COLUMNS, "yes") for family in FAMILIES}
    head = tool.page(untold).split("| `llama` |")[0]
    assert PAGE.startswith(head)
    assert [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")] == list(FAMILIES)
