"""Every metric of scored texts: the name under which it is kept, its words, its unit, and how the store gives it.

The formulas are those of `TokenNLL`. Evaluation, the records of the study, figures and sentences read this one table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hylorada.nll import TokenNLL

MIDDLE_TOKENS = 100  # of a text that is cut into deciles and thirds; shorter ones are skipped, as published
PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class Metric:
    """One number of a store.

    words: what it is, standing alone. phrase: the same behind the number in a sentence; "" where no sentence says it.
    of_middle: taken of each text's first window, from texts of MIDDLE_TOKENS tokens or more.
    """

    words: str
    unit: str
    of: Callable[[TokenNLL], float | int]
    phrase: str = ""
    of_middle: bool = False


METRICS = {
    "perplexity": Metric("of the corpus", PERPLEXITY, TokenNLL.corpus_perplexity, "over the corpus"),
    "geometric_perplexity": Metric("geometric, of texts", PERPLEXITY, TokenNLL.geometric_perplexity, "as geometric"),
    "arithmetic_perplexity": Metric(
        "arithmetic, of texts", PERPLEXITY, TokenNLL.arithmetic_perplexity, "as arithmetic mean of articles"
    ),
    "lim_perplexity": Metric(
        "LIM-PPL, of deciles",
        PERPLEXITY,
        lambda tokens: tokens.lost_in_the_middle_published(MIDDLE_TOKENS),
        of_middle=True,
    ),
    "word_perplexity": Metric("per word", PERPLEXITY, TokenNLL.word_perplexity, "by word"),
    "byte_perplexity": Metric("per byte", PERPLEXITY, TokenNLL.byte_perplexity, "by byte"),
    "bits_per_byte": Metric("bits per byte", "bits", TokenNLL.bits_per_byte),
    "mean_nll": Metric("mean loss", "nats per token", TokenNLL.mean_nll),
    "middle_contrast": Metric(
        "contrast of the middle", "nats per token", lambda tokens: tokens.middle_contrast(MIDDLE_TOKENS), of_middle=True
    ),
    "worst_texts_share": Metric("share of the five worst texts", "1", TokenNLL.worst_texts_share),
    "scored_tokens": Metric("scored tokens", "tokens", lambda tokens: len(tokens.nll)),
    "articles": Metric("articles", "articles", lambda tokens: len(np.unique(tokens.article))),
}
PERPLEXITIES = {name: metric for name, metric in METRICS.items() if metric.unit == PERPLEXITY}


def all_metrics(tokens: TokenNLL) -> dict[str, float | int | None]:
    """Return every metric by name; those of the middle are None where no first window has MIDDLE_TOKENS tokens."""
    first = tokens.first_windows()
    middle = first if has_middle(first) else None
    taken = {name: middle if metric.of_middle else tokens for name, metric in METRICS.items()}
    return {name: None if store is None else METRICS[name].of(store) for name, store in taken.items()}


def has_middle(first: TokenNLL) -> bool:
    """Tell whether any text of a store, as of first windows, is long enough to be cut into deciles and thirds."""
    return int(first.text_means()[2].max()) + 1 >= MIDDLE_TOKENS
