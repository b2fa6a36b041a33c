"""The runs behind a table: what they have in common once, then each with its results and its record."""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from hylorada.metrics import METRICS, PERPLEXITY
from hylorada.study.page import markup
from hylorada.study.page.markup import folded, soft
from hylorada.study.plan.record import Record
from hylorada.study.records.lineage import in_common, lineage
from hylorada.study.results.words import fixed, plural

PER_RUN = ("seed", "time")  # headings of a lineage that each run tells for itself


def runs_html(rows: Mapping[str, Sequence[Record]], folder: str) -> str:
    """Return the runs of a table, folded. rows: records by the label of their row. folder: of the records."""
    told = {record.name: lineage(record) for records in rows.values() for record in records}
    shared = _without(in_common(list(told.values())), PER_RUN)
    parts = [markup.facts(_headed(shared))]
    for label, records in rows.items():
        its = [told[record.name] for record in records]
        of_row = _without(in_common(its), (*PER_RUN, *shared))
        own = [_without(each, (*shared, *of_row, "seed")) for each in its]
        lines = "".join(_run(record, rest, folder) for record, rest in zip(records, own, strict=True))
        parts.append(f"<h4>{escape(label)}</h4>{markup.facts(_headed(of_row))}<ul>{lines}</ul>")
    return folded("", "runs", f"{len(told)} {plural('run', len(told))}", "".join(parts))


def run_words(record: Record, label: str) -> str:
    """Return what a run is called: the label of its row, and the seed."""
    training = record.specification.training
    return label if training is None else f"{label}, seed {training.seed}"


def _run(record: Record, rest: Mapping[str, str], folder: str) -> str:
    training = record.specification.training
    place = f"{folder}/{record.name}/record.json"
    more = [f"{heading}: {text}" for heading, text in rest.items()]
    more += [_result(name, value) for name, value in record.results.items() if name != PERPLEXITY and value is not None]
    more.append(f"{record.trainable:,} of {record.total:,} parameters trained")
    return (
        f'<li id="run-{escape(record.name)}">{escape("untrained" if training is None else f"Seed {training.seed}")}: '
        f"perplexity {record.results[PERPLEXITY]:.2f} {soft('; '.join(more))} "
        f'<a href="{escape(place)}">record</a></li>'
    )


def _result(name: str, value: Any) -> str:
    metric = METRICS.get(name)
    words = name.replace("_", " ") if metric is None else metric.words
    words = f"perplexity {words}" if metric is not None and metric.unit == PERPLEXITY else words
    return f"{words} {f'{value:,}' if isinstance(value, int) else fixed(value, 4)}"


def _without(told: Mapping[str, str], headings: Collection[str]) -> dict[str, str]:
    return {heading: text for heading, text in told.items() if heading not in headings}


def _headed(told: Mapping[str, str]) -> dict[str, str]:
    return {heading.capitalize(): escape(text) for heading, text in told.items()}
