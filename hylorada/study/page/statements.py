"""The published statements on the page: filters, the meaning of each verdict, every statement, contradictions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from hylorada.study.claims.summary import document
from hylorada.study.claims.verdict import ELSEWHERE, GROUPS, VERDICTS, verdict_group, verdicts_in_words
from hylorada.study.page import markup
from hylorada.study.page.markup import folded, link, soft
from hylorada.study.results.words import with_true_minus

JUDGED_UNDER = {"as_published": "As published", "corrected": "Corrected", "transfers": "Transfers"}
KINDS = {
    "ppl": "perplexity",
    "percent": "percentage",
    "params": "parameters",
    "count": "count or setting",
    "text": "text",
}
GROUP_WORDS = dict(zip(GROUPS, ("hold", "do not hold", "stay open"), strict=True))
Claims = Sequence[Mapping[str, Any]]


def tally(counts: Mapping[str, int]) -> str:
    """Return how many statements hold, do not and stay open; each leads to them."""
    return f"<span>Of {sum(counts.values())} statements</span>\n" + "\n".join(
        f'<a class="{group}" href="#claims?verdict={group}"><strong>{number}</strong> {GROUP_WORDS[group]}</a>'
        for group, number in _by_group(counts).items()
    )


def selects(claims: Claims) -> str:
    """Return the lists of documents and kinds."""
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


def choices(counts: Mapping[str, int]) -> str:
    """Return one button a verdict that some statement has, behind one for its whole group."""
    lines = [_choice("", "", f"all {sum(counts.values())}")]
    for group, number in _by_group(counts).items():
        lines.append(_choice(group, f"{group} whole", f"{GROUP_WORDS[group]} {number}"))
        lines += [_choice(name, group, f"{verdict_words(name)} {counts[name]}") for name in _of_group(counts, group)]
    return "\n".join(lines)


def legend(counts: Mapping[str, int]) -> str:
    """Return what each verdict says, by whether the statement holds."""
    parts = []
    for group in GROUPS:
        meant = {
            verdict_words(name): escape(meaning.says)
            for name, meaning in VERDICTS.items()
            if meaning.group == group and any(each.lower() == name.lower() and counts[each] for each in counts)
        }
        if meant:
            parts.append(f'<h3 class="{group}">{GROUP_WORDS[group].capitalize()}</h3>{markup.facts(meant)}')
    elsewhere = ", ".join(map(badge, ELSEWHERE))
    parts.append(f"<p>Of an effect that was tried on another base or text than it speaks of: {elsewhere}.</p>")
    return "".join(parts)


def statements(claims: Claims, contradictions: Mapping[str, str], runs: Mapping[str, tuple[str, str]]) -> str:
    """Return all statements, a folded list for each document.

    contradictions: statements by id. runs: the table and the words of each run, by its name.
    """
    by_document: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        by_document.setdefault(document(claim), []).append(claim)
    parts = []
    for name, its in by_document.items():
        counts = _by_group(Counter(claim["verdict"] for claim in its))
        told = ", ".join(f'<span class="{group}">{number}</span>' for group, number in counts.items())
        summary = f'<h3>{escape(name)}</h3> <span class="left">{len(its)}</span> statements <span>{told}</span>'
        items = "\n".join(_statement(claim, contradictions, runs) for claim in its)
        parts.append(folded("", "group", summary, f'<ol class="claims">{items}</ol>'))
    return "\n".join(parts)


def contradiction(entry: Mapping[str, Any], claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Return statements that cannot all be true, and the verdict on each; claims: by id."""
    its = [claims[name] for name in entry["claims"]]
    lines = "".join(
        f"<li>{link(claim['id'], title(claim))} {soft(claimed_text(claim))} {badge(claim['verdict'])}</li>"
        for claim in its
    )
    inside = folded("", "", f"{said(entry['statement'])} {soft(entry['id'])}", f"<ul>{lines}</ul>")
    return f'<li id="{escape(entry["id"])}">{inside}</li>'


