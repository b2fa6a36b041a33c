"""Make notebooks fit to commit: python tools/clean_notebook.py [--execute] NOTEBOOK...

Kept are the text outputs and the execution counts, which nbval compares (without outputs it would compare nothing, and
without counts it fails), and PNG figures of modest size for readers. HTML and the traces of one machine or one run go.
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

KEPT = {"text/plain", "image/png"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LARGEST_IMAGE = 60_000  # characters of base64


def clean(notebook: NotebookNode) -> None:
    """Reduce a notebook in place to what is compared or read.

    Raises:
        ValueError: an error among the outputs, text on stderr, or a figure that is too large to commit.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", {}
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                raise ValueError(
                    f"cell {number} has an error or a warning among its outputs; mend it and execute again."
                )
            for kind in set(output.get("data", {})) - KEPT:
                del output.data[kind]
            size = len(output.get("data", {}).get("image/png", ""))
            if size > LARGEST_IMAGE:
                raise ValueError(
                    f"the figure of cell {number} has {size:,} characters; draw it at fewer dots per inch."
                )
            if "metadata" in output:
                output.metadata = {}


def main() -> None:
    """Clean each notebook, executed anew if asked, and write it back."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("notebooks", type=Path, nargs="+")
    options.add_argument("--execute", action="store_true", help="run all cells first, in the notebook's folder")
    given = options.parse_args()
    for path in given.notebooks:
        notebook = nbformat.read(path, as_version=4)
        if given.execute:
            resources = {"metadata": {"path": path.parent}}
            NotebookClient(notebook, resources=resources, coalesce_streams=True).execute()
        clean(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
