"""What there is to do: every run with its tokens and, once some runs are done, the time the others will take."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from statistics import median

from hylorada.files import read_json
from hylorada.study.plan import Run


def forecast(wanted: Sequence[Run], done: Collection[str], records: Path) -> list[str]:
    """Return a line a run (state, name, tokens of training, seconds) and one for all of them.

    The seconds of what is done are those of its record; of the rest, the median pace of the records that are there,
    which knows neither a longer context nor another base.
    """
    made = [read_json(run.folder(records) / "record.json") for run in wanted if run.name in done]
    took = {record["name"]: _seconds(record) for record in made}
    pace = _pace(record for record in made if record["training"])
    lines = []
    for run in wanted:
        tokens = _tokens(run)
        told = "all" if tokens is None else f"{tokens:,}"
        seconds = took.get(run.name, pace and tokens and pace * tokens)
        lines.append(f"{'done' if run.name in done else 'to do':6} {run.name:44} {told:>9} tokens {_brief(seconds):>8}")
    left = [pace and (_tokens(run) or 0) * pace for run in wanted if run.name not in done]
    estimate = f"about {_brief(sum(left))} of one process" if pace else "no estimate before a first run is done"
    return [*lines, f"{len(done)} done, {len(left)} to do: {estimate if left else 'nothing'}"]


def _tokens(run: Run) -> int | None:
    """Return the tokens, padding counted, that a run trains on; None where it is all there are."""
    specification = run.specification
    lines = specification["protocol"]["training_text"]
    if specification["training"] is None:
        return 0
    return specification["train_tokens"] if lines is None else lines["count"] * specification["block_tokens"]


def _pace(records: Iterable[dict]) -> float | None:
    """Return seconds of a run, its scoring included, for each token of its training."""
    each = [_seconds(r) / sum(step["targets"] for step in r["training"]["history"]) for r in records]
    return median(each) if each else None


def _seconds(record: dict) -> float:
    return record["evaluation_seconds"] + (record["training"]["seconds"] if record["training"] else 0.0)


def _brief(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
