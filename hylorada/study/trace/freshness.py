"""Whether a file is of the records that are there, as far as its content and the times of both tell."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hylorada.reading import read_text
from hylorada.study.plan.record import Record
from hylorada.study.records.archive import Archive
from hylorada.study.records.records import Records
from hylorada.study.results.levels import LEVELS
from hylorada.study.results.tables import read_csv

DIGEST = re.compile(r"from the records of digest ([0-9a-f]{64})")  # in numbers.tex
OF_COLUMN = LEVELS | {"corpus": LEVELS["perplexity"]}  # columns of tables that hold a level of each row
ByRow = Mapping[str, Sequence[Mapping[str, Any]]]


def state(path: Path, by_row: ByRow, missing: Mapping[str, Sequence[str]], archive: Archive) -> list[str]:
    """Say what tells that a file is older than its records or of others, else that nothing does.

    by_row: its records by row. missing: names of runs that have none.
    """
    told = []
    records = [record for row in by_row.values() for record in row]
    if absent := [name for names in missing.values() for name in names]:
        told.append(f"{len(absent)} of its runs have no record in {archive.folder}: {some(absent)}")
    if late := later_than(path, records, archive):
        told.append(f"OLDER than {len(late)} of its {len(records)} records ({some(late)}); make it again")
    other = _other_records(path, by_row)
    if other:
        told.append(f"made from OTHER records: {other}")
    return told or [f"newer than all of its {len(records)} records" + ", and of their numbers" * (other == "")]


def later_than(path: Path, records: Sequence[Record], archive: Archive) -> list[str]:
    """Return the names of records that were written after a file."""
    written = path.stat().st_mtime
    return [record.name for record in records if archive.path(record).stat().st_mtime > written]


def some(names: Sequence[str]) -> str:
    """Name the first two, and how many more there are."""
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _other_records(path: Path, by_row: ByRow) -> str | None:
    """Say how a file shows that it is of other records; "" when it is of these, None when it cannot tell."""
    if path.suffix == ".csv":
        return _other_levels(read_csv(path), by_row)
    if path.name == "numbers.tex" and (named := DIGEST.search(read_text(path))):
        digest = Records({(row, r.name): r for row, records in by_row.items() for r in records}, {}).digest
        return "" if named[1] == digest else f"it names digest {named[1][:12]}, theirs is {digest[:12]}"
    return None


def _other_levels(table: pd.DataFrame, by_row: ByRow) -> str | None:
    level = next((name for name in OF_COLUMN if name in table), None)
    if level is None:
        return None
    levels, kind = table.set_index("stage")[level], OF_COLUMN[level]
    for row, records in by_row.items():
        if row not in levels and level != "corpus":
            return f"it has no row {row}"
        if row in levels and records:
            expected = kind.of_mean(np.mean([record.results[kind.result] for record in records]))
            if not np.isclose(levels[row], expected, rtol=1e-9):
                return f"{row} has {kind.head} {levels[row]:.6g}, they {expected:.6g}"
    return ""
