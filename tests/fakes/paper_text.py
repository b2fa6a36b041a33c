"""The sources of the paper as text, without what is generated beside them."""

from repository import ROOT

PAPER = ROOT / "paper"
MAIN = PAPER / "main.tex"
SECTIONS = sorted((PAPER / "sections").glob("*.tex"))


def source() -> str:
    """Return the main file and all of its sections."""
    return "\n".join(path.read_text() for path in (MAIN, *SECTIONS))
