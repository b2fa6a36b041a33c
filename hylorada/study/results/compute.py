"""What the study took, by table."""

from collections.abc import Mapping

import pandas as pd

from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records


def compute_table(studies: Mapping[str, Records]) -> pd.DataFrame:
    """Return one row a table, and their sum: new runs, seconds of training and of scoring, and peak memory in GiB.

    A run that stands in two tables counts in the first.
    """
    counted: set[str] = set()
    rows = []
    for name, records in studies.items():
        own = [record for record in records.by_run.values() if record.name not in counted]
        counted |= {record.name for record in own}
        rows.append(
            {
                "study": name,
                "title": STUDIES[name].title,
                "runs": len(own),
                "training": sum(record.training.seconds for record in own if record.training),
                "scoring": sum(record.evaluation_seconds for record in own),
                "memory": max((max(record.peak_memory_gib.values()) for record in own), default=float("nan")),
            }
        )
    table = pd.DataFrame(rows)
    whole = {"study": "all", "title": "all", "memory": table["memory"].max()}
    whole |= {name: table[name].sum() for name in ("runs", "training", "scoring")}
    return pd.concat([table, pd.DataFrame([whole])], ignore_index=True)
