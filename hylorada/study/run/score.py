"""Scoring one model as a specification asks: the main text, token by token, and every further measure."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from hylorada.metrics import all_metrics
from hylorada.model import HyLoRADAModel
from hylorada.nll import TokenNLL
from hylorada.scoring import token_nll
from hylorada.study.plan.record import Measures, Numbers, Views
from hylorada.study.plan.specification import LinesText, Specification
from hylorada.study.run.follow import drawn_from, published_perplexity
from hylorada.study.run.measures import MEASURES, score_lines, views
from hylorada.study.sources.tokens import Tokens


@dataclass(frozen=True)
class Evaluation:
    """results: flat numbers of the main text; views: what is more than a number; measures: by name; stores: by file."""

    results: Numbers
    views: Views
    measures: Measures
    stores: dict[str, TokenNLL]


def evaluate(
    model: PreTrainedModel | HyLoRADAModel,
    specification: Specification,
    text: Tokens,
    tokenizer: Any,
    progress: bool = True,
) -> Evaluation:
    """Score the main text that a specification asks for, and take every measure that it names."""
    asked = specification.evaluation
    seed = specification.training.seed if specification.training else 0
    with drawn_from(seed):  # a protocol may leave a dropout on
        nll = score(model, specification, text, tokenizer, progress)
        texts = main_texts(specification, text)
        at = {"text": text, "texts": texts, "evaluation": asked, "tokenizer": tokenizer, "progress": progress}
        at |= {"scored": nll, "again": partial(score, model, specification, text, tokenizer, progress)}
        asked_of = {name: amount for name, amount in specification.measures.items() if name in MEASURES}
        taken = {name: MEASURES[name](model, amount, **at) for name, amount in asked_of.items()}
    results = all_metrics(nll)
    if isinstance(asked, LinesText):
        results["published_perplexity"] = published_perplexity(nll, asked.min_tokens)
    return Evaluation(
        results,
        views(nll, tokenizer),
        Measures(**{name: measured for name, (measured, _) in taken.items()}),
        {"nll": nll} | {name: store for name, (_, store) in taken.items() if store is not None},
    )


def score(
    model: PreTrainedModel | HyLoRADAModel,
    specification: Specification,
    text: Tokens,
    tokenizer: Any,
    progress: bool = True,
) -> TokenNLL:
    """Score the main text: whole articles, one text each, or the lines of a published protocol."""
    asked = specification.evaluation
    if isinstance(asked, LinesText):
        return score_lines(model, asked, text, tokenizer, asked.batch_size, progress)
    return token_nll(
        model,
        main_texts(specification, text),
        max_length=asked.max_length,
        stride=asked.stride,
        batch_size=asked.batch_size,
        tokenizer=tokenizer,
        progress=progress,
    )


def main_texts(specification: Specification, text: Tokens) -> list[np.ndarray]:
    """Return the ids of the texts that a specification is scored on."""
    asked = specification.evaluation
    if isinstance(asked, LinesText):
        return [ids[: asked.max_length] for ids in text.protocol_lines(asked.lines)[0]]
    return text.held_out(asked.split, asked.articles, asked.tokens_per_article)


def probe_nll(base: PreTrainedModel, specification: Specification, text: Tokens) -> float:
    """Return the NLL of one window by the untouched base: what every run of a plan scores first, to be compared."""
    length = specification.evaluation.max_length
    window = main_texts(specification, text)[0][:length]
    return token_nll(base, [window], length, batch_size=1, progress=False).mean_nll()
