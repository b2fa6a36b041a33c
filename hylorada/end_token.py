"""How likely a model finds the end of the text where the text goes on: p(end) at every scored position.

With p_t the probability of the end token in the place of the text's token t, a loss over padding that is filled with
end tokens teaches a model p_t > 0 on text. What that costs there is exact: with q the distribution without the end,

    -log p(x_t) = -log(1 - p_t) - log q(x_t),   so the perplexity on text is exp(mean of -log(1 - p_t)) times that of q

It needs the logits, so it is no view of the store of `nll.py`; positions and windows are the same as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED, causal_lm, causal_lm_nll
from hylorada.scoring import evaluating, fitting_window, score_windows

LEVELS = (0.5, 0.9, 0.99)


@dataclass(frozen=True, eq=False)
class EndProbability:
    """The end token's surprise at scored positions, as columns of equal length, text by text.

    text: index of the text. position: index in its text of the token that the end stands in for. nll: -log p_t in nats,
    float64. is_end: (n,) bool, True where the text's own token is the end, and a high p_t is right; such positions
    enter none of the numbers below.

    Raises HyLoRADAError if no position is left.
    """

    text: np.ndarray
    position: np.ndarray
    nll: np.ndarray
    is_end: np.ndarray

    def __post_init__(self) -> None:
        if self.is_end.all():
            raise HyLoRADAError("no text has a token to score that is not the end token: a text needs two tokens")

    @property
    def on_text(self) -> np.ndarray:
        """p_t wherever the text goes on, (n_on_text,) float64."""
        return np.exp(-self.nll[~self.is_end])

    def mean(self) -> float:
        """Mean of p_t on text."""
        return float(self.on_text.mean())

    def quantiles(self, levels: Sequence[float] = LEVELS) -> np.ndarray:
        """Quantiles of p_t on text at `levels` from 0 to 1."""
        return np.quantile(self.on_text, levels)

    def perplexity_factor(self) -> float:
        """exp(mean of -log(1 - p_t)): 1 where the end is never expected, 5 where p_t is 0.8 throughout.

        Infinite where one p_t is 1 as float32 tells it.
        """
        with np.errstate(divide="ignore"):
            return float(np.exp(-np.log(-np.expm1(-self.nll[~self.is_end])).mean()))


def end_probability(
    model: nn.Module,
    texts: Sequence[Sequence[int]],
    end_id: int,
    max_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    chunk_tokens: int = 512,
    progress: bool = True,
) -> EndProbability:
    """p(end) of a model in the place of every token of `texts` (token lists) but each one's first; float32 logits.

    end_id: id of the end token. max_length: the window in tokens, the model's context unless given; stride: how far it
    moves, a window unless given (less the token by which windows overlap). At most `chunk_tokens` rows of logits exist
    at once.

    Raises HyLoRADAError if the window does not fit the model, an id is not in its vocabulary, or nothing is scored.
    """
    max_length = fitting_window(model, max_length)
    vocabulary = len(causal_lm(model).get_input_embeddings().weight)
    stride = max_length if stride is None else stride
    if not 1 <= stride <= max_length or batch_size < 1:
        raise HyLoRADAError(
            f"stride={stride}, batch_size={batch_size} is not possible: the stride is 1 to max_length={max_length}, "
            "the batch size 1 or more"
        )
    texts = [np.asarray(ids, dtype=np.int64) for ids in texts]
    if not all(0 <= ids.min() <= ids.max() < vocabulary for ids in (*texts, np.array([end_id])) if len(ids)):
        raise HyLoRADAError(
            f"a token id of the texts, or end_id={end_id}, is outside the model's {vocabulary}: use the tokenizer that "
            "belongs to the model"
        )
    step = min(stride, max_length - 1)  # windows overlap by a token, so that each but a text's first is scored
    windows = [
        (text, *window) for text, ids in enumerate(texts) for window in score_windows(len(ids), max_length, step)
    ]
    if not windows:
        raise HyLoRADAError(f"none of {len(texts)} texts has two tokens, so there is no place to score the end at")
    nll = _nll_of_end(model, texts, windows, end_id, batch_size, chunk_tokens, progress)
    targets = np.concatenate([texts[text][first:end] for text, _, end, first in windows])
    return EndProbability(
        text=np.concatenate([np.full(end - first, text) for text, _, end, first in windows]),
        position=np.concatenate([np.arange(first, end) for _, _, end, first in windows]),
        nll=nll,
        is_end=targets == end_id,
    )


def _nll_of_end(
    model: nn.Module,
    texts: list[np.ndarray],
    windows: list[tuple[int, int, int, int]],
    end_id: int,
    batch_size: int,
    chunk_tokens: int,
    progress: bool,
) -> np.ndarray:
    """-log p of the end token in the place of all windows' targets, one window after the other, (n_scored,) float64."""
    device = causal_lm(model).get_input_embeddings().weight.device
    longest_first = sorted(range(len(windows)), key=lambda w: windows[w][1] - windows[w][2])  # little padding
    scored: dict[int, np.ndarray] = {}
    bar = tqdm(total=len(windows), desc="scoring", unit="window", disable=None if progress else True)
    with bar, evaluating(model), torch.no_grad():
        for start in range(0, len(windows), batch_size):
            batch = longest_first[start : start + batch_size]
            rows = [texts[text][begin:end] for text, begin, end, _ in (windows[w] for w in batch)]
            ids = torch.zeros(len(batch), len(rows[0]), dtype=torch.long)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
            for row, (window, tokens) in enumerate(zip(batch, rows, strict=True)):
                _, begin, end, first = windows[window]
                ids[row, : len(tokens)] = torch.from_numpy(tokens)
                mask[row, : len(tokens)] = 1
                labels[row, first - begin : end - begin] = end_id  # in the place of the text's own tokens
            on_device = (part.to(device) for part in (ids, mask, labels))
            nll = causal_lm_nll(model, *on_device, chunk_tokens=chunk_tokens, fp32_logits=True).cpu().double().numpy()
            for window, row in zip(batch, nll, strict=True):
                _, begin, end, first = windows[window]
                scored[window] = row[first - begin - 1 : end - begin - 1]
            bar.update(len(batch))
    return np.concatenate([scored[window] for window in range(len(windows))])
