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
    VERDICTS,
    WITHIN_ROUNDING,
)
from hylorada.study.paper.latex import FOOT, set_line, set_text
from hylorada.study.results.words import with_true_minus

LISTED = {  # verdicts that the paper lists by the names of their statements, where no run decided anything
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
    """Return a row for each statement that a check went against or a run was held to; the others by name."""
    open_columns = table[list(COLUMN_ORDER)].isin(["", UNDECIDED, INCONCLUSIVE]).all(axis=1)
    alone = table["verdict"].isin(LISTED) & open_columns
    lines, document = [], ""
    for _, row in table[~alone].iterrows():
        if row["source"].split(",")[0] != document:
            document = row["source"].split(",")[0]
            lines.append(rf"\claimsof{{{set_text(document)}}}" + "\n")
        columns = [name for name in COLUMN_ORDER if row[name] not in ("", UNDECIDED, row["verdict"])]
        measured = "; ".join(f"{IN_WORDS[name]}: {_plain(row[name])}" for name in columns)
        cells = [_statement(row), row["claimed"], "; ".join(filter(None, [_plain(row["verdict"]), measured]))]
        lines.append(rf"\claim{{{row['id']}}}" + "".join(f"{{{_tex(cell)}}}" for cell in cells) + "\n")
    for verdict, words in LISTED.items():
        names = table[alone & (table["verdict"] == verdict)]["id"]
        if len(names):
            lines.append(rf"\claimslist{{{words}}}{{{len(names)}}}{{{', '.join(names)}}}" + "\n")
    return "".join(lines)


def _statement(row: pd.Series) -> str:
    place = row["source"].partition(",")[2].strip()
    against = f", against {row['relative_to']}" if isinstance(row["relative_to"], str) else ""
    return f"{place}: {row['quantity']}{against}" if place else f"{row['quantity']}{against}"


def _contradictions_tex(judgement: Judgement) -> str:
    return "".join(
        rf"\contradiction{{{row.id}}}{{{_tex(row.statement)}}}{{{_tex(_plain(judgement.decided_by(row.id)))}}}" + "\n"
        for row in judgement.catalogue.contradictions.values()
    )


def _verdicts_tex(table: pd.DataFrame) -> str:
    shown = [name for name in COLUMN_ORDER if table[name].any()]
    columns = [*KINDS, "all", *shown]
    words = [*(KIND_WORDS[kind] for kind in KINDS), "all", *(IN_WORDS[name] for name in shown)]
    head = rf"\begin{{tabular}}{{@{{}}l*{{{len(columns)}}}{{r}}@{{}}}}" + "\n\\toprule\n"
    head += "verdict & " + " & ".join(words) + "\\\\\n\\midrule\n"
    lines = [
        set_line([_plain(row["verdict"]), *(str(row[name]) if row[name] else "\N{EN DASH}" for name in columns)])
        for _, row in table.iterrows()
    ]
    return head + "".join(lines) + FOOT


def _plain(verdict: str) -> str:
    """Verdicts in small letters, as a sentence of the paper has them."""
    for word in sorted(VERDICTS, key=len, reverse=True):
        verdict = verdict.replace(word, "not run at this scale" if word == NOT_RUN else word.lower())
    return verdict


def _tex(text: str) -> str:
    """Set a text as it was typed, with hyphens for minus signs; its words may break at slashes."""
    return set_text(with_true_minus(text)).replace("/", r"/\allowbreak{}")