def claimed_text(claim: Mapping[str, Any]) -> str:
    """Return what was claimed; of perplexity saved as the change of it, below zero is better."""
    return f"perplexity {claim['as_change']}" if claim["as_change"] else with_true_minus(claim["claimed"])


def title(claim: Mapping[str, Any]) -> str:
    """Return a statement in short: the row of its table that it is about, and the quantity."""
    row = _place(claim)[1]
    return f"{row}: {claim['quantity']}" if row else claim["quantity"]


def badge(verdict: str) -> str:
    """Return a verdict with its mark and colour."""
    return f'<span class="verdict {verdict_group(verdict)}">{escape(verdict_words(verdict))}</span>'


def verdict_words(verdict: str) -> str:
    """Return a verdict as a sentence has it."""
    return verdict.lower()


def said(text: str) -> str:
    """Return a sentence about a statement as HTML."""
    return escape(with_true_minus(verdicts_in_words(text)))


def _statement(claim: Mapping[str, Any], contradictions: Mapping[str, str], runs: Mapping[str, tuple[str, str]]) -> str:
    relative = f", against {claim['relative_to']}" if claim["relative_to"] else ""
    published = "; as published, above zero is better" if claim["as_change"] else ""
    facts = {"Where": escape(claim["source"]), "Setting": escape(claim["setting"])}
    facts["Claimed"] = escape(f"{claim['quantity']}: {with_true_minus(claim['claimed'])}{relative}{published}")
    for name, heading in JUDGED_UNDER.items():
        if name in claim["columns"]:
            column = claim["columns"][name]
            facts[heading] = f"{badge(column['verdict'])} {said(column['detail'])}"
    facts["Reason"] = said(claim["reason"])
    facts["Contradicted by"] = "<br>".join(
        link(name, with_true_minus(contradictions[name])) for name in claim["contradicted_by"]
    )
    facts["Command"] = f"<code>{escape(claim['command'])}</code>" if claim["command"] else ""
    facts["Runs"] = _runs(claim["records"], runs)
    told = {"document": document(claim), "verdict": claim["verdict"], "kind": claim["kind"]}
    told["group"] = verdict_group(claim["verdict"])
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in told.items())
    place = ", ".join(filter(None, [claim["id"], _place(claim)[0]]))
    return (
        f'<li id="{escape(claim["id"])}" {data}><details><summary>'
        f'<span class="quantity">{escape(title(claim))} {soft(place)}</span> '
        f'<span class="claimed">{escape(claimed_text(claim))}</span> {badge(claim["verdict"])}</summary>'
        f"{markup.facts(facts)}</details></li>"
    )


def _place(claim: Mapping[str, Any]) -> tuple[str, str]:
    """Return where in its document a claim stands: the part, and the row of a table or ""."""
    part, _, row = claim["source"].removeprefix(document(claim)).removeprefix(",").strip().partition("row ")
    return part.rstrip(", "), row


def _runs(names: Iterable[str], runs: Mapping[str, tuple[str, str]]) -> str:
    """Return links to runs by the table that they stand in."""
    by_table: dict[str, list[str]] = {}
    for name in names:
        table, words = runs[name]
        by_table.setdefault(table, []).append(link(f"run-{name}", words))
    return "<br>".join(f"{escape(table)}: {', '.join(links)}" for table, links in by_table.items())


def _choice(value: str, kind: str, text: str) -> str:
    return (
        f'<label class="choice"><input type="radio" name="verdict" value="{escape(value)}"{" checked" * (not value)}>'
        f'<span class="{kind}">{escape(text)}</span></label>'
    )


def _by_group(counts: Mapping[str, int]) -> dict[str, int]:
    return {group: sum(counts[name] for name in _of_group(counts, group)) for group in GROUPS}


def _of_group(counts: Mapping[str, int], group: str) -> list[str]:
    return [name for name in counts if counts[name] and verdict_group(name) == group]
