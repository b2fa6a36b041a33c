"""Fresh records held against reference records: which numbers are the same, and which differ by more than they may.

Two runs are counterparts when their specifications are equal but for the digest of the code (stage or row, seed, data,
settings). What a number may differ by:

- counts and checksums: by nothing;
- the same code, machine and versions on a processor, where the untouched base scored one window to the same bits: by
  nothing, for there the same work gives the same bits;
- otherwise by 1e-3 of the NLL (`records.PROBE_TOLERANCE`), what other processors and versions do to sums; that is all
  for the untouched base model;
- a trained run, by more: it may lie anywhere in the 95 % prediction interval of one run, mean ± t s sqrt(1 + 1/n) over
  the reference's n seeds of the same row. A row of one seed has the s of all rows with more (pooled) around itself;
- a share of right answers: in the 95 % Wilson interval of the reference's.

Perplexities are compared as their logarithm. Times and memory are not compared.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside
from hylorada.study.plan.record import Record
from hylorada.study.records.archive import Archive
from hylorada.study.records.records import PROBE_TOLERANCE, machine_key
from hylorada.wilson import wilson

SAME, TOLERATED, DIFFERENT, ALONE = "same", "same within tolerance", "differs", "no counterpart"
ERROR = 0.05  # of the prediction and Wilson intervals
EXACT = ("scored_tokens", "articles", "texts", "tokens_read", "chance", "trainable", "total", "tokens", "data")
PROBE = "base_probe_nll"
SHOWN = 10  # numbers that differ, in the summary


@dataclass(frozen=True)
class Spread:
    """How far runs of one row lie apart. mean: None where each run is its own centre (pooled over rows)."""

    mean: float | None
    sd: float
    freedom: int
    seeds: int

    def ends(self, centre: float) -> tuple[float, float]:
        """Return where one more run lies, with a chance of 1 - `ERROR`."""
        middle = centre if self.mean is None else self.mean
        half = stats.t.ppf(1 - ERROR / 2, self.freedom) * self.sd * math.sqrt(1 + 1 / self.seeds)
        return middle - half, middle + half


def compare(fresh: Archive, reference: Archive) -> pd.DataFrame:
    """Return a row for each number of each run: run, counterpart, metric, values, what is allowed and why, verdict.

    A run that is only on one side has one row, its metric empty; a metric only on one side has no counterpart either.

    Raises:
        HyLoRADAError: no run has a counterpart, so that there is nothing to compare.
    """
    pairs = [(record, _counterpart(record, reference)) for record in fresh.records.values()]
    if all(other is None for _, other in pairs):
        raise HyLoRADAError(
            f"no run of {fresh.folder} has a counterpart in {reference.folder}: other settings, data or seeds; "
            "compare records of one scale."
        )
    spreads = _spreads([other for _, other in pairs if other is not None], reference)
    rows: list[dict[str, Any]] = []
    for record, other in pairs:
        if other is None:
            rows.append({"run": record.name, "verdict": ALONE})
        else:
            rows += _compare_run(record, other, spreads)
    known = {record.specification.essence for record in fresh.records.values()}
    missing = [name for code, names in reference.by_essence.items() if code not in known for name in names[-1:]]
    rows += [{"reference_run": name, "verdict": ALONE} for name in missing]
    columns = ["run", "reference_run", "metric", "value", "reference", "low", "high", "allowed", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def overall(compared: pd.DataFrame) -> str:
    """Return the verdict over all runs that have a counterpart: the worst of theirs."""
    return _worst(compared["verdict"])


def summary(compared: pd.DataFrame) -> list[str]:
    """Return lines to read: one a metric, one for each number that differs, and one over all."""
    held = compared[compared["verdict"] != ALONE]
    lines = [f"{'metric':44} {'runs':>5} {'equal':>6} {'largest difference':>19}  verdict"]
    for metric, rows in held.groupby("metric", sort=False):
        equal = int((rows["verdict"] == SAME).sum())
        largest = max((_relative(row.value, row.reference) for row in rows.itertuples()), default=0.0)
        lines.append(f"{metric:44} {len(rows):5} {equal:6} {largest:19.2g}  {_worst(rows['verdict'])}")
    differing = held[held["verdict"] == DIFFERENT]
    for row in differing.head(SHOWN).itertuples():
        span = "" if pd.isna(row.low) else f" ({row.low:.6g} to {row.high:.6g})"
        values = f"{_brief(row.value)} against {_brief(row.reference)}"
        lines.append(f"differs: {row.run}, {row.metric}: {values}; allowed: {row.allowed}{span}")
    if len(differing) > SHOWN:
        lines.append(f"and {len(differing) - SHOWN} more numbers that differ; --out writes all of them")
    alone = compared[(compared["verdict"] == ALONE) & compared["metric"].isna()]
    for title, column in (("only in the records", "run"), ("only in the reference", "reference_run")):
        names = alone[column].dropna()
        if len(names):
            lines.append(
                f"no counterpart, {title}: {len(names)} runs, {', '.join(names[:3])}{' ...' * (len(names) > 3)}"
            )
    return [*lines, f"overall: {overall(compared)} ({held['run'].nunique()} runs compared)"]


def write_comparison(compared: pd.DataFrame, path: Path) -> None:
    """Write every number of every run as CSV."""
    with written_beside(path) as beside:
        compared.to_csv(beside, index=False)


def _counterpart(record: Record, reference: Archive) -> Record | None:
    names = reference.by_essence.get(record.specification.essence)
    return reference.records[names[-1]] if names else None


def _compare_run(record: Record, other: Record, spreads: Mapping[tuple, Spread]) -> Iterator[dict]:
    bits = _same_arithmetic(record, other)
    ours, theirs = dict(numbers(record)), dict(numbers(other))
    for metric in dict.fromkeys([*ours, *theirs]):
        names = {"run": record.name, "reference_run": other.name, "metric": metric}
        value, expected = ours.get(metric), theirs.get(metric)
        if metric not in ours or metric not in theirs:  # a measure that only one of them knows
            yield {**names, "value": value, "reference": expected, "verdict": ALONE}
            continue
        low, high, allowed = _allowed(metric, expected, other, bits, spreads)
        verdict = _verdict(_scaled(metric, value), _scaled(metric, expected), low, high)
        yield {
            **names,
            "value": value,
            "reference": expected,
            "low": _unscaled(metric, low),
            "high": _unscaled(metric, high),
            "allowed": allowed,
            "verdict": verdict,
        }


def numbers(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield every number of a record that is compared, by its name, and the checksum of what went in.

    None is a number too: that of a metric which has none on these texts.
    """
    yield "data", record.data.model_sha256[:12] + record.data.tokens_digest[:12]
    yield from {"parameters.trainable": record.trainable, "parameters.total": record.total}.items()
    yield from _numeric(record.results, "")
    measures = record.measures
    yield from _numeric(measures.lines.results if measures.lines else {}, "lines.")
    yield from _numeric(vars(measures.end_token) if measures.end_token else {}, "end_token.")
    for kind, retrieved in (measures.retrieval or {}).items():
        yield from _numeric(vars(retrieved), f"retrieval.{kind}.")


