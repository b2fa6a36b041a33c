"""Pieces of HTML: text in, escaped markup out."""

from collections.abc import Mapping, Sequence
from html import escape


def link(target: str, text: str) -> str:
    """Return a link to an id on the same page."""
    return f'<a href="#{escape(target)}">{escape(text)}</a>'


def soft(text: str) -> str:
    """Return a remark in a paler colour; nothing for no text."""
    return f'<span class="soft">{escape(text)}</span>' if text else ""


def facts(told: Mapping[str, str]) -> str:
    """Return a list of headings with what stands under them, which is HTML; what is empty is left out."""
    return "<dl>" + "".join(f"<dt>{escape(head)}</dt><dd>{text}</dd>" for head, text in told.items() if text) + "</dl>"


def folded(name: str, kind: str, summary: str, inside: str) -> str:
    """Return a part that opens on asking. name: its id, or "". kind: its class. summary, inside: HTML."""
    own = f' id="{escape(name)}"' if name else ""
    return f'<details{own} class="{kind}"><summary>{summary}</summary>{inside}</details>'


def table(caption: str, first: str, lines: Sequence[tuple[str, Mapping[str, str], str]]) -> str:
    """Return a table whose roles are written out, so that it stays one where a phone lays its cells out as blocks.

    caption: HTML. first: the heading of the first column. lines: of each row its head as HTML, its cells as HTML by
    their heading, and its id or "".
    """
    heads = "".join(f'<th role="columnheader" scope="col">{escape(text)}</th>' for text in (first, *lines[0][1]))
    body = []
    for head, cells, name in lines:
        own = f' id="{escape(name)}"' if name else ""
        inner = "".join(
            f'<td role="cell" data-label="{escape(label)}">{f"<div>{cell}</div>" if cell else ""}</td>'
            for label, cell in cells.items()
        )
        body.append(f'<tr role="row"{own}><th role="rowheader" scope="row">{head}</th>{inner}</tr>\n')
    return (
        f'<table role="table"><caption>{caption}</caption><thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n'
        f'<tbody role="rowgroup">{"".join(body)}</tbody></table>'
    )
