"""One self-contained page: claims with verdicts, tables, figures, and the runs that each number comes from.

Data in, HTML out. The frame, its style and its script are `report/page.html`, `page.css` and `page.js`; all that is
data is escaped, and nothing is loaded from elsewhere.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside
from hylorada.study.checkout import project_root
from hylorada.study.claims.catalogue import Headlines
from hylorada.study.claims.summary import (
    CLAIMED,
    CORRECTED,
    Change,
    Step,
    document,
    steps,
    was_claimed,
    was_found,
    what_follows,
)
from hylorada.study.claims.verdict import GROUPS, verdict_group
from hylorada.study.page import markup
from hylorada.study.page.markup import link, soft
from hylorada.study.page.tables import Cell, Table
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import Record
from hylorada.study.records.lineage import lineage
from hylorada.study.results.words import fixed, percentage

JUDGED_UNDER = {"as_published": "As published", "corrected": "Corrected", "transfers": "Transfers"}
KINDS = {
    "ppl": "perplexity",
    "percent": "percentage",
    "params": "parameters",
    "count": "count or setting",
    "text": "text",
}


@dataclass(frozen=True)
class Figure:
    """A figure as PNG, with what it shows in words for those who do not see it."""

    title: str
    caption: str
    png: bytes


def page_html(
    judged: Mapping[str, Any],
    headlines: Headlines,
    protocols: pd.DataFrame,
    tables: Mapping[str, Table],
    figures: Mapping[str, Figure],
    records: Mapping[str, Record],
    folder: str,
) -> str:
    """Return the whole page.

    judged: what `hylorada claims` wrote. protocols: the table of both protocols. records: by name. folder: of the
    records, as seen from the page.

    Raises:
        HyLoRADAError: a claim or a table rests on a run that has no record here, or a verdict is not known.
    """
    claims = judged["claims"]
    for name in {name for claim in claims for name in claim["records"]}:
        if name not in records:
            raise HyLoRADAError(
                f"the claims rest on {name}, which has no record here; run `hylorada claims` with the same records."
            )
    five = steps(claims, headlines, protocols)
    published, corrected = [step.as_published for step in five], [step.corrected for step in five]
    summary = {
        "What was claimed": was_claimed(claims, headlines),
        "What the claimed procedure gives": was_found(protocols, CLAIMED, published, judged["published_cut"]),
        "What the corrected one gives": was_found(protocols, CORRECTED, corrected),
        "What follows": what_follows(judged["counts"], five),
    }
    frame = project_root() / "report"
    made_on = f"{judged['base']} on {judged['corpus']}"
    lead = f"Scale {judged['scale']}: {made_on}, {len(records)} runs. Each number leads to those that made it."
    made = f"Made by hylorada page from the records of digest {judged['records_digest']}."
    return Template((frame / "page.html").read_text(encoding="utf-8")).substitute(
        css=(frame / "page.css").read_text(encoding="utf-8"),
        js=(frame / "page.js").read_text(encoding="utf-8"),
        digest=escape(judged["records_digest"]),
        scale=escape(judged["scale"]),
        lead=escape(lead),
        made=escape(made),
        summary="\n".join(
            f'<div class="card"><h2>{escape(h)}</h2><p>{escape(t)}</p></div>' for h, t in summary.items()
        ),
        steps=_steps(five),
        selects=_selects(claims),
        verdicts=_verdicts(judged["counts"]),
        claims="\n".join(map(_claim, claims)),
        contradictions="\n".join(map(_contradiction, judged["contradictions"])),
        tables="\n".join(_table(name, table) for name, table in tables.items()),
        figures="\n".join(_figure(name, figure) for name, figure in figures.items()),
        runs="\n".join(_run(record, folder) for record in records.values()),
    )


def write_page(path: Path, html: str) -> None:
    """Write the page."""
    with written_beside(path) as beside:
        beside.write_text(html, encoding="utf-8")


def claimed_text(claim: Mapping[str, Any]) -> str:
    """Return what was claimed as text; the quantity names the unit, a percentage has its sign."""
    value = claim["claimed"]
    values = value if isinstance(value, list) else [value]
    text = " / ".join(
        each if isinstance(each, str) else f"{each:,g}" if abs(each) < 1e6 else f"{each:,}" for each in values
    )
    return text + " %" * (claim["kind"] == "percent" and not isinstance(value, str))


def _steps(five: Sequence[Step]) -> str:
    lines = []
    for step in five:
        row = f"row-protocols-{step.stage}"
        cells = {
            "claimed": link(step.claim["id"], percentage(step.claimed, plus=True)),
            "claimed procedure": _change(step.as_published, row),
            "corrected": _change(step.corrected, row),
            "verdict": _badge(step.claim["verdict"]),
        }
        lines.append((STAGES[step.stage].label, cells, ""))
    caption = (
        "The five steps: change of perplexity in percent against the step before; below zero is better, "
        "and a star marks what can be told from chance."
    )
    return markup.table(escape(caption), "step", lines)


def _change(change: Change | None, row: str) -> str:
    if change is None:
        return "not run"
    ends = (
        change.lacking if change.low is None else f"{fixed(change.low, plus=True)} to {fixed(change.high, plus=True)}"
    )
    return f"{link(row, percentage(change.mean, plus=True) + '*' * change.resolved)} {soft(f'({ends})')}"


def _selects(claims: Sequence[Mapping[str, Any]]) -> str:
    documents = {document(claim): document(claim) for claim in claims}
    kinds = {claim["kind"]: KINDS.get(claim["kind"], claim["kind"]) for claim in claims}
    parts = []
    for name, choices in (("document", documents), ("kind", kinds)):
        options = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in choices.items())
        parts.append(
            f'<div class="field"><label for="{name}">{name.capitalize()}</label>'
            f'<select id="{name}" name="{name}"><option value="">all</option>{options}</select></div>'
        )
    return "\n".join(parts)


def _verdicts(counts: Mapping[str, int]) -> str:
    order = sorted((name for name in counts if counts[name]), key=lambda name: GROUPS.index(verdict_group(name)))
    choices = [("", "", f"all {sum(counts.values())}")]
    choices += [(name, verdict_group(name), f"{_words(name)} {counts[name]}") for name in order]
    return "\n".join(
        f'<label class="choice"><input type="radio" name="verdict" value="{escape(name)}"{" checked" * (not name)}>'
        f'<span class="{group}">{escape(text)}</span></label>'
        for name, group, text in choices
    )


def _claim(claim: Mapping[str, Any]) -> str:
    relative = f", against {claim['relative_to']}" if claim["relative_to"] else ""
    facts = {"Where": escape(claim["source"]), "Setting": escape(claim["setting"])}
    facts["Claimed"] = escape(f"{claim['quantity']}: {claimed_text(claim)}{relative}")
    for name, title in JUDGED_UNDER.items():
        if name in claim["columns"]:
            column = claim["columns"][name]
            facts[title] = f"{_badge(column['verdict'])} {escape(column['detail'])}"
    facts["Reason"] = escape(claim["reason"])
    facts["Contradicted by"] = ", ".join(link(name, name) for name in claim["contradicted_by"])
    facts["Command"] = f"<code>{escape(claim['command'])}</code>" if claim["command"] else ""
    facts["Runs"] = ", ".join(link(f"run-{name}", name) for name in claim["records"])
    told = {"document": document(claim), "verdict": claim["verdict"], "kind": claim["kind"]}
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in told.items())
    return (
        f'<li id="{escape(claim["id"])}" {data}><details><summary><span class="id">{escape(claim["id"])}</span> '
        f'<span class="quantity">{escape(claim["quantity"])} {soft(_place(claim))}</span> '
        f'<span class="claimed">{escape(claimed_text(claim))}</span> {_badge(claim["verdict"])}</summary>'
        f"{markup.facts(facts)}</details></li>"
    )


def _place(claim: Mapping[str, Any]) -> str:
    """Return where in its document a claim stands."""
    return claim["source"].removeprefix(document(claim)).removeprefix(",").strip()


def _contradiction(entry: Mapping[str, Any]) -> str:
    links = ", ".join(link(name, name) for name in entry["claims"])
    decided = f"<br>Decided by: {escape(entry['decided_by'])}" if entry["decided_by"] else ""
    return (
        f'<li id="{escape(entry["id"])}"><strong>{escape(entry["id"])}</strong> {escape(entry["statement"])}'
        f'{decided}<br><span class="soft">Claims:</span> {links}</li>'
    )


def _table(name: str, table: Table) -> str:
    lines = []
    for line in table.lines:
        cells = {heading: ", ".join(map(_cell, cells)) for heading, cells in line.cells.items()}
        lines.append((line.label, cells, f"row-{name}-{line.name}"))
    caption = f"<h3>{escape(table.title)}</h3> {escape(table.note)}"
    return f'<div class="table" id="table-{escape(name)}">{markup.table(caption, "row", lines)}</div>'


def _cell(cell: Cell) -> str:
    text = link(cell.link, cell.text) if cell.link else escape(cell.text)
    return f"{text} {soft(cell.soft)}".strip()


def _figure(name: str, figure: Figure) -> str:
    source = f"data:image/png;base64,{b64encode(figure.png).decode()}"
    return (
        f'<figure id="figure-{escape(name)}"><img loading="lazy" src="{source}" alt="{escape(figure.caption)}">'
        f"<figcaption><strong>{escape(figure.title)}.</strong> {escape(figure.caption)}</figcaption></figure>"
    )


def _run(record: Record, folder: str) -> str:
    name, results = record.name, record.results
    facts = {heading.capitalize(): escape(text) for heading, text in lineage(record).items()}
    facts["Results"] = escape(
        ", ".join(f"{key} {_number(value)}" for key, value in results.items() if value is not None)
    )
    facts["Trained"] = escape(f"{record.trainable:,} of {record.total:,} parameters")
    place = f"{folder}/{name}/record.json"
    facts["Record"] = f'<a href="{escape(place)}">{escape(place)}</a>'
    return (
        f'<details id="run-{escape(name)}"><summary>{escape(name)} '
        f'<span class="soft">perplexity {results["perplexity"]:.2f}</span></summary>{markup.facts(facts)}</details>'
    )


def _badge(verdict: str) -> str:
    return f'<span class="verdict {verdict_group(verdict)}">{escape(_words(verdict))}</span>'


def _words(verdict: str) -> str:
    return verdict.lower()


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
