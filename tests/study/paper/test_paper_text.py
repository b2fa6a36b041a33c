"""What the text of the paper may and may not say: no number is typed, and every float and section has its place."""

import re

import pytest
from paper_text import MAIN, SECTIONS, source

from hylorada.study.figures.rows import FIGURES
from hylorada.study.paper.floats import NOT_SHOWN, PAPER_FIGURES
from hylorada.study.plan.studies import STUDIES

NAMES = ("GPT-2", "WikiText-2", "b27f597", "SHA-256", "SmolLM2")
MATH = (
    r"\\begin\{(equation|align|multline)\*?\}.*?\\end\{\1\*?\}",
    r"\$[^$]*\$",
)
NOT_PROSE = (  # what TeX reads and nobody else
    r"\\(?:label|ref|eqref|cite|input|place|where|includegraphics|begin|end|hspace|vspace|cline)\*?(?:\[[^\]]*\])?\{[^}]*\}",
    r"\\setlength\{[^}]*\}\{[^}]*\}",
    r"\\rule\{[^}]*\}\{[^}]*\}",
    r"\[!?[htbp]+\]",
)
CONSTANTS = {"1", "2", "0", "100", "10"}  # of formulas


def prose(text: str) -> str:
    """Return what a reader reads as words."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    for pattern in (*MATH, *NOT_PROSE):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    for name in NAMES:
        text = text.replace(name, " ")
    return text


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: path.stem)
def test_no_digit_is_typed_in_prose(path):
    found = re.findall(r"[^\n]*\d[^\n]*", prose(path.read_text()))
    assert not found, f"numbers come from records, through macros: {found}"


def test_a_typed_number_would_be_found():
    assert re.search(r"\d", prose(r"Perplexity falls by 17.07\,\%, see Table~\ref{tab:x2}."))
    assert not re.search(r"\d", prose(r"See Table~\ref{tab:x2}, $x_2$ and GPT-2. % 17.07"))


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: path.stem)
def test_formulas_hold_no_measured_number(path):
    text = re.sub(r"(?<!\\)%.*", "", path.read_text())
    text = re.sub(r"\\(?:label|ref)\{[^}]*\}", "", text)
    formulas = [match[0] for pattern in MATH for match in re.finditer(pattern, text, flags=re.DOTALL)]
    numbers = {number for formula in formulas for number in re.findall(r"\d+(?:\.\d+)?", formula)}
    assert numbers <= CONSTANTS | {"12", "110"}  # \tfrac12, \tfrac1{10}


def test_every_section_is_read_and_no_other():
    named = re.findall(r"\\input\{sections/(\w+)\}", MAIN.read_text())
    assert sorted(named) == [path.stem for path in SECTIONS] and len(set(named)) == len(named)


def test_every_table_and_figure_that_is_made_for_the_paper_is_placed_once_and_no_other():
    placed = re.findall(r"\\place\{([^}]*)\}", source())
    by_hand = ("ablation", *NOT_SHOWN)  # the first stands in its section
    by_hand = ("ablation", *NOT_SHOWN)  # the first stands in its section
    made = [f"tab:{name}" for name in STUDIES if name not in by_hand] + [f"fig:{name}" for name in PAPER_FIGURES]
    assert sorted(placed) == sorted([*made, "tab:plan"])
    assert set(PAPER_FIGURES) < set(FIGURES)


def test_the_paper_speaks_of_procedures_and_never_of_people():
    body = source().split(r"\begin{document}")[1].replace("give the authors of each method", "")
    assert not re.search(r"\b([Aa]uthors?|researchers?|misled|wrongly|mistaken)\b", body)
