"""Token lists in windows, windows in batches, one NLL a token: the store that every metric is a view of (`nll.py`).

A text is cut into windows that overlap by at least one token, so every token but the text's first is scored exactly
once. With `score_all=False` the windows are literally those of the Hugging Face guide "Perplexity of fixed-length
models", where with a stride of a whole window the first token of each window goes unscored. (Where windows overlap the
guide's code weighs each by its number of targets less one; here every scored token weighs one.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hylorada.arguments import checked
from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED, causal_lm, causal_lm_nll
from hylorada.nll import TokenNLL
from hylorada.rope import usable_context
from hylorada.text_size import size_of_scored
from hylorada.wide_products import wide_products


@checked()
def token_nll(
    model: nn.Module,
    token_lists: Sequence[Sequence[int]],
    max_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    score_all: bool = True,
    article_ids: Sequence[int] | None = None,
    tokenizer: Any = None,
    progress: bool = True,
    chunk_tokens: int = 512,
    texts: Sequence[str] | None = None,
    full_last_window: bool = False,
) -> TokenNLL:
    """The per-token store of a model on token lists, one a text; float32 logits, evaluation mode, no gradient.

    score_all: let windows overlap by a token, so that each but a text's first is scored; else literally max_length and
    stride. article_ids: the article of each text, its own index unless given. tokenizer: counts the bytes and words of
    the scored tokens, of `texts` if these are what the lists were encoded from. full_last_window: the last window of a
    text reaches back as far as max_length allows, not only to where the stride puts it; so lm-evaluation-harness does
    (docs/clients.md).

    Raises HyLoRADAError if window or stride do not fit the model, an id is not in its vocabulary, or nothing is scored.
    """
    max_length = fitting_window(model, max_length)
    vocabulary = len(causal_lm(model).get_input_embeddings().weight)
    stride = max_length if stride is None else stride
    if not 1 <= stride <= max_length or batch_size < 1:
        raise HyLoRADAError(
            f"stride={stride}, batch_size={batch_size} is not possible: the stride is 1 to max_length={max_length} "
            "(a longer one would leave tokens out), the batch size 1 or more"
        )
    articles = np.arange(len(token_lists)) if article_ids is None else np.asarray(article_ids)
    if articles.shape != (len(token_lists),):
        raise HyLoRADAError(f"article_ids of shape {articles.shape} for {len(token_lists)} texts: give one a text")
    of_texts = [_ids(token_list) for token_list in token_lists]
    if any(len(ids) and not 0 <= ids.min() <= ids.max() < vocabulary for ids in of_texts):
        raise HyLoRADAError(
            f"a token id is outside the model's {vocabulary}: use the tokenizer that belongs to the model"
        )

    step = min(stride, max_length - 1) if score_all else stride
    windows = [
        (text, *window)
        for text, ids in enumerate(of_texts)
        for window in score_windows(len(ids), max_length, step, full_last_window)
    ]
    nll = _windows_nll(model, of_texts, windows, batch_size, chunk_tokens, progress)
    sizes = np.array([end - first for _, _, end, first in windows], dtype=np.int64)
    text, begin = (np.repeat([window[column] for window in windows], sizes).astype(np.int64) for column in (0, 1))
    position = np.concatenate([np.arange(first, end) for _, _, end, first in windows] or [[]]).astype(np.int64)
    scored = np.split(position, np.bincount(text, minlength=len(of_texts)).cumsum()[:-1])  # windows go text by text
    sizes_of = zip(of_texts, scored, texts or [None] * len(of_texts), strict=False)  # without texts, one empty split
    measured = [(0, 0) if tokenizer is None else size_of_scored(i, s, tokenizer, t) for i, s, t in sizes_of]
    return TokenNLL(
        text=text,
        article=articles[text],
        position=position,
        context=position - begin,
        token_id=np.concatenate([of_texts[i][first:end] for i, _, end, first in windows] or [[]]),
        nll=nll,
        text_bytes=[size for size, _ in measured],
        text_words=[words for _, words in measured],
    )


def score_windows(
    n_tokens: int, max_length: int, stride: int, full_last: bool = False
) -> Iterator[tuple[int, int, int]]:
    """(begin, end, first_target) of the Hugging Face windows over `n_tokens` tokens, those without a target left out.

    Tokens first_target .. end-1 are scored given those from `begin` on: what no earlier window covered, and never a
    window's own first token, which has no context. full_last: the last window is `max_length` long, where it can be.
    """
    previous_end = 0
    for begin in range(0, n_tokens, stride):
        end = min(begin + max_length, n_tokens)
        first_target = max(previous_end, begin + 1)
        if first_target < end:
            yield max(end - max_length, 0) if full_last else begin, end, first_target
        if end == n_tokens:
            return
        previous_end = end


def context_length(model: nn.Module) -> int:
    """Longest window in tokens: `max_position_embeddings` (`n_positions` of GPT-2), times the factor of a RoPE scaling.

    Raises HyLoRADAError if the model's config names no limit.
    """
    config = causal_lm(model).config
    limit = usable_context(config)
    if limit is None:
        raise HyLoRADAError(f"{type(config).__name__} names no context length: give max_length, the window in tokens")
    return limit


def fitting_window(model: nn.Module, max_length: int | None) -> int:
    """Return the window in tokens, the model's context unless given; a model that names no context takes any.

    Raises HyLoRADAError if it does not fit the model, or neither is named.
    """
    max_length = context_length(model) if max_length is None else max_length
    context = usable_context(causal_lm(model).config)
    if max_length < 2 or (context is not None and max_length > context):
        allowed = "2 tokens or more" if context is None else f"2 to {context} tokens"
        raise HyLoRADAError(f"max_length={max_length} is not possible: this model takes windows of {allowed}")
    return max_length


def _windows_nll(
    model: nn.Module, texts: list[np.ndarray], windows: list[tuple], batch_size: int, chunk_tokens: int, progress: bool
) -> np.ndarray:
    """NLL of all windows' targets, one window after the other, (n_scored,) float32."""
    device = causal_lm(model).get_input_embeddings().weight.device
    longest_first = sorted(
        range(len(windows)), key=lambda w: windows[w][1] - windows[w][2]
    )  # little padding, stable order
    scored: list[np.ndarray] = [np.empty(0, np.float32)] * len(windows)
    bar = tqdm(total=len(windows), desc="scoring", unit="window", disable=None if progress else True)
    # no_grad and not inference_mode: buffers a model sets here (dynamic RoPE) must stay usable in training
    with bar, evaluating(model), torch.no_grad():
        for start in range(0, len(windows), batch_size):
            batch = longest_first[start : start + batch_size]
            shape = len(batch), windows[batch[0]][2] - windows[batch[0]][1]
            ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
            labels = torch.full(shape, IGNORED)
            for row, window in enumerate(batch):
                text, begin, end, first = windows[window]
                ids[row, : end - begin] = torch.from_numpy(texts[text][begin:end])
                mask[row, : end - begin] = 1
                labels[row, first - begin : end - begin] = ids[row, first - begin : end - begin]
            nll = causal_lm_nll(
                model, ids.to(device), mask.to(device), labels.to(device), chunk_tokens=chunk_tokens, fp32_logits=True
            )
            for window, row in zip(batch, nll.cpu().numpy(), strict=True):
                _, begin, end, first = windows[window]
                scored[window] = row[first - begin - 1 : end - begin - 1]
            bar.update(len(batch))
    return np.concatenate(scored or [np.empty(0, np.float32)])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, and `wide_products`; afterwards every module is in the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with wide_products():
            yield
    finally:
        for module, training in before:
            module.training = training


def _ids(token_list: Any) -> np.ndarray:
    """The token ids of one text, (n_tokens,) int64."""
    ids = np.asarray(token_list)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise HyLoRADAError(
            f"a {type(token_list).__name__} of shape {ids.shape} and type {ids.dtype} is no list of token ids: "
            "give one list of whole numbers for each text"
        )
    return ids.astype(np.int64)
