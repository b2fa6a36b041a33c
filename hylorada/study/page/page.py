"""One self-contained page: what was claimed and what holds, every statement, and results down to their runs.

Data in, HTML out. The frame, its style and its script are `report/page.html`, `page.css` and `page.js`; all that is
data is escaped, and nothing is loaded from elsewhere.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from hylorada.files import written_beside
from hylorada.study.checkout import project_root
from hylorada.study.claims.catalogue import Headlines
from hylorada.study.claims.summary import (
    CLAIMED,
    CORRECTED,
    Change,
    Step,
    steps,
    was_claimed,
    was_found,
    what_follows,
)
from hylorada.study.page import markup, statements
from hylorada.study.page.markup import link, soft
from hylorada.study.page.results import Result, result_html
from hylorada.study.page.tables import published_row
from hylorada.study.plan.ablation import STAGES
from hylorada.study.results.words import fixed, percentage
from hylorada.study.sources.registry import CORPORA, MODELS


def page_html(
    judged: Mapping[str, Any],
    headlines: Headlines,
    protocols: pd.DataFrame,
    results: Sequence[Result],
    runs: Mapping[str, tuple[str, str]],
    folder: str,
    paper: str | None,
) -> str:
    """Return the whole page.

    judged: what `hylorada claims` wrote. protocols: the table of both protocols. runs: the table and the words of each
    run, by its name. folder, paper: of the records, and of the PDF if there is one, as seen from the page.
    """
    claims, counts = judged["claims"], judged["counts"]
    five = steps(claims, headlines, protocols)
    published, corrected = [step.as_published for step in five], [step.corrected for step in five]
    summary = {
        "What was claimed": was_claimed(claims, headlines),
        "What holds": what_follows(counts, five),
        "What the claimed procedure gives": was_found(protocols, CLAIMED, published, judged["published_cut"]),
        "What the corrected one gives": was_found(protocols, CORRECTED, corrected),
    }
    by_id = {claim["id"]: claim for claim in claims}
    contradictions = {entry["id"]: entry["statement"] for entry in judged["contradictions"]}
    frame = project_root() / "report"
    return Template((frame / "page.html").read_text(encoding="utf-8")).substitute(
        css=(frame / "page.css").read_text(encoding="utf-8"),
        js=(frame / "page.js").read_text(encoding="utf-8"),
        digest=escape(judged["records_digest"]),
        scale=escape(judged["scale"]),
        lead=escape(_lead(judged, len(runs))),
        made=escape(f"Made by hylorada page from the records of digest {judged['records_digest']}."),
        paper="" if paper is None else f'<a href="{escape(paper)}">The paper (PDF)</a>',
        tally=statements.tally(counts),
        summary="\n".join(
            f'<div class="card"><h2>{escape(h)}</h2><p>{escape(t)}</p></div>' for h, t in summary.items()
        ),
        steps=_steps(five),
        selects=statements.selects(claims),
        choices=statements.choices(counts),
        legend=statements.legend(counts),
        claims=statements.statements(claims, contradictions, runs),
        contradicted=f"{len(contradictions)} sets of statements that cannot all be true, and the verdict on each",
        contradictions="\n".join(statements.contradiction(entry, by_id) for entry in judged["contradictions"]),
        results="\n".join(result_html(result, folder) for result in results),
    )


def write_page(path: Path, html: str) -> None:
    """Write the page."""
    with written_beside(path) as beside:
        beside.write_text(html, encoding="utf-8")


def _lead(judged: Mapping[str, Any], runs: int) -> str:
    """Say what ran on what; a source without a name of its own is told as it was given."""
    base, corpus = (
        rows[name].description if name in rows else name
        for rows, name in ((MODELS, judged["base"]), (CORPORA, judged["corpus"]))
    )
    return f"Scale {judged['scale']}, {runs} runs: {base}; {corpus}. Each number leads to the runs that made it."


def _steps(five: Sequence[Step]) -> str:
    lines = []
    for step in five:
        row = f"row-protocols-{step.stage}"
        cells = {
            "claimed": link(step.claim["id"], percentage(step.claimed, plus=True)),
            "claimed procedure": _change(step.as_published, row),
            "corrected": _change(step.corrected, row),
            "verdict on the claim": statements.badge(step.claim["verdict"]),
        }
        published, own = published_row(step.stage), STAGES[step.stage].in_words
        remark = "" if published.in_words == own else f"(corrected: {own})"
        lines.append((f"{escape(published.label)} {soft(remark)}".strip(), cells, ""))
    caption = (
        "The five steps: change of perplexity in percent against the step before; below zero is better, "
        "and a star marks what can be told from chance."
    )
    return markup.table(f"{escape(caption)} {link('verdicts', 'What the verdicts mean')}", "step", lines)


def _change(change: Change | None, row: str) -> str:
    if change is None:
        return "not run"
    ends = (
        change.lacking if change.low is None else f"{fixed(change.low, plus=True)} to {fixed(change.high, plus=True)}"
    )
    return f"{link(row, percentage(change.mean, plus=True) + '*' * change.resolved)} {soft(f'({ends})')}"
