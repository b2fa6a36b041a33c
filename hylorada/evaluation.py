"""Scoring texts: a data set becomes token lists, these one NLL a token (`scoring.py`), and that the numbers asked for.

Every result depends on the window and its stride, so both are always arguments. `join=True` scores all texts as one
stream, as the Hugging Face guide "Perplexity of fixed-length models" does.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from hylorada.arguments import checked, keywords_of
from hylorada.errors import HyLoRADAError, near, shown
from hylorada.metrics import all_metrics
from hylorada.nll import TokenNLL
from hylorada.scoring import context_length, score_windows, token_nll
from hylorada.texts import texts_of

__all__ = [
    "context_length",
    "dataset_nll",
    "evaluate_lost_in_the_middle",
    "evaluate_perplexity",
    "run_full_evaluation",
    "score_windows",
    "token_nll",
]
AGGREGATES: dict[str, Callable[[TokenNLL], tuple[float, float]]] = {  # name -> (perplexity, loss in nats)
    "corpus": lambda tokens: (tokens.corpus_perplexity(), tokens.mean_nll()),
    "mean_of_texts": lambda tokens: (tokens.arithmetic_perplexity(), float(tokens.text_means()[1].mean())),
    "geometric": lambda tokens: (tokens.geometric_perplexity(), float(tokens.text_means()[1].mean())),
}


@checked(also=keywords_of(token_nll, "token_lists", "score_all", "texts"))
def dataset_nll(
    model: nn.Module,
    dataset: Any,
    tokenizer: Any,
    max_length: int | None = None,
    stride: int | None = None,
    join: bool = False,
    add_bos: bool = False,
    num_samples: int | None = None,
    **options: Any,
) -> TokenNLL:
    r"""The per-token store of a model on texts.

    dataset: anything with a column `text`, rows with one, or a list of str (`hylorada.texts.texts_of`), of which the
    first `num_samples` are taken.
    max_length: the window in tokens, the model's context unless given; stride: how far it moves, a window unless given.
    join: score the texts, joined by "\n\n", as one stream. add_bos: put the tokenizer's BOS in front of each text (of
    the stream), so that its first token is scored too; nothing else is added. Further options as `token_nll`.
    """
    token_lists, texts = _encoded(dataset, tokenizer, join, add_bos, num_samples)
    options |= {"score_all": not join, "tokenizer": tokenizer, "texts": texts}
    return token_nll(model, token_lists, max_length, stride, **options)


@checked(also=keywords_of(dataset_nll))
def evaluate_perplexity(
    model: nn.Module,
    dataset: Any,
    tokenizer: Any,
    max_length: int | None = None,
    stride: int | None = None,
    aggregate: str = "corpus",
    **options: Any,
) -> tuple[float, float]:
    """(perplexity, loss) of a model on texts; arguments and options as `dataset_nll`.

    aggregate: "corpus" is exp(sum NLL / sum tokens), the loss its logarithm; "mean_of_texts" is the mean of the texts'
    perplexities (the published metric), "geometric" exp of the mean of their losses, the loss of both that mean.
    """
    if aggregate not in AGGREGATES:
        raise HyLoRADAError(f"aggregate={aggregate!r} is not known; {near(aggregate, AGGREGATES)}")
    return AGGREGATES[aggregate](dataset_nll(model, dataset, tokenizer, max_length, stride, **options))


@checked(also=keywords_of(dataset_nll))
def evaluate_lost_in_the_middle(
    model: nn.Module,
    dataset: Any,
    tokenizer: Any,
    max_length: int | None = None,
    min_tokens: int = 100,
    **options: Any,
) -> dict[str, Any]:
    """Perplexity along each text's first `max_length` tokens, and what it says of the middle; options as `dataset_nll`.

    `perplexity` is the published mean of ten `decile_perplexities`, `middle_contrast` the contrast C in nats that
    alone speaks of the middle, `texts` how many texts of `min_tokens` tokens or more both were taken over.
    """
    max_length = context_length(model) if max_length is None else max_length
    chosen = {name: options.pop(name) for name in ("join", "add_bos", "num_samples") if name in options}
    token_lists = [ids[:max_length] for ids in _encoded(dataset, tokenizer, **chosen)[0]]
    tokens = token_nll(model, token_lists, max_length, tokenizer=tokenizer, **options)
    return {
        "perplexity": tokens.lost_in_the_middle_published(min_tokens),
        "decile_perplexities": tokens.decile_perplexities(min_tokens).tolist(),
        "middle_contrast": tokens.middle_contrast(min_tokens),
        "texts": len(tokens.text_means(min_tokens)[0]),
        "max_length": max_length,
    }


@checked(also=keywords_of(dataset_nll, "dataset"))
def run_full_evaluation(
    model: nn.Module,
    test_dataset: Any,
    tokenizer: Any,
    config: Any = None,
    max_length: int | None = None,
    stride: int | None = None,
    **options: Any,
) -> dict[str, float | int | None]:
    """Every metric of one pass over the texts by its name in METRICS, with counts, window and stride; as `dataset_nll`.

    config: if given, the HyLoRADAConfig the model must have been built with. The lost-in-the-middle numbers are those
    of each text's first window, None where no text has 100 tokens.
    """
    if config is not None and getattr(model, "hylorada_config", None) != config:
        raise HyLoRADAError(
            "config is not the one this model was built with; leave it out, or pass model.hylorada_config"
        )
    max_length = context_length(model) if max_length is None else max_length
    tokens = dataset_nll(model, test_dataset, tokenizer, max_length, stride, **options)
    return {
        **all_metrics(tokens),
        "loss": tokens.mean_nll(),  # as `evaluate_perplexity` names it
        "texts": tokens.n_texts,
        "texts_skipped": tokens.n_skipped,
        "bytes": int(tokens.text_bytes.sum()),
        "words": int(tokens.text_words.sum()),
        "max_length": max_length,
        "stride": min(stride or max_length, max_length - 1),  # windows overlap by a token at least
    }


@checked()
def _encoded(
    dataset: Any, tokenizer: Any, join: bool = False, add_bos: bool = False, num_samples: int | None = None
) -> tuple[list[list[int]], list[str]]:
    """Token ids of each text, and the texts."""
    if not callable(tokenizer) or isinstance(tokenizer, type) or not hasattr(tokenizer, "decode"):
        raise HyLoRADAError(
            f"tokenizer={shown(tokenizer)} is no tokenizer; give the model's own, as from "
            "AutoTokenizer.from_pretrained(...)."
        )
    texts = texts_of(dataset, num_samples)
    if join:
        texts = ["\n\n".join(texts)]
    if add_bos and tokenizer.bos_token_id is None:
        raise HyLoRADAError("add_bos=True, but this tokenizer has no BOS token: leave add_bos out")
    bos = [tokenizer.bos_token_id] if add_bos else []
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return [bos + list(ids) for ids in encoded], texts
