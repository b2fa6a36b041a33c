"""What there is to do: every run with its tokens and its time, by the paces of what is done."""

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path

from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run
from hylorada.study.run.amounts import Amounts
from hylorada.study.run.paces import ELSEWHERE, Estimate, Paces


def forecast(
    wanted: Sequence[Run], done: Collection[str], records: Path, references: Sequence[Path], data: Path
) -> list[str]:
    """Return a line a run (state, name, tokens of training, seconds) and one for all of them.

    The seconds of what is done are those of its record, the others are estimated (see `hylorada.study.run.paces`) by
    the records in `records` and, of kinds of run that are not done there yet, those in the folders `references`.
    """
    here, reference = read_records(records), cache(partial(read_records, *references))
    paces = Paces(here, reference, Amounts(data))
    took = {record.name: record.seconds for record in here}
    lines, left = [], []
    for run in wanted:
        name, trained = run.name, paces.amount(run).trained
        estimate = Estimate(took[name]) if name in done else paces.of(run)
        told = "all" if trained is None else f"{trained:,}"
        state = "done" if name in done else "to do"
        lines.append(f"{state:6} {name:44} {told:>9} tokens {brief(estimate.seconds):>8}")
        left += [] if name in done else [estimate]
    return [*lines, _summary(len(done), left, reference)]


def _summary(done: int, left: list[Estimate], reference: Callable[[], list[Record]]) -> str:
    if not left:
        return f"{done} done, nothing to do"
    known = [estimate.seconds for estimate in left if estimate.seconds is not None]
    notes = {note for estimate in left for note in estimate.notes}
    source = f"{ELSEWHERE} ({_machines(reference())})" if ELSEWHERE in notes else "by what is done here"
    told = "; ".join(sorted(notes - {ELSEWHERE}))
    if not known:
        return f"{done} done, {len(left)} to do: no estimate ({told})"
    without = f", without {len(left) - len(known)} of them" if len(known) < len(left) else ""
    estimate = f"about {brief(sum(known))} of one process{without}, {source}"
    return f"{done} done, {len(left)} to do: {estimate}" + f"; {told}" * bool(told)


def read_records(*folders: Path) -> list[Record]:
    """Read every record of some folders; hidden folders are runs in the making."""
    return [read_record(path) for folder in folders for path in sorted(Path(folder).glob("[!.]*/record.json"))]


def brief(seconds: float | None) -> str:
    """Say a time in its fitting unit."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 120 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.0f} h"


def _machines(records: list[Record]) -> str:
    each = dict.fromkeys((record.machine.device, record.machine.processor) for record in records)
    return " and ".join(", ".join(machine) for machine in each)
