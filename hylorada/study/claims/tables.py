"""The verdicts as frames: every statement with all there is to say of it, and how many have each verdict."""

from collections import Counter

import pandas as pd

from hylorada.study.claims.catalogue import KINDS
from hylorada.study.claims.judgement import COLUMN_ORDER, Judgement
from hylorada.study.claims.verdict import ELSEWHERE, VERDICTS

IN_WORDS = {"as_published": "as published", "corrected": "corrected", "transfers": "another base or text"}
KIND_WORDS = {"ppl": "levels", "percent": "gains", "params": "parameters", "count": "settings", "text": "words"}


def claims_table(judgement: Judgement) -> pd.DataFrame:
    """Return one row a statement, with the verdict and numbers under each protocol."""
    rows = []
    for claim in judgement.catalogue:
        row = judgement.row(claim)
        columns = row.pop("columns")
        for name in COLUMN_ORDER:
            row[name] = columns.get(name, {}).get("verdict", "")
            row[f"{name}_detail"] = columns.get(name, {}).get("detail", "")
        rows.append(row | {"records": " ".join(row["records"]), "contradicted_by": " ".join(row["contradicted_by"])})
    return pd.DataFrame(rows)


def verdict_table(judgement: Judgement) -> pd.DataFrame:
    """Return how many statements have each verdict: by kind, in all, and under each protocol."""
    findings = judgement.findings
    by_kind = Counter((findings[claim.id].verdict, claim.kind) for claim in judgement.catalogue)
    by_column = Counter(
        (column.verdict, name) for finding in findings.values() for name, column in finding.columns.items()
    )
    rows = [
        {"verdict": word}
        | {kind: by_kind[word, kind] for kind in KINDS}
        | {"all": sum(by_kind[word, kind] for kind in KINDS)}
        | {name: by_column[word, name] for name in COLUMN_ORDER}
        for word in [*VERDICTS, *ELSEWHERE]
    ]
    table = pd.DataFrame(rows)
    return table[table.drop(columns="verdict").any(axis=1)].reset_index(drop=True)
