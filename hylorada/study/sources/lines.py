"""Lines of a corpus, as published: cut from its articles, and those that a protocol takes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hylorada.errors import HyLoRADAError


@dataclass(frozen=True)
class Lines:
    """The first `count` lines of a split, of those with more than `longer_than` characters.

    longer_than: None takes every line, blank ones and headings too. stripped: count without white space at the ends.
    """

    split: str
    count: int
    longer_than: int | None = None
    stripped: bool = False


def lines_of(texts: Iterable[str]) -> list[str]:
    r"""Return the lines of a corpus in order, as WikiText keeps them: a line with its "\n" at the end, or "" if blank.

    A corpus of lines stays as it is. Articles are cut at their line ends, a departure where the published code had
    lines: nothing says that the two have headings and blank lines in the same share.
    """
    lines = [line for text in texts for line in text.removesuffix("\n").split("\n")]
    return [f"{line}\n" if line else "" for line in lines]


def select_lines(wanted: Lines, characters: np.ndarray, stripped: np.ndarray) -> np.ndarray:
    """Return the indices of the lines that a protocol takes of a split, in order.

    characters, stripped: (lines,) lengths of all lines in order, with and without the white space at their ends.

    Raises:
        HyLoRADAError: there are fewer than asked for.
    """
    qualifying, what = np.arange(len(characters)), "lines"
    if wanted.longer_than is not None:  # a blank line is none, however long
        qualifying = np.flatnonzero(
            (stripped > 0) & ((stripped if wanted.stripped else characters) > wanted.longer_than)
        )
        what = f"lines of more than {wanted.longer_than} characters"
    if len(qualifying) < wanted.count:
        raise HyLoRADAError(
            f"the {wanted.split} text has {len(qualifying)} {what} and {wanted.count} are asked for; ask for fewer "
            "(train_lines, measures: lines), or give more text."
        )
    return qualifying[: wanted.count]
