"""The facts of both published procedures beside the corrected one, read off the rows of `PROTOCOLS`
and, where a protocol leaves a fact open, off the records of its runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from hylorada.study.plan.budget import planned_steps, published_steps
from hylorada.study.plan.protocol import GIVEN, Buckets, Protocol
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.specification import Specification
from hylorada.study.records.records import Records
from hylorada.study.results.words import SPACE, plural, scientific, thousands

PROCEDURES = {
    "corrected": "corrected",
    "as_published": "as published",
    "landmark_study": "landmark study, as published",
}
SCHEDULES = {
    "constant": "constant",
    "cosine": "cosine to zero",
    "linear_from_zero": "linear to zero",
}
Words = Callable[[Protocol, Sequence[Specification]], str]


@dataclass(frozen=True)
class Fact:
    """One line of the table. of: the fields of `Protocol` that it tells. words: what it says of one protocol.

    The words are made of a protocol and of what its runs were asked for, as their records say; none where it was not
    run.
    """

    label: str
    of: tuple[str, ...]
    words: Words


def _said(protocol: Protocol, runs: Sequence[Specification], name: str, words: Callable[[Any], str]) -> str:
    """Tell what a protocol fixes, or else what its runs were asked for."""
    fixed = getattr(protocol, name)
    values = [_asked(run, name) for run in runs] if fixed == GIVEN else [fixed]
    if not values:
        return "not run here"
    return words(values[0]) if values.count(values[0]) == len(values) else "each arm's own"


def _asked(run: Specification, name: str) -> Any:
    match name:
        case "block_tokens":
            return run.block_tokens
        case "evaluation_tokens":
            return run.evaluation.max_length
        case "num_landmarks":
            return run.adapter.num_landmarks
    return getattr(run.training, name)


def _plainly(name: str, words: Callable[[Any], str]) -> Words:
    return lambda protocol, runs: _said(protocol, runs, name, words)


def _lines(name: str, whole: Callable[[Sequence[Specification]], str]) -> Words:
    """Tell the lines of a published protocol, and how many of them its runs take where those are fewer."""

    def words(protocol: Protocol, runs: Sequence[Specification]) -> str:
        lines = getattr(protocol, name)
        if lines is None:
            return whole(runs)
        here = min((getattr(run.protocol, name).count for run in runs), default=lines.count)
        kind = ", blank ones and headings too"
        if lines.longer_than is not None:
            kind = f" of more than {lines.longer_than} characters"
        cut = f"; here {thousands(here)}" if here < lines.count else ""
        return f"first {thousands(lines.count)} {lines.split} lines{kind}{cut}"

    return words


def _scored(runs: Sequence[Specification]) -> str:
    if not runs:
        return "not run here"
    asked = runs[0].evaluation
    some = asked.tokens_per_article
    part = "whole articles" if some is None else f"first {thousands(some)} tokens of the articles"
    return f"{part} of the {asked.split} split"


def _steps(protocol: Protocol, runs: Sequence[Specification]) -> str:
    published = published_steps(protocol)
    if not runs:
        return "not run here" if published is None else str(published)
    here = planned_steps(runs[0])
    if here is None:
        return "as all training text gives"
    return str(here) if published in (None, here) else f"{published}; here {here}"


def _other_rates(protocol: Protocol, runs: Sequence[Specification]) -> str:
    names = {"position bias": "position_bias_lr", "landmarks": "landmark_lr", "embeddings": "embedding_lr"}
    rates = {part: _said(protocol, runs, name, scientific) for part, name in names.items()}
    if len(set(rates.values())) == 1 and protocol.landmark_lr != GIVEN:
        return f"{rates['landmarks']} for all"
    return ", ".join(f"{part} {rate}" for part, rate in rates.items())


def _schedule(protocol: Protocol, runs: Sequence[Specification]) -> str:
    def warm_up(share: float) -> str:
        return f"{100 * share:g}{SPACE}% warm-up" if share else "no warm-up"

    return f"{_said(protocol, runs, 'warmup_ratio', warm_up)}, {SCHEDULES[protocol.lr_schedule]}"


def _batch(protocol: Protocol, runs: Sequence[Specification]) -> str:
    rows = _said(protocol, runs, "batch_size", lambda size: f"{size} {plural('row', size)}")
    passes = _said(protocol, runs, "gradient_accumulation_steps", lambda passes: str(passes))
    rows += f", {passes} passes a step" if passes.isdigit() and passes != "1" else ""
    return rows + (", whole steps only" if protocol.whole_steps else "")


def _padding(protocol: Protocol, runs: Sequence[Specification]) -> str:
    if not protocol.padded:
        return "none: packed blocks"
    return "to the length, " + ("and counted in the loss" if protocol.padding_in_loss else "left out of the loss")


def _buckets(protocol: Protocol, runs: Sequence[Specification]) -> str:
    match protocol.landmark_buckets:
        case Buckets(spacing=spacing, positions=fixed, learned_positions=learned):
            return f"{spacing} over {thousands(fixed)} positions; learnable ones over {thousands(learned)}"
    return "logarithmic over the length in use"


def _types(protocol: Protocol, runs: Sequence[Specification]) -> str:
    return "the base's, no masters" if protocol.adapter_dtype == "base" else "float32 masters"


FACTS = (
    Fact("training text", ("training_text",), _lines("training_text", lambda runs: "whole articles, packed")),
    Fact("length of a block or row", ("block_tokens",), _plainly("block_tokens", thousands)),
    Fact("padding", ("padded", "padding_in_loss"), _padding),
    Fact("rows of a step", ("batch_size", "gradient_accumulation_steps", "whole_steps"), _batch),
    Fact("passes over the text", ("num_epochs",), _plainly("num_epochs", str)),
    Fact("steps", (), _steps),
    Fact("learning rate", ("learning_rate",), _plainly("learning_rate", scientific)),
    Fact("other rates", ("position_bias_lr", "landmark_lr", "embedding_lr"), _other_rates),
    Fact("schedule", ("warmup_ratio", "lr_schedule"), _schedule),
    Fact("weight decay", ("weight_decay",), _plainly("weight_decay", "{:g}".format)),
    Fact(
        "gradient clipping",
        ("max_grad_norm",),
        _plainly("max_grad_norm", lambda norm: "none" if norm is None else f"norm {norm:g}"),
    ),
    Fact("adapters kept in", ("adapter_dtype",), _types),
    Fact(
        "positions reach the bias",
        ("positions_reach_bias",),
        lambda protocol, _: "yes" if protocol.positions_reach_bias else "no: the bias does nothing",
    ),
    Fact(
        "landmarks",
        ("num_landmarks",),
        _plainly("num_landmarks", str),
    ),
    Fact("landmark buckets", ("landmark_buckets",), _buckets),
    Fact(
        "module of learnable buckets",
        ("bucket_module_registered",),
        lambda protocol, _: "trained" if protocol.bucket_module_registered else "in no optimiser; its dropout stays on",
    ),
    Fact(
        "pooling designs see padding",
        ("pools_over_padding",),
        lambda protocol, _: "yes" if protocol.pools_over_padding else "no",
    ),
    Fact(
        "scored text",
        ("evaluation_text",),
        _lines("evaluation_text", _scored),
    ),
    Fact("window", ("evaluation_tokens",), _plainly("evaluation_tokens", thousands)),
    Fact(
        "perplexity",
        ("mean_of_lines", "min_tokens"),
        lambda protocol, _: (
            f"mean over lines of {protocol.min_tokens} tokens or more"
            if protocol.mean_of_lines
            else "corpus, exp of mean loss"
        ),
    ),
)


def facts_table(studies: Mapping[str, Records]) -> pd.DataFrame:
    """Return one row a fact: its label, what each protocol has, and the rows that mend it alone.

    studies: the records of all studies of a scale.
    """
    mended, runs = mended_alone(), {name: _runs_of(name, studies) for name in PROCEDURES}
    return pd.DataFrame(
        [
            {"fact": fact.label}
            | {name: fact.words(PROTOCOLS[name], runs[name]) for name in PROCEDURES}
            | {"mended": ", ".join(mended[field] for field in fact.of if field in mended)}
            for fact in FACTS
        ]
    )


def _runs_of(protocol: str, studies: Mapping[str, Records]) -> list[Specification]:
    """Return what the trained runs of the first study under a protocol were asked for."""
    for records in studies.values():
        asked = [record.specification for record in records.by_run.values() if record.training]
        if runs := [one for one in asked if one.protocol.name == protocol]:
            return runs
    return []


def mended_alone() -> dict[str, str]:
    """Return the protocols that differ from the published one in one fact: by the field, what they are called."""
    published = PROTOCOLS["as_published"]
    labels = {}
    for protocol in (protocol for name, protocol in PROTOCOLS.items() if name not in PROCEDURES):
        differs = [f.name for f in fields(Protocol) if getattr(protocol, f.name) != getattr(published, f.name)]
        (field,) = [name for name in differs if name != "label"]
        labels[field] = protocol.label
    return labels