def _numeric(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if value is None or isinstance(value, int | float):
            yield prefix + name, value


def _allowed(
    metric: str, expected: Any, other: Record, bits: bool, spreads: Mapping[tuple, Spread]
) -> tuple[float | None, float | None, str]:
    """Return the ends that a number may lie between, in the scale it is compared in, and why."""
    if bits:
        return None, None, "nothing: same code, machine and versions"
    if expected is None or metric.split(".")[-1] in EXACT:
        return None, None, "nothing: a count, a checksum or no number"
    if metric.endswith(".share") and metric.startswith("retrieval."):
        places = other.measures.retrieval[metric.split(".")[1]].places
        hits, trials = sum(place.hits for place in places), sum(place.trials for place in places)
        return *wilson(hits, trials, 1 - ERROR), f"Wilson interval of {hits} of {trials}"
    centre = _scaled(metric, expected)
    near = PROBE_TOLERANCE * abs(centre)
    low, high, why = centre - near, centre + near, f"{PROBE_TOLERANCE:g} of it, between machines"
    spread = spreads.get((_row(other), metric)) or spreads.get((None, metric))
    if other.specification.training is None or metric == PROBE or spread is None:
        return low, high, why
    ends = spread.ends(centre)
    why = f"one run more beside {spread.seeds} seeds" if spread.mean is not None else "one run more, spread of all rows"
    return min(low, ends[0]), max(high, ends[1]), why


def _verdict(value: Any, expected: Any, low: float | None, high: float | None) -> str:
    if value == expected:
        return SAME
    return TOLERATED if None not in (low, high, value) and low <= value <= high else DIFFERENT


def _spreads(records: Iterable[Record], reference: Archive) -> dict[tuple, Spread]:
    """Return the spread over seeds by (row, metric), and pooled over all rows by (None, metric)."""
    rows: dict[str, dict[str, Record]] = {}
    wanted = {_row(record) for record in records}
    for names in reference.by_essence.values():
        record = reference.records[names[-1]]
        if record.specification.training is not None and _row(record) in wanted:
            rows.setdefault(_row(record), {})[record.name] = record
    spreads: dict[tuple, Spread] = {}
    pooled: dict[str, list[tuple[float, int]]] = {}
    for row, members in rows.items():
        by_metric: dict[str, list[float]] = {}
        for record in members.values():
            for metric, value in numbers(record):
                if value is not None and metric.split(".")[-1] not in EXACT:
                    by_metric.setdefault(metric, []).append(_scaled(metric, value))
        for metric, values in by_metric.items():
            if len(values) > 1:
                series = pd.Series(values)
                spreads[row, metric] = Spread(float(series.mean()), float(series.std()), len(values) - 1, len(values))
                pooled.setdefault(metric, []).append((float(series.var()), len(values) - 1))
    for metric, parts in pooled.items():
        freedom = sum(each for _, each in parts)
        sd = math.sqrt(sum(variance * each for variance, each in parts) / freedom)
        spreads[None, metric] = Spread(None, sd, freedom, 1)
    return spreads


def _row(record: Record) -> str:
    """Hash what a run is but for its seed."""
    return record.specification.but_for_seed.essence


def _same_arithmetic(record: Record, other: Record) -> bool:
    """Whether the same bits are to be expected; a processor's name alone does not tell, so the base's score does."""
    return (
        record.specification.code == other.specification.code
        and machine_key(record) == machine_key(other)
        and record.machine.device == "cpu"
        and record.results[PROBE] == other.results[PROBE]
    )


def _scaled(metric: str, value: Any) -> Any:
    return math.log(value) if value is not None and metric.endswith("perplexity") else value


def _unscaled(metric: str, value: float | None) -> float | None:
    return math.exp(value) if value is not None and metric.endswith("perplexity") else value


def _relative(value: Any, reference: Any) -> float:
    if value == reference or not isinstance(value, int | float) or not isinstance(reference, int | float):
        return 0.0 if value == reference else math.inf
    return abs(value - reference) / abs(reference) if reference else math.inf


def _brief(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _worst(verdicts: Iterable[str]) -> str:
    given = set(verdicts)
    return next(verdict for verdict in (DIFFERENT, TOLERATED, SAME, ALONE) if verdict in given)
