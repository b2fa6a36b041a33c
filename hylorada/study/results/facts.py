"""The facts of both published procedures beside the corrected one, read off the rows of `PROTOCOLS`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from hylorada.study.plan.ablation import LANDMARKS
from hylorada.study.plan.budget import fitted_to, planned_steps, published_steps
from hylorada.study.plan.protocol import GIVEN, Buckets, Protocol
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.settings import Settings
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
Words = Callable[[Protocol, Settings], str]


@dataclass(frozen=True)
class Fact:
    """One line of the table. of: the fields of `Protocol` that it tells. words: what it says of one protocol."""

    label: str
    of: tuple[str, ...]
    words: Words


def _lines(name: str, whole: Callable[[Settings], str]) -> Words:
    """Tell the lines of a published protocol, and how many of them the scale takes where those are fewer."""

    def words(protocol: Protocol, settings: Settings) -> str:
        lines, here = getattr(protocol, name), getattr(fitted_to(protocol, settings), name)
        if lines is None:
            return whole(settings)
        kind = ", blank ones and headings too"
        if lines.longer_than is not None:
            kind = f" of more than {lines.longer_than} characters"
        cut = f"; here {thousands(here.count)}" if here.count < lines.count else ""
        return f"first {thousands(lines.count)} {lines.split} lines{kind}{cut}"

    return words


def _scored(settings: Settings) -> str:
    some = settings.test_tokens_per_article
    part = "whole articles" if some is None else f"first {thousands(some)} tokens of the articles"
    return f"{part} of the {settings.evaluation_split} split"


def _steps(protocol: Protocol, settings: Settings) -> str:
    here, published = planned_steps(protocol, settings), published_steps(protocol, settings)
    if here is None:
        return "as all training text gives"
    return str(here) if published in (None, here) else f"{published}; here {here}"


def _given(name: str, setting: str, words: Callable[[Any], str]) -> Words:
    def of_protocol(protocol: Protocol, settings: Settings) -> str:
        value = getattr(protocol, name)
        return words(getattr(settings, setting) if value == GIVEN else value)

    return of_protocol


def _rate(protocol: Protocol, settings: Settings) -> str:
    if protocol.learning_rate != GIVEN:
        return scientific(protocol.learning_rate)
    return "each arm's own" if settings.tuned_rates else scientific(settings.learning_rate)


def _other_rates(protocol: Protocol, settings: Settings) -> str:
    rates = {
        "position bias": protocol.position_bias_lr,
        "landmarks": settings.landmark_lr if protocol.landmark_lr == GIVEN else protocol.landmark_lr,
        "embeddings": protocol.embedding_lr,
    }
    if len(set(rates.values())) == 1 and protocol.landmark_lr != GIVEN:
        return f"{scientific(protocol.position_bias_lr)} for all"
    return ", ".join(f"{part} {scientific(rate)}" for part, rate in rates.items())


def _schedule(protocol: Protocol, settings: Settings) -> str:
    warm_up = f"{100 * protocol.warmup_ratio:g}{SPACE}% warm-up, " if protocol.warmup_ratio else "no warm-up, "
    return warm_up + SCHEDULES[protocol.lr_schedule]


def _batch(protocol: Protocol, settings: Settings) -> str:
    size, passes = (
        getattr(settings, name) if getattr(protocol, name) == GIVEN else getattr(protocol, name)
        for name in ("batch_size", "gradient_accumulation_steps")
    )
    rows = f"{size} {plural('row', size)}" + (f", {passes} passes a step" if passes != 1 else "")
    return rows + (", whole steps only" if protocol.whole_steps else "")


def _padding(protocol: Protocol, settings: Settings) -> str:
    if not protocol.padded:
        return "none: packed blocks"
    return "to the length, " + ("and counted in the loss" if protocol.padding_in_loss else "left out of the loss")


def _buckets(protocol: Protocol, settings: Settings) -> str:
    match protocol.landmark_buckets:
        case Buckets(spacing=spacing, positions=fixed, learned_positions=learned):
            return f"{spacing} over {thousands(fixed)} positions; learnable ones over {thousands(learned)}"
    return "logarithmic over the length in use"


def _types(protocol: Protocol, settings: Settings) -> str:
    return "the base's, no masters" if protocol.adapter_dtype == "base" else "float32 masters"


FACTS = (
    Fact("training text", ("training_text",), _lines("training_text", lambda s: "whole articles, packed")),
    Fact("length of a block or row", ("block_tokens",), _given("block_tokens", "block_tokens", thousands)),
    Fact("padding", ("padded", "padding_in_loss"), _padding),
    Fact("rows of a step", ("batch_size", "gradient_accumulation_steps", "whole_steps"), _batch),
    Fact("passes over the text", ("num_epochs",), _given("num_epochs", "num_epochs", str)),
    Fact("steps", (), _steps),
    Fact("learning rate", ("learning_rate",), _rate),
    Fact("other rates", ("position_bias_lr", "landmark_lr", "embedding_lr"), _other_rates),
    Fact("schedule", ("warmup_ratio", "lr_schedule"), _schedule),
    Fact("weight decay", ("weight_decay",), lambda p, s: f"{p.weight_decay:g}"),
    Fact(
        "gradient clipping",
        ("max_grad_norm",),
        lambda p, s: "none" if p.max_grad_norm is None else f"norm {p.max_grad_norm:g}",
    ),
    Fact("adapters kept in", ("adapter_dtype",), _types),
    Fact(
        "positions reach the bias",
        ("positions_reach_bias",),
        lambda p, s: "yes" if p.positions_reach_bias else "no: the bias does nothing",
    ),
    Fact(
        "landmarks",
        ("num_landmarks",),
        lambda p, s: str(LANDMARKS.num_landmarks if p.num_landmarks == GIVEN else p.num_landmarks),
    ),
    Fact("landmark buckets", ("landmark_buckets",), _buckets),
    Fact(
        "module of learnable buckets",
        ("bucket_module_registered",),
        lambda p, s: "trained" if p.bucket_module_registered else "in no optimiser; its dropout stays on",
    ),
    Fact(
        "pooling designs see padding",
        ("pools_over_padding",),
        lambda p, s: "yes" if p.pools_over_padding else "no",
    ),
    Fact(
        "scored text",
        ("evaluation_text",),
        _lines("evaluation_text", _scored),
    ),
    Fact("window", ("evaluation_tokens",), _given("evaluation_tokens", "block_tokens", thousands)),
    Fact(
        "perplexity",
        ("mean_of_lines", "min_tokens"),
        lambda p, s: (
            f"mean over lines of {p.min_tokens} tokens or more" if p.mean_of_lines else "corpus, exp of mean loss"
        ),
    ),
)


def facts_table(settings: Settings) -> pd.DataFrame:
    """Return one row a fact: its label, what each protocol has, and the rows that mend it alone."""
    mended = mended_alone()
    return pd.DataFrame(
        [
            {"fact": fact.label}
            | {name: fact.words(PROTOCOLS[name], _budget(settings, name)) for name in PROCEDURES}
            | {"mended": ", ".join(mended[field] for field in fact.of if field in mended)}
            for fact in FACTS
        ]
    )


def _budget(settings: Settings, protocol: str) -> Settings:
    """Return the settings of the study that runs a published protocol, where the scale has it."""
    return settings.for_study(protocol) if protocol in settings.studies else settings


def mended_alone() -> dict[str, str]:
    """Return the protocols that differ from the published one in one fact: by the field, what they are called."""
    published = PROTOCOLS["as_published"]
    labels = {}
    for protocol in (protocol for name, protocol in PROTOCOLS.items() if name not in PROCEDURES):
        differs = [f.name for f in fields(Protocol) if getattr(protocol, f.name) != getattr(published, f.name)]
        (field,) = [name for name in differs if name != "label"]
        labels[field] = protocol.label
    return labels
