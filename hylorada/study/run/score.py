"""Scoring one model as a specification asks: the main text, token by token, and every further measure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from hylorada.evaluation import token_nll
from hylorada.metrics import all_metrics
from hylorada.model import HyLoRADAModel
from hylorada.nll import TokenNLL
from hylorada.study.run.follow import drawn_from, published_perplexity
from hylorada.study.run.measures import MEASURES, score_lines, views
from hylorada.study.sources.lines import Lines
from hylorada.study.sources.tokens import Tokens


@dataclass(frozen=True)
class Evaluation:
    """results: flat numbers of the main text; views: what is more than a number; measures: by name; stores: by file."""

    results: dict[str, float | None]
    views: dict[str, Any]
    measures: dict[str, Any]
    stores: dict[str, TokenNLL]


def evaluate(
    model: PreTrainedModel | HyLoRADAModel,
    specification: dict[str, Any],
    text: Tokens,
    tokenizer: Any,
    progress: bool = True,
) -> Evaluation:
    """Score the main text that a specification asks for, and take every measure that it names."""
    asked = specification["evaluation"]
    training = specification["training"] or {"seed": 0}
    with drawn_from(training["seed"]):  # a protocol may leave a dropout on
        nll = score(model, specification, text, tokenizer, progress)
        texts = main_texts(specification, text)
        at = {"text": text, "texts": texts, "evaluation": asked, "tokenizer": tokenizer, "progress": progress}
        taken = {name: MEASURES[name](model, amount, **at) for name, amount in specification["measures"].items()}
    results = all_metrics(nll)
    if "lines" in asked:
        results["published_perplexity"] = published_perplexity(nll, asked["min_tokens"])
    return Evaluation(
        results,
        views(nll, tokenizer),
        {name: found for name, (found, _) in taken.items()},
        {"nll": nll} | {name: store for name, (_, store) in taken.items() if store is not None},
    )


def score(
    model: PreTrainedModel | HyLoRADAModel,
    specification: dict[str, Any],
    text: Tokens,
    tokenizer: Any,
    progress: bool = True,
) -> TokenNLL:
    """Score the main text: whole articles, one text each, or the lines of a published protocol."""
    asked = specification["evaluation"]
    if "lines" in asked:
        return score_lines(model, asked, text, tokenizer, asked["batch_size"], progress)
    return token_nll(
        model,
        main_texts(specification, text),
        max_length=asked["max_length"],
        stride=asked["stride"],
        batch_size=asked["batch_size"],
        tokenizer=tokenizer,
        progress=progress,
    )


def main_texts(specification: dict[str, Any], text: Tokens) -> list[np.ndarray]:
    """Return the ids of the texts that a specification is scored on."""
    asked = specification["evaluation"]
    if "lines" in asked:
        return [ids[: asked["max_length"]] for ids in text.protocol_lines(Lines(**asked["lines"]))[0]]
    return text.held_out(asked["split"], asked["articles"], asked["tokens_per_article"])


def probe_nll(base: PreTrainedModel, specification: dict[str, Any], text: Tokens) -> float:
    """Return the NLL of one window by the untouched base: what every run of a plan scores first, to be compared."""
    asked = specification["evaluation"]
    window = main_texts(specification, text)[0][: asked["max_length"]]
    return token_nll(base, [window], asked["max_length"], batch_size=1, progress=False).mean_nll()
