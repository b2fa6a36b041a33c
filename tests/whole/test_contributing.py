"""The recipes of CONTRIBUTING.md apply to this checkout, and the documents name what is there."""

import re
import subprocess

import pytest
from repository import ROOT

DOCUMENTS = ("CONTRIBUTING.md", "docs/architecture.md", "README.md", "ARTIFACT.md")
RECIPES = dict(re.findall(r"^### (.+?)\n.*?```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S))
MADE = (
    "results/",
    "figures/",
    "data/cache",
    "data/models",
    "data/corpora",
    "data/tokens",
    "paper/tables",
    "paper/numbers.tex",
)
MADE += ("paper/main.pdf", "adapter/", "config/mine")  # by commands, not in a clone


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_applies(recipe, tmp_path):
    names = re.findall(r"^\+\+\+ b/(.+)$", RECIPES[recipe], re.M)
    for name in names:  # a copy: whoever tries a recipe out has changed the checkout
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = subprocess.run(["git", "apply", "-"], input=RECIPES[recipe], cwd=tmp_path, text=True, capture_output=True)
    assert names and done.returncode == 0, done.stderr
    assert all((tmp_path / name).read_text() != (ROOT / name).read_text() for name in names)


def test_every_kind_of_row_has_its_recipe():
    kinds = ("A method", "A row of a study", "A table", "A figure", "A published statement", "A source")
    assert tuple(RECIPES) == kinds


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_that_a_document_names_are_there(document):
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.S)
    paths = {path.rstrip("/") for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)`", text)}
    paths |= {path for path in re.findall(r"\]\(([\w./-]+)\)", text) if "://" not in path}
    at = [ROOT, (ROOT / document).parent, ROOT / "hylorada" / "study"]
    missing = [p for p in sorted(paths) if not p.startswith(MADE) and not any((folder / p).exists() for folder in at)]
    assert missing == []
