"""WikiText is a corpus of lines: this finds its articles, so that whole ones are packed, split and counted.

A row is a line, and blank rows are kept. An article begins at its title, which stands alone between blank rows with one
equals sign at each end (` = Title = `); headings of sections have two or more (` = = Section = = `). A row such as
` = 2 ` that is part of a text is neither. The text of an article is its rows end to end, so that
`following.lines_of` cuts the articles of a split into its very rows again, blank ones included.
"""

import re
from collections.abc import Mapping, Sequence

from hylorada.errors import HyLoRADAError

TITLE = re.compile(r"= (?!=)(.+)(?<!=) =")
Columns = dict[str, list[str]]  # title and text, equally long


def group_articles(corpus: Mapping[str, Columns]) -> dict[str, Columns]:
    """Return a corpus with an article a row: rows under WikiText's titles are joined, other corpora stay as they are.

    corpus: columns by split. A corpus that has titles of its own, or no row that reads as one, is left alone.

    Raises:
        HyLoRADAError: some splits have such titles and others none.
    """
    if any(title for columns in corpus.values() for title in columns["title"]):
        return dict(corpus)
    starts = {part: title_rows(columns["text"]) for part, columns in corpus.items()}
    if not any(starts.values()):
        return dict(corpus)
    if without := [part for part, rows in starts.items() if not rows]:
        raise HyLoRADAError(
            f"{', '.join(without)} has no title of an article (' = Title = ' alone between blank rows) and the other "
            "splits have; give all of them with titles, or with an article a row in a column 'text' beside 'title'."
        )
    return {part: _joined(columns["text"], starts[part]) for part, columns in corpus.items()}


def title_rows(rows: Sequence[str]) -> list[int]:
    """Return the places of the rows that are titles of articles."""
    blank = [not row.strip() for row in rows]
    alone = [before and after for before, after in zip([True, *blank[:-1]], [*blank[1:], True], strict=True)]
    return [place for place, row in enumerate(rows) if alone[place] and TITLE.fullmatch(row.strip())]


def _joined(rows: Sequence[str], starts: Sequence[int]) -> Columns:
    """Join rows from one title to the next; blank rows before the first belong to it, text there is untitled."""
    lines = [row if row.endswith("\n") else f"{row}\n" for row in rows]
    titles = [TITLE.fullmatch(rows[start].strip()).group(1) for start in starts]
    if any(row.strip() for row in rows[: starts[0]]):
        titles, cuts = ["", *titles], [0, *starts]
    else:
        cuts = [0, *starts[1:]]
    ends = [*cuts[1:], len(lines)]
    return {"title": titles, "text": ["".join(lines[cut:end]) for cut, end in zip(cuts, ends, strict=True)]}
