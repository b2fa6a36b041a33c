"""The notebooks are compared cell by cell by nbval; here we see to it that there is something to compare."""

import ast
import importlib.util
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat import NotebookNode
from repository import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEAST_COMPARED = 8  # cells of a notebook
LONGEST_FUNCTION = 5  # lines
LARGEST = 400_000  # bytes of a notebook with its figures
WIDEST = 100  # characters of a printed line, so that a page does not break a table inside its numbers

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def compared(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells with an output that nbval holds against the one it gets; pictures it does not look at."""
    return [cell for cell in code_cells(notebook) if cell.outputs and "NBVAL" not in cell.source]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_was_run_from_top_to_bottom_and_kept_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert len(compared(notebook)) >= LEAST_COMPARED
    assert "NBVAL" not in path.read_text(), "a cell is taken out of the comparison"


@each_notebook
def test_a_notebook_is_clean_and_small(path):
    spec = importlib.util.spec_from_file_location("clean_notebook", ROOT / "tools" / "clean_notebook.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    notebook = nbformat.read(path, as_version=4)
    tool.clean(notebook)
    assert nbformat.writes(notebook) + "\n" == path.read_text(), f"run python tools/clean_notebook.py {path.name}"
    assert path.stat().st_size < LARGEST


@each_notebook
def test_no_printed_line_is_wider_than_a_page(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            assert [line for line in text.splitlines() if len(line) > WIDEST] == []


@each_notebook
def test_a_notebook_defines_no_long_function(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        for node in ast.walk(ast.parse(re.sub(r"^%", "# %", cell.source, flags=re.MULTILINE))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


def test_a_changed_output_makes_the_comparison_fail(tmp_path):
    """Printed or returned; as the settings of this project have it, which hold for every notebook alike."""
    cells = [
        nbformat.v4.new_code_cell(source, execution_count=k + 1) for k, source in enumerate(("print(1)", "2", "3"))
    ]
    cells[0].outputs = [nbformat.v4.new_output("stream", text="changed\n")]
    for cell, text in ((cells[1], "changed"), (cells[2], "3")):
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text}, execution_count=2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "changed.ipynb")
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", "--tb=no", "-q"]
    run = subprocess.run([*command, "-n0", tmp_path / "changed.ipynb"], cwd=ROOT, capture_output=True, text=True)
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (failed|passed|error)", run.stdout)}
    assert counts == {"failed": 2, "passed": 1}, run.stdout + run.stderr
