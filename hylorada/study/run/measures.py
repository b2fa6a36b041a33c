"""What is measured of a trained model: the numbers of its scored text, and further measures, each a row of `MEASURES`.

A measure is asked for with an amount, which a scale sets; its result goes into the record under the measure's name.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from hylorada.end_token import LEVELS, end_probability
from hylorada.errors import HyLoRADAError
from hylorada.metrics import MIDDLE_TOKENS, all_metrics, has_middle
from hylorada.model import HyLoRADAModel
from hylorada.nll import TokenNLL, shifted_copies, token_kinds
from hylorada.retrieval import (
    QUARTERS,
    Question,
    key_value_questions,
    measure_retrieval,
    passkey_questions,
    words_of_length,
)
from hylorada.scoring import token_nll
from hylorada.study.plan.record import EndToken, KindOfToken, Placebo, ScoredLines, Shifts, Views, WorstText
from hylorada.study.plan.specification import LinesAsked
from hylorada.study.run.follow import published_perplexity
from hylorada.study.sources.tokens import Tokens

SHIFTS = 4  # equal parts of a window, in each of which a token is scored once
PAIRS = (4, 8, 16)  # of the key-value questions
PASSKEY_TOKENS = 256  # of a passkey's context, or the window where that is less
LONGEST_WORD = 8  # tokens of a key or a value
TEXT_FOR_QUESTIONS = 20_000  # training tokens from which words and filler are drawn
Taken = tuple[Any, TokenNLL | None]  # a field of `hylorada.study.plan.record.Measures`, and scored tokens to keep


def views(nll: TokenNLL, tokenizer: Any) -> Views:
    """Return what is more than a number: NLL by kind of token, the five worst texts, perplexity by decile of a text."""
    first = nll.first_windows()
    texts, shares = nll.worst_texts()
    by_text = dict(zip(*(column.tolist() for column in nll.text_means()[:2]), strict=True))
    kinds = nll.nll_by_kind(_kinds(tokenizer))
    absent = {kind: row | {"mean_nll": None} for kind, row in kinds.items() if not row["tokens"]}  # JSON has no NaN
    return Views(
        kinds={kind: KindOfToken(**row) for kind, row in (kinds | absent).items()},
        worst=[
            WorstText(text=text, share=share, perplexity=float(np.exp(by_text[text])))
            for text, share in zip(texts.tolist(), shares.tolist(), strict=True)
        ],
        deciles=first.decile_perplexities(MIDDLE_TOKENS).tolist() if has_middle(first) else None,
    )


@lru_cache(maxsize=4)  # one tokenizer serves many runs, and more than one text of each
def _kinds(tokenizer: Any) -> np.ndarray:
    return token_kinds(tokenizer)


def score_lines(
    model: nn.Module, asked: LinesAsked, text: Tokens, tokenizer: Any, batch_size: int, progress: bool
) -> TokenNLL:
    """Score the lines of a published protocol, each alone and cut at the window."""
    ids, articles = text.protocol_lines(asked.lines)
    window = asked.max_length
    cut = [line[:window] for line in ids]
    return token_nll(
        model, cut, window, batch_size=batch_size, article_ids=articles, tokenizer=tokenizer, progress=progress
    )


def measure_lines(subject: nn.Module, asked: LinesAsked, **at: Any) -> Taken:
    """The published evaluation lines."""
    nll = score_lines(subject, asked, at["text"], at["tokenizer"], at["evaluation"].batch_size, at["progress"])
    results = all_metrics(nll) | {"published_perplexity": published_perplexity(nll, asked.min_tokens)}
    return ScoredLines(results=results, views=views(nll, at["tokenizer"])), nll


def measure_end_token(subject: nn.Module, asked: int | None, **at: Any) -> Taken:
    """How likely the end of the text is where the text goes on, over the first `asked` texts (None: all)."""
    evaluation, texts = at["evaluation"], at["texts"][:asked]
    ends = end_probability(
        subject,
        texts,
        at["text"].end,
        evaluation.max_length,
        evaluation.stride,
        evaluation.batch_size,
        progress=at["progress"],
    )
    quantiles = dict(zip(map(str, LEVELS), ends.quantiles().tolist(), strict=True))
    factor = ends.perplexity_factor()
    return EndToken(
        mean=ends.mean(),
        quantiles=quantiles,
        perplexity_factor=factor if np.isfinite(factor) else None,
        texts=len(texts),
    ), None


def measure_shifts(subject: nn.Module, asked: int | None, **at: Any) -> Taken:
    """Mean NLL of the same tokens in each of `SHIFTS` parts of the window, over the first `asked` texts (None: all)."""
    window = at["evaluation"].max_length
    copies = shifted_copies(at["texts"][:asked], window, SHIFTS)
    scored = token_nll(
        subject, copies, window, window, at["evaluation"].batch_size, score_all=False, progress=at["progress"]
    )
    edges = np.linspace(0, window, SHIFTS + 1).astype(int)
    means, counts = scored.matched_over_shifts(window, SHIFTS).nll_by_position(edges, by="context")
    return Shifts(parts=SHIFTS, nll=means.tolist(), tokens=int(counts[0])), None


def measure_retrieval_by_depth(subject: nn.Module, asked: int, **at: Any) -> Taken:
    """Key-value retrieval and passkey by depth, `asked` trials a place; words and filler are training text.

    Lists of PAIRS that do not fit the window are left out. Keys and values are words of as few tokens as the text has
    enough of.
    """
    tokenizer, evaluation = at["tokenizer"], at["evaluation"]
    window = evaluation.max_length
    source = np.concatenate(at["text"].articles["train"])[:TEXT_FOR_QUESTIONS]
    filler = [tokenizer.decode(source.tolist(), skip_special_tokens=True)]
    words = _words(tokenizer, filler)
    lists = [key_value_questions(tokenizer, words, pairs, asked, indices=_quarters(pairs)) for pairs in PAIRS]
    fitting = [question for questions in lists if _longest(questions) <= window for question in questions]
    passkey = passkey_questions(tokenizer, filler, lengths=(min(window, PASSKEY_TOKENS),), trials=asked)
    return {
        kind: measure_retrieval(subject, questions, evaluation.batch_size, at["progress"])
        for kind, questions in (("key_value", fitting), ("passkey", passkey))
    }, None


def measure_placebo(subject: HyLoRADAModel, asked: int, **at: Any) -> Taken:
    """The main text again by the same adapter, each weight moved by chance by `asked` ten-thousandths of itself.

    What this changes is no effect of anything, so that no comparison of the same table can tell less from nothing.
    """
    moved, own = asked / 10_000, {name: tensor.clone() for name, tensor in subject.adapter_tensors().items()}
    chance = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(tensor.shape, generator=chance).to(tensor) for name, tensor in own.items()}
    with torch.no_grad():
        subject.load_adapter_tensors({name: own[name] * (1 + moved * drawn[name]) for name in own}, "the placebo")
        again = at["again"]()
        subject.load_adapter_tensors(own, "the trained adapter")
    changes = again.nll_by_article()[1] - at["scored"].nll_by_article()[1]
    spread = float(np.std(again.nll - at["scored"].nll))
    return Placebo(moved=moved, changes=changes.tolist(), token_sd=spread), None


def _words(tokenizer: Any, texts: list[str]) -> list[str]:
    for tokens in range(1, LONGEST_WORD + 1):
        if len(words := words_of_length(tokenizer, texts, tokens)) >= 2 * max(PAIRS):
            return words
    raise HyLoRADAError(
        f"the training text has no {2 * max(PAIRS)} words of one length up to {LONGEST_WORD} tokens to ask for; leave "
        "retrieval out of measures, or take a longer corpus."
    )


def _longest(questions: list[Question]) -> int:
    return max(len(row) for question in questions for row in question.rows)


def _quarters(pairs: int) -> list[int]:
    """Places at the quarters of a list, each once."""
    return sorted({round(depth * (pairs - 1)) for depth in QUARTERS})


MEASURES: dict[str, Callable[..., Taken]] = {  # `ceiling` is taken before training, in `execute`
    "lines": measure_lines,
    "end_token": measure_end_token,
    "shifts": measure_shifts,
    "retrieval": measure_retrieval_by_depth,
    "placebo": measure_placebo,
}
