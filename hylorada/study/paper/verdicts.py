"""The verdicts as LaTeX: claims, contradictions, and counts of verdicts.

claims.tex and contradictions.tex are rows of the macros claim and contradiction of main.tex, which flow through the
columns of the page.
"""

from pathlib import Path

import pandas as pd

from hylorada.files import written_beside
from hylorada.study.claims.catalogue import KINDS
from hylorada.study.claims.judgement import COLUMN_ORDER, Judgement
from hylorada.study.claims.tables import IN_WORDS, KIND_WORDS, claims_table, verdict_table
from hylorada.study.claims.verdict import (
    INCONCLUSIVE,
    MATCH,
    NOT_RUN,
    PLAN,
    UNDECIDED,
    UNTRACEABLE,
    WITHIN_ROUNDING,
    verdicts_in_words,
)
from hylorada.study.paper.latex import FOOT, set_line, set_text
from hylorada.study.results.words import with_true_minus

LISTED = {  # verdicts whose statements the paper counts, where no run decided anything; the page has them
    MATCH: "Match",
    WITHIN_ROUNDING: "Within rounding",
    NOT_RUN: "Not run at this scale",
    UNTRACEABLE: "Untraceable",
    PLAN: "Plans",
}


def write_tables(judgement: Judgement, tex: Path, csv: Path) -> pd.DataFrame:
    """Write claims, contradictions and counts of verdicts as LaTeX, and the claims as CSV; return the counts."""
    claims, verdicts = claims_table(judgement), verdict_table(judgement)
    for name, text in (
        ("claims", _claims_tex(claims)),
        ("contradictions", _contradictions_tex(judgement)),
        ("verdicts", _verdicts_tex(verdicts)),
    ):
        with written_beside(tex / f"{name}.tex") as beside:
            beside.write_text(text, encoding="utf-8")
    with written_beside(csv) as beside:
        claims.to_csv(beside, index=False)
    return verdicts


def _claims_tex(table: pd.DataFrame) -> str:
    """Return a row for each statement that a check went against or a run was held to; how many the others are."""
    open_columns = table[list(COLUMN_ORDER)].isin(["", UNDECIDED, INCONCLUSIVE]).all(axis=1)
    alone = table["verdict"].isin(LISTED) & open_columns
    lines, document = [], ""
    for _, row in table[~alone].iterrows():
        if row["source"].split(",")[0] != document:
            document = row["source"].split(",")[0]
            lines.append(rf"\claimsof{{{set_text(document)}}}" + "\n")
        columns = [name for name in COLUMN_ORDER if row[name] not in ("", UNDECIDED, row["verdict"])]
        measured = "; ".join(f"{IN_WORDS[name]}: {verdicts_in_words(row[name])}" for name in columns)
        claimed = f"perplexity {row['as_change']}" if row["as_change"] else row["claimed"]
        cells = [_statement(row), claimed, "; ".join(filter(None, [verdicts_in_words(row["verdict"]), measured]))]
        lines.append(rf"\claim{{{row['id']}}}" + "".join(f"{{{_tex(cell)}}}" for cell in cells) + "\n")
    for verdict, words in LISTED.items():
        if number := int((alone & (table["verdict"] == verdict)).sum()):
            lines.append(rf"\claimscount{{{words}}}{{{number}}}" + "\n")
    return "".join(lines)


def _statement(row: pd.Series) -> str:
    place = row["source"].partition(",")[2].strip()
    against = f", against {row['relative_to']}" if isinstance(row["relative_to"], str) else ""
    return f"{place}: {row['quantity']}{against}" if place else f"{row['quantity']}{against}"


def _contradictions_tex(judgement: Judgement) -> str:
    lines = []
    for row in judgement.catalogue.contradictions.values():
        decided = ", ".join(f"{len(names)} {word}" for word, names in judgement.by_verdict(row.id).items())
        lines.append(
            rf"\contradiction{{{row.id}}}{{{_tex(row.statement)}}}{{{_tex(verdicts_in_words(decided))}}}" + "\n"
        )
    return "".join(lines)


def _verdicts_tex(table: pd.DataFrame) -> str:
    shown = [name for name in COLUMN_ORDER if table[name].any()]
    columns = [*KINDS, "all", *shown]
    words = [*(KIND_WORDS[kind] for kind in KINDS), "all", *(IN_WORDS[name] for name in shown)]
    head = rf"\begin{{tabular}}{{@{{}}l*{{{len(columns)}}}{{r}}@{{}}}}" + "\n\\toprule\n"
    head += "verdict & " + " & ".join(words) + "\\\\\n\\midrule\n"
    lines = []
    for _, row in table.iterrows():
        numbers = [str(row[name]) if row[name] else "\N{EN DASH}" for name in columns]
        lines.append(set_line([verdicts_in_words(row["verdict"]), *numbers]))
    return head + "".join(lines) + FOOT


def _tex(text: str) -> str:
    """Set a text as it was typed, with hyphens for minus signs; its words may break at slashes."""
    return set_text(with_true_minus(text)).replace("/", r"/\allowbreak{}")
