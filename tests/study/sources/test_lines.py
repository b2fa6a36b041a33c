"""Lines: those that a protocol takes, from texts of lines and of articles."""

from dataclasses import replace

import numpy as np
import pytest
from published_training import AS_PUBLISHED

from hylorada import HyLoRADAError
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.sources.lines import Lines, lines_of, select_lines

WIKITEXT = [
    "",
    " = Salt = \n",
    "",
    " Salt is " + "a mineral " * 12 + "\n",
    "",
    " = = Uses = = \n",
    "",
    " It is " + "used " * 20 + "\n",
]


def chosen(wanted: Lines, lines: list[str]) -> list[str]:
    """The lines that a protocol takes, by their lengths alone."""
    sizes = (np.array([len(line) for line in lines]), np.array([len(line.strip()) for line in lines]))
    return [lines[index] for index in select_lines(wanted, *sizes)]


def test_first_rows_keep_blank_ones_and_headings_and_long_lines_leave_them_out():
    assert chosen(Lines("train", 4), WIKITEXT) == WIKITEXT[:4]
    assert chosen(Lines("validation", 2, longer_than=100), WIKITEXT) == [WIKITEXT[3], WIKITEXT[7]]
    edge = [" " * 150, "x" * 100, " " + "y" * 99 + "\n", "z" * 100 + "\n"]
    assert chosen(Lines("test", 2, 100), edge) == edge[2:]  # more than 100, white space counted, but not alone
    assert chosen(Lines("test", 1, 99, stripped=True), edge) == edge[1:2]
    with pytest.raises(HyLoRADAError, match="validation text has 2 lines of more than 100 characters and 3 are asked"):
        chosen(Lines("validation", 3, 100), WIKITEXT)
    with pytest.raises(HyLoRADAError, match="train text has 8 lines and 500 are asked for"):
        chosen(AS_PUBLISHED.training_text, WIKITEXT)


def test_protocols_take_the_lines_that_their_fields_say():
    published, study = PROTOCOLS["as_published"], PROTOCOLS["landmark_study"]
    few = {"count": 1}
    assert chosen(replace(published.training_text, **few), WIKITEXT) == [""]
    assert chosen(replace(published.evaluation_text, **few), WIKITEXT) == [WIKITEXT[3]]
    padded_with_space = " " * 40 + "twelve chars"
    assert chosen(replace(study.training_text, **few), [padded_with_space, WIKITEXT[7]]) == [WIKITEXT[7]]
    assert (published.evaluation_text.split, study.evaluation_text.split) == ("validation", "test")


def test_articles_become_lines_and_lines_stay_lines():
    assert lines_of(["Salt\n\nSalt is white.", "Moss"]) == ["Salt\n", "", "Salt is white.\n", "Moss\n"]
    assert lines_of(WIKITEXT) == WIKITEXT
