"""Retrieval without generation: which of the listed values does a model find likeliest after the query, and where?

    key-value   n lines "key: value", then "key:" of one of them again; listed are the n values
    passkey     filler text with one line that states a number, then that line begun again; listed are the number and
                others of its form that stand nowhere in the text

    score(v) = sum over v's tokens of log p(token | context, v's tokens before it),   hit: the true v scores highest

All values of a question have equally many tokens, so that no length is favoured: sum and mean rank alike, and chance is
1/n. Of values that score alike the one with the lowest token ids is taken, whatever the order of the list.

Only the place of a fact varies within a trial, never the text around it (arXiv:2307.03172; the passkey is that of
arXiv:2305.16300). Rows are right-padded and run without a cache, which not every adapter or RoPE scaling can go on from
exactly; but a value's last token is only asked for, never read, so values of one token share a single row.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError
from hylorada.loss import causal_lm, chunked_nll
from hylorada.own_head import head_of
from hylorada.retrieved import Place, Retrieval, verdict
from hylorada.rope import usable_context
from hylorada.scoring import evaluating
from hylorada.wilson import wilson

KEY, PASSKEY = "\n{key}:", "\nThe pass key is"  # a line up to its value; asked for by beginning it again
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Question:
    """A context up to and with its query, and the listed values, one of them true; all as token ids.

    size: of the context, in pairs or in tokens. index: the place of the fact, from 0. depth: the same as a share of the
    context, 0 to 1.

    Raises HyLoRADAError unless there is a context, and candidates that are two or more, distinct and of one length.
    """

    context: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    answer: int
    size: int
    index: int
    depth: float

    def __post_init__(self) -> None:
        lengths = sorted({len(candidate) for candidate in self.candidates})
        if not self.context:
            raise HyLoRADAError("a question without context has no token to go on from: give it one or more")
        if len(lengths) != 1 or 0 in lengths:
            raise HyLoRADAError(f"candidates of {lengths} tokens cannot be compared: list values of equal token length")
        if len(set(self.candidates)) < max(len(self.candidates), 2) or not 0 <= self.answer < len(self.candidates):
            raise HyLoRADAError(
                f"answer {self.answer} of {len(self.candidates)} candidates: list two or more, each once, the true one "
                "among them"
            )

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """What the model reads: the context with each distinct beginning of a candidate, its last token left out."""
        return [self.context + beginning for beginning in sorted({candidate[:-1] for candidate in self.candidates})]


def measure_retrieval(
    model: nn.Module, questions: Sequence[Question], batch_size: int = 8, progress: bool = True
) -> Retrieval:
    """Answer all questions and count the hits by size and place; arguments as `candidate_log_probs`."""
    scores = candidate_log_probs(model, questions, batch_size, progress)
    answered = sorted(zip(questions, map(is_hit, questions, scores), strict=True), key=lambda pair: _place(pair[0]))
    places = []
    for (size, index, depth, listed), group in groupby(answered, key=lambda pair: _place(pair[0])):
        hits = [hit for _, hit in group]
        places.append(Place(size, index, depth, sum(hits), len(hits), *wilson(sum(hits), len(hits)), 1 / listed))
    return Retrieval(
        places=tuple(places),
        share=sum(place.hits for place in places) / len(questions),
        chance=sum(place.chance * place.trials for place in places) / len(questions),
        verdict=verdict(places),
        tokens_read=tokens_to_read(questions),
    )


def key_value_questions(
    tokenizer: Any,
    words: Sequence[str],
    pairs: int = 8,
    trials: int = 40,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> list[Question]:
    """Questions for one of `pairs` values by its key, `trials` for each place in `indices` (all places unless given).

    words: what keys and values are drawn from, of equal token length, as `words_of_length` finds them. A trial is one
    draw: the pair that is asked for moves through the places among others that keep their order. Trial t is the same
    for any number of trials.

    Raises HyLoRADAError if there are fewer words than keys and values, or no such place.
    """
    words, indices = sorted(set(words)), range(pairs) if indices is None else indices
    if pairs < 2 or len(words) < 2 * pairs:
        raise HyLoRADAError(
            f"pairs={pairs} take {2 * pairs} different words for keys and values, {len(words)} are given; use 2 pairs "
            "or more, and words for all"
        )
    if not all(0 <= index < pairs for index in indices):
        raise HyLoRADAError(f"indices={list(indices)} of {pairs} pairs: use places from 0 to {pairs - 1}")
    questions = []
    for trial in range(trials):
        drawn = random.Random(f"{seed}/{pairs}/{trial}").sample(words, 2 * pairs)
        lines = {key: f"{KEY.format(key=key)} {value}" for key, value in zip(drawn[:pairs], drawn[pairs:], strict=True)}
        asked, *others = lines
        for index in indices:
            order = [*others[:index], asked, *others[index:]]
            context = "".join(lines[key] for key in order) + KEY.format(key=asked)
            ids, values = continuations(tokenizer, context, [f" {value}" for value in drawn[pairs:]])
            questions.append(Question(ids, values, 0, size=pairs, index=index, depth=index / (pairs - 1)))
    return questions


def passkey_questions(
    tokenizer: Any,
    texts: Sequence[str],
    lengths: Sequence[int] = (256,),
    depths: Sequence[float] = QUARTERS,
    trials: int = 20,
    candidates: int = 4,
    digits: int = 5,
    seed: int = 0,
) -> list[Question]:
    """Questions for a number hidden in filler, `trials` for each length and depth.

    texts: what filler is cut from, at white space. lengths: tokens of context and value together, filled up to a word.
    depths: shares of the filler's tokens before the number, 0 to 1, nearest space. A trial is one stretch of filler and
    one set of numbers of `digits` digits, moved through the depths.

    Raises HyLoRADAError if the texts are too short, the lengths leave no room for filler, or depths are no shares.
    """
    if not all(0 <= depth <= 1 for depth in depths) or digits < 1:
        raise HyLoRADAError(f"depths={list(depths)}, digits={digits}: use shares from 0 to 1, and a digit or more")
    words = re.findall(r"\s*\S+", "\n\n".join(texts))
    if len(words) < max(lengths, default=0):
        raise HyLoRADAError(
            f"texts of {len(words)} words are too short a choice of filler: give {max(lengths)} words or more, one for "
            "each token of the longest context"
        )
    questions = []
    for length in lengths:
        for trial in range(trials):
            draw = random.Random(f"{seed}/{length}/{trial}")
            start = draw.randrange(len(words) - length + 1)
            filler = words[start : start + length]
            values = _numbers(tokenizer, draw, "".join(filler), candidates, digits)
            contexts = _hidden(tokenizer, filler, values, length, depths)
            questions += [
                Question(ids, listed, 0, size=length, index=index, depth=depths[index])
                for index, (ids, listed) in enumerate(contexts)
            ]
    return questions


def words_of_length(tokenizer: Any, texts: Sequence[str], tokens: int = 1) -> list[str]:
    """The distinct words of three letters or more in `texts`, in lower case, that are `tokens` tokens long as a value.

    With one token a value, a question costs one row whatever the number of pairs.
    """
    words = sorted({word.lower() for text in texts for word in re.findall(r"[^\W\d_]{3,}", text)})
    _, values = continuations(tokenizer, KEY.format(key=""), [f" {word}" for word in words])
    return [word for word, value in zip(words, values, strict=True) if len(value) == tokens]


def continuations(
    tokenizer: Any, context: str, values: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """(tokens of the context, those that each value adds to it); context and value are encoded as one text.

    Raises HyLoRADAError if a value changes the tokens before it: they would be scored in another context.
    """
    whole = tokenizer([context, *(context + value for value in values)], add_special_tokens=False, verbose=False)
    own, *joint = (tuple(ids) for ids in whole["input_ids"])
    for value, ids in zip(values, joint, strict=True):
        if ids[: len(own)] != own:
            raise HyLoRADAError(
                f"this tokenizer joins the end of {context[-20:]!r} with {value!r}, so the value has no tokens of its "
                "own there; use values that begin a token"
            )
    return own, tuple(ids[len(own) :] for ids in joint)


def candidate_log_probs(
    model: nn.Module, questions: Sequence[Question], batch_size: int = 8, progress: bool = True
) -> list[np.ndarray]:
    """log p of each candidate after its context, summed over its tokens, in nats: (n,) float64 for each question.

    model: a Hugging Face causal LM or a HyLoRADAModel; evaluation mode, float32 logits, no gradient.

    Raises HyLoRADAError if there is no question, one is too long for the model, a token id is not in its vocabulary, or
    a token's logits come from more than the decoder's output there.
    """
    _check_fit(model, questions, batch_size)
    lm = causal_lm(model)
    head = head_of(lm)
    device = lm.get_input_embeddings().weight.device
    scores = [np.zeros(len(question.candidates)) for question in questions]
    rows = [(q, row) for q, question in enumerate(questions) for row in question.rows]
    rows.sort(key=lambda row: -len(row[1]))  # little padding, stable order
    bar = tqdm(total=len(rows), desc="asking", unit="row", disable=None if progress else True)
    with bar, evaluating(model), torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            ids, mask = (tensor.to(device) for tensor in _padded([row for _, row in batch]))
            hidden = decoder_of(lm)(input_ids=ids, attention_mask=mask, use_cache=False)[0]  # (rows, tokens, d)
            wanted = [  # (row, place before the token, token, question, candidate)
                (row, len(questions[q].context) - 1 + place, token, q, c)
                for row, (q, read) in enumerate(batch)
                for c, candidate in enumerate(questions[q].candidates)
                if questions[q].context + candidate[:-1] == read
                for place, token in enumerate(candidate)
            ]
            row, place, token = torch.tensor([asked[:3] for asked in wanted], device=device).T
            nll = chunked_nll(hidden[row, place], head, token, fp32_logits=True)
            for (*_, q, c), value in zip(wanted, nll.tolist(), strict=True):
                scores[q][c] -= value
            bar.update(len(batch))
    return scores


def is_hit(question: Question, scores: np.ndarray) -> bool:
    """Tell whether the true candidate scores highest; of equal ones that with the lowest token ids is taken."""
    best = min(range(len(scores)), key=lambda c: (-scores[c], question.candidates[c]))
    return best == question.answer


def tokens_to_read(questions: Sequence[Question]) -> int:
    """Tokens that a model reads to answer, padding aside."""
    return sum(len(row) for question in questions for row in question.rows)


def _place(question: Question) -> tuple[int, int, float, int]:
    return question.size, question.index, question.depth, len(question.candidates)


def _numbers(tokenizer: Any, draw: random.Random, text: str, count: int, digits: int) -> list[str]:
    """`count` numbers of equal digits and tokens that do not stand in `text`, the first of them the true one."""
    every = range(10 ** (digits - 1), 10**digits)
    drawn = [str(number) for number in draw.sample(every, min(len(every), 50 * count))]
    drawn = [number for number in drawn if number not in text]
    _, values = continuations(tokenizer, PASSKEY, [f" {number}" for number in drawn])
    usual = Counter(map(len, values)).most_common(1)
    alike = [number for number, value in zip(drawn, values, strict=True) if len(value) == usual[0][0]]
    if len(alike) < count:
        raise HyLoRADAError(
            f"only {len(alike)} numbers of {digits} digits are equally long in tokens and absent from the filler, "
            f"candidates={count} are wanted; use more digits"
        )
    return alike[:count]


def _hidden(
    tokenizer: Any, filler: list[str], values: list[str], length: int, depths: Sequence[float]
) -> list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """For each depth, `continuations` with the first value hidden in the same filler, as much as `length` holds."""
    sizes = [len(ids) for ids in tokenizer(filler, add_special_tokens=False, verbose=False)["input_ids"]]
    before = np.cumsum([0, *sizes])  # (words + 1,) tokens before each space, if words are encoded one by one
    fact, listed = f"{PASSKEY} {values[0]}.", [f" {value}" for value in values]
    for count in range(int(np.searchsorted(before, length)), 0, -1):
        cuts = [int(np.abs(before[: count + 1] - depth * before[count]).argmin()) for depth in depths]
        contexts = ["".join([*filler[:cut], fact, *filler[cut:count], PASSKEY]) for cut in cuts]
        whole = tokenizer([context + listed[0] for context in contexts], add_special_tokens=False, verbose=False)
        if max(map(len, whole["input_ids"])) <= length:
            return [continuations(tokenizer, context, listed) for context in contexts]
    raise HyLoRADAError(f"a length of {length} tokens leaves no room for filler around the number; use a longer one")


def _padded(rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Rows padded on the right, and 1 where they are real, (rows, tokens) each."""
    shape = len(rows), max(map(len, rows))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row)
        mask[n, : len(row)] = 1
    return ids, mask


def _check_fit(model: nn.Module, questions: Sequence[Question], batch_size: int) -> None:
    if not questions or batch_size < 1:
        raise HyLoRADAError(f"{len(questions)} questions in batches of {batch_size}: give one or more of each")
    lm = causal_lm(model)
    context, vocabulary = usable_context(lm.config), len(lm.get_input_embeddings().weight)
    longest = max(len(row) for question in questions for row in question.rows)
    if context is not None and longest > context:
        raise HyLoRADAError(f"a question of {longest} tokens does not fit this model's context of {context}")
    tokens = {token for question in questions for part in (question.context, *question.candidates) for token in part}
    if not 0 <= min(tokens) <= max(tokens) < vocabulary:
        raise HyLoRADAError(
            f"a token id is outside the model's {vocabulary}: use the tokenizer that belongs to the model"
        )
