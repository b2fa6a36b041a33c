"""Write docs/families.md, what an adapter does on each family of models: `python tools/family_table.py`.

What is asked, and of which tiny random models, is in tests/fakes; tests/method/test_families.py holds the page to it.
"""

import re
import sys
from collections.abc import Iterator

from hylorada.files import written_beside
from hylorada.study.checkout import project_root

sys.path.insert(0, str(project_root() / "tests" / "fakes"))
from family_bases import FAMILIES, family_base  # noqa: E402
from family_measures import COLUMNS, measure  # noqa: E402

from hylorada.errors import HyLoRADAError  # noqa: E402
from hylorada.targets import find_layers, shortest_names  # noqa: E402

ABOVE = """# Families of models

What an adapter with low-rank updates, magnitudes, position bias and landmarks does on models of each family, by
`model_type`, with the layers that it takes by default. `python tools/family_table.py` writes this page from tiny random
models (two blocks, 32 wide), and a test holds it to them.

- **trains**: loss and gradient equal those of the model's own loss, under left padding and activation checkpointing.
- **saves and loads**, **merges**, **exports to PEFT**: the logits stay what they were.
- **generates cached = uncached**, **left padding**: to float32 rounding, with the adapter off its start.

Of a multimodal model (`gemma3`) the language model is adapted. Routed experts keep their weights as they are.

"""
BELOW = "\n## What is refused, and why\n\n"


def row(family: str, answers: dict[str, str]) -> str:
    """Return one line of the table; answers: by column, as `measure` gives them."""
    cells = ["yes" if answers.get(column) == "yes" else "no" for column in COLUMNS]
    return f"| `{family}` | {_layers(family)} | {' | '.join(cells)} |"


def reasons(family: str, answers: dict[str, str]) -> Iterator[str]:
    """Yield a line for each answer that is not yes."""
    for column, answer in answers.items():
        if answer != "yes":
            yield f"- `{family}`, {column}: {answer}"


def page(families: dict[str, dict[str, str]]) -> str:
    """Return the whole page; families: the answers of each."""
    head = ["family", "layers", *COLUMNS]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    table += [row(family, answers) for family, answers in families.items()]
    refused = [line for family, answers in families.items() for line in reasons(family, answers)]
    return ABOVE + "\n".join(table) + "\n" + BELOW + "\n".join(refused) + "\n"


def _layers(family: str) -> str:
    base = family_base(family)
    try:
        names = shortest_names(base, find_layers(base, None))
    except HyLoRADAError:
        return "–"
    blocks = sorted({re.sub(r"\.\d+\.", ".*.", name) for name in names})
    return ", ".join(f"`{name}`" for name in blocks)


if __name__ == "__main__":
    with written_beside(project_root() / "docs" / "families.md") as beside:
        beside.write_text(page({family: measure(family) for family in FAMILIES}), encoding="utf-8")
