"""What there is to do: every run with its tokens and, once some runs are done, the time the others will take."""

from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median

from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run


def forecast(wanted: Sequence[Run], done: Collection[str], records: Path, reference: Path) -> list[str]:
    """Return a line a run (state, name, tokens of training, seconds) and one for all of them.

    The seconds of what is done are those of its record. For the rest they are tokens by the median pace of the trained
    records in `records`, or, before there is one, of those in `reference`, whose machine is named. A pace knows neither
    a longer context nor another base, nor what is compiled.
    """
    here = _records(records)
    took = {name: here[name].seconds for name in done}
    pace, source = _pace(here), "by what is done here"
    if pace is None:
        there = _records(reference)
        pace, source = _pace(there), f"at the pace of the reference records ({_processors(there)})"
    lines = []
    for run in wanted:
        tokens = trained_tokens(run)
        told = "all" if tokens is None else f"{tokens:,}"
        seconds = took.get(run.name, pace and tokens and pace * tokens)
        lines.append(f"{'done' if run.name in done else 'to do':6} {run.name:44} {told:>9} tokens {_brief(seconds):>8}")
    left = [trained_tokens(run) for run in wanted if run.name not in done]
    if not left:
        return [*lines, f"{len(done)} done, nothing to do"]
    known = [tokens for tokens in left if tokens is not None]
    estimate = f"about {_brief(pace * sum(known))} of one process, {source}" if pace else "no record to estimate from"
    if not known:
        estimate = "no estimate, since all of them train on all their text"
    open_ended = f"; {len(left) - len(known)} on all their text are not in it" if 0 < len(known) < len(left) else ""
    return [*lines, f"{len(done)} done, {len(left)} to do: {estimate}{open_ended}"]


def trained_tokens(run: Run) -> int | None:
    """Return the tokens, padding counted, that a run trains on; None where it is all there are."""
    specification = run.specification
    lines = specification.protocol.training_text
    if specification.training is None:
        return 0
    return specification.train_tokens if lines is None else lines.count * specification.block_tokens


def _pace(records: dict[str, Record]) -> float | None:
    """Return seconds of a run, its scoring included, for each token of its training."""
    each = [record.seconds / record.training.targets for record in records.values() if record.training]
    return median(each) if each else None


def _processors(records: dict[str, Record]) -> str:
    machines = [record.machine for record in records.values()]
    return " and ".join(dict.fromkeys(f"{machine.device}, {machine.processor}" for machine in machines))


def _records(folder: Path) -> dict[str, Record]:
    return {path.parent.name: read_record(path) for path in sorted(Path(folder).glob("[!.]*/record.json"))}


def _brief(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 120 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.0f} h"
