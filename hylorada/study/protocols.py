"""Protocols as data: how a study trains and scores, one field for each fact. Needs no torch until a model is changed.

`as_published` holds the facts of the published code, `corrected` those of this study; each row between them mends one
fact of `as_published`, to show which fix moves which number. `landmark_study` is the second published study.

The published loss, over B rows of T ids cut or filled up to T with the end token e:

    L = 1/(B(T-1)) · sum of -log p(x_t | x_<t) over rows and t = 1 ... T-1,   x_t = e where the row has ended

Padding counts as a target like any token. The mask was given, so no token attends to padding (in a blank row, all of
it padding, what remains is the attention library's answer to an empty mask), and places count on: 0 ... T-1.
`published_batches` states all of it, labels and places included, so that nothing is left for the trainer to derive:
its batches are those of `torch.utils.data.default_collate`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL

if TYPE_CHECKING:
    from hylorada.model import HyLoRADAModel

GIVEN = "given"  # a value that no protocol fixes: the stage, the arm or the scale says it
IGNORED = -100  # a label that is no target
OPTIMISER = (  # fields that are those of `TrainingConfig`
    *("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "weight_decay", "lr_schedule"),
    *("warmup_ratio", "max_grad_norm", "batch_size", "gradient_accumulation_steps", "num_epochs"),
)


@dataclass(frozen=True)
class Lines:
    """The first `count` lines of a split, of those with more than `longer_than` characters.

    longer_than: None takes every line, blank ones and headings too. stripped: count without white space at the ends.
    """

    split: str
    count: int
    longer_than: int | None = None
    stripped: bool = False


@dataclass(frozen=True)
class Buckets:
    """How positions spread over the buckets of landmarks: fixed ones by `spacing`, learned ones evenly at the start.

    positions, learned_positions: tokens that all buckets together cover.
    """

    spacing: str
    positions: int
    learned_positions: int


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of the table of protocols; its optimiser fields are those of `TrainingConfig`.

    training_text: None is packed blocks of whole articles. block_tokens: length of a row or block. padded: a line is a
    row of its own, filled up to block_tokens. whole_steps: rows that fill no whole step are left out. adapter_dtype:
    "float32" masters, or "base" for the base model's type without masters. landmark_buckets: None is what the adapter's
    configuration says, logarithmic over the length in use. bucket_module_registered: else the learned buckets' module
    is in no optimiser and out of reach of `eval()`, so that its dropout stays on. evaluation_text: None is whole
    articles of the test split. mean_of_lines: the published metric instead of the corpus perplexity. min_tokens: a
    shorter text is skipped.
    """

    label: str
    training_text: Lines | None
    block_tokens: int | str
    padded: bool
    padding_in_loss: bool
    whole_steps: bool
    learning_rate: float | str
    position_bias_lr: float
    landmark_lr: float | str
    embedding_lr: float
    weight_decay: float
    lr_schedule: str
    warmup_ratio: float
    max_grad_norm: float | None  # None: no clipping
    batch_size: int | str
    gradient_accumulation_steps: int | str
    num_epochs: int | str
    adapter_dtype: str
    positions_reach_bias: bool
    num_landmarks: int | str
    landmark_buckets: Buckets | None
    bucket_module_registered: bool
    pools_over_padding: bool  # in training, by the landmarks that pool
    evaluation_text: Lines | None
    evaluation_tokens: int | str  # window; longer lines are cut there
    mean_of_lines: bool
    min_tokens: int


AS_PUBLISHED = Protocol(
    label="as published",
    training_text=Lines("train", 500),
    block_tokens=512,
    padded=True,
    padding_in_loss=True,
    whole_steps=False,
    learning_rate=5e-4,  # one rate for all
    position_bias_lr=5e-4,
    landmark_lr=5e-4,
    embedding_lr=5e-4,
    weight_decay=0.01,
    lr_schedule="constant",
    warmup_ratio=0.0,
    max_grad_norm=None,
    batch_size=4,
    gradient_accumulation_steps=1,
    num_epochs=1,
    adapter_dtype="base",
    positions_reach_bias=False,
    num_landmarks=8,
    landmark_buckets=Buckets("linear", positions=32_768, learned_positions=1024),
    bucket_module_registered=False,
    pools_over_padding=True,
    evaluation_text=Lines("validation", 200, longer_than=100),
    evaluation_tokens=512,
    mean_of_lines=True,
    min_tokens=10,
)
PROTOCOLS = {
    "corrected": Protocol(
        label="corrected",
        training_text=None,
        block_tokens=GIVEN,
        padded=False,
        padding_in_loss=False,
        whole_steps=False,
        learning_rate=GIVEN,  # the arm's, from one grid for all arms
        position_bias_lr=1e-3,
        landmark_lr=GIVEN,
        embedding_lr=1e-5,
        weight_decay=0.01,
        lr_schedule="cosine",
        warmup_ratio=0.03,
        max_grad_norm=1.0,
        batch_size=GIVEN,
        gradient_accumulation_steps=GIVEN,
        num_epochs=GIVEN,
        adapter_dtype="float32",
        positions_reach_bias=True,
        num_landmarks=GIVEN,
        landmark_buckets=None,
        bucket_module_registered=True,
        pools_over_padding=False,
        evaluation_text=None,
        evaluation_tokens=GIVEN,
        mean_of_lines=False,
        min_tokens=2,
    ),
    "as_published": AS_PUBLISHED,
    "padding_masked": replace(AS_PUBLISHED, label="padding masked", padding_in_loss=False),
    "positions_passed": replace(AS_PUBLISHED, label="positions passed", positions_reach_bias=True),
    "buckets_fixed": replace(AS_PUBLISHED, label="buckets fixed", landmark_buckets=None),
    "bucket_module_trained": replace(AS_PUBLISHED, label="bucket module trained", bucket_module_registered=True),
    "landmark_study": replace(
        AS_PUBLISHED,
        label="landmark study, as published",
        training_text=Lines("train", 500, longer_than=50, stripped=True),
        whole_steps=True,
        learning_rate=2e-4,
        position_bias_lr=2e-4,
        landmark_lr=2e-4,
        embedding_lr=2e-4,
        lr_schedule="linear_from_zero",
        warmup_ratio=0.1,
        max_grad_norm=1.0,
        batch_size=2,
        gradient_accumulation_steps=8,
        adapter_dtype="float32",
        num_landmarks=4,
        landmark_buckets=Buckets("linear", positions=512, learned_positions=1024),
        evaluation_text=Lines("test", 100, longer_than=50, stripped=True),
    ),
}


def lines_of(texts: Iterable[str]) -> list[str]:
    r"""Return the lines of a corpus in order, as WikiText keeps them: a line with its "\n" at the end, or "" if blank.

    A corpus of lines stays as it is. Articles are cut at their line ends, a departure where the published code had
    lines: nothing says that the two have headings and blank lines in the same share.
    """
    lines = [line for text in texts for line in text.removesuffix("\n").split("\n")]
    return [f"{line}\n" if line else "" for line in lines]


def published_rows(lines: Sequence[str], rows: int = 500) -> list[str]:
    """Return the first rows of a line corpus, blank ones and headings too (HyLoRADAError when there are fewer)."""
    return _first(list(lines), rows, "lines")


def published_lines(lines: Sequence[str], count: int = 200, min_chars: int = 100, stripped: bool = False) -> list[str]:
    """Return the first `count` lines of more than `min_chars` characters, counted without white space if `stripped`.

    Raises:
        HyLoRADAError: there are fewer.
    """
    filled = [line for line in lines if line.strip()]
    long = [line for line in filled if len(line.strip() if stripped else line) > min_chars]
    return _first(long, count, f"lines of more than {min_chars} characters")


def select_lines(wanted: Lines, lines: Sequence[str]) -> list[str]:
    """Return what a protocol takes of the lines of the split that it names (HyLoRADAError when there are fewer)."""
    if wanted.longer_than is None:
        return published_rows(lines, wanted.count)
    return published_lines(lines, wanted.count, wanted.longer_than, wanted.stripped)


def published_batches(protocol: Protocol, rows: Sequence[Sequence[int]], end: int) -> list[dict[str, np.ndarray]]:
    """Return a padded protocol's training rows: input_ids, attention_mask, labels, position_ids, (block_tokens,) each.

    rows: ids of each line, none for a blank one. Where padding is no target, rows without any target are left out: they
    add nothing to a loss, and a batch of them alone has none.

    Raises:
        HyLoRADAError: the protocol packs its text, or no row is left.
    """
    if not protocol.padded:
        raise HyLoRADAError(f"the protocol {protocol.label!r} packs its text; take its blocks from the tokens.")
    length, batches = protocol.block_tokens, []
    for row in rows:
        real = min(len(row), length)
        ids = np.full(length, end, np.int64)
        ids[:real] = row[:length]
        mask = (np.arange(length) < real).astype(np.int64)
        labels = ids.copy() if protocol.padding_in_loss else np.where(mask, ids, IGNORED)
        if (labels[1:] != IGNORED).any():
            batches.append(
                {"input_ids": ids, "attention_mask": mask, "labels": labels, "position_ids": np.arange(length)}
            )
    step = protocol.batch_size * protocol.gradient_accumulation_steps
    kept = len(batches) // step * step if protocol.whole_steps else len(batches)
    if not kept:
        raise HyLoRADAError(f"{len(rows)} rows leave nothing to train on under {protocol.label!r}; give more of them.")
    return batches[:kept]


def padding_share(batches: Sequence[dict[str, np.ndarray]]) -> float:
    """Return the share of padding among all targets of `published_batches`, 0 to 1."""
    targets = np.stack([batch["labels"][1:] != IGNORED for batch in batches])
    padding = np.stack([batch["attention_mask"][1:] == 0 for batch in batches])
    return float((targets & padding).sum() / targets.sum())


def training_config(protocol: Protocol, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `TrainingConfig`: `given`, and over it what the protocol fixes.

    Raises:
        HyLoRADAError: the protocol leaves a field open and `given` lacks it.
    """
    fields = {name: getattr(protocol, name) for name in OPTIMISER}
    if missing := [name for name, value in fields.items() if value == GIVEN and name not in given]:
        raise HyLoRADAError(f"the protocol {protocol.label!r} does not fix {', '.join(missing)}; give them.")
    return given | {name: value for name, value in fields.items() if value != GIVEN}


def adapter_config(protocol: Protocol, adapter: HyLoRADAConfig) -> HyLoRADAConfig:
    """Return the configuration to build a stage's adapter with; the rest of a protocol's facts is for `follow`."""
    return adapter if protocol.num_landmarks == GIVEN else replace(adapter, num_landmarks=protocol.num_landmarks)


def follow(protocol: Protocol, model: "HyLoRADAModel") -> None:
    """Change a freshly built or loaded model to what the protocol says of its parts; parts that it lacks are passed by.

    A saved adapter does not tell of these changes: whoever loads one makes them again.
    """
    from hylorada.landmark_redesigns import LearnableBucketLandmark, PerLayerLandmark, PooledLandmark
    from hylorada.landmarks import LandmarkLoRA

    if protocol.adapter_dtype == "base":
        in_base_dtype(model)
    if not protocol.positions_reach_bias and model.position_bias is not None:
        without_positions(model)
    if protocol.landmark_buckets is not None and isinstance(model.landmark, LandmarkLoRA):
        with_buckets(model, protocol.landmark_buckets)
    if not protocol.bucket_module_registered and isinstance(model.landmark, LearnableBucketLandmark):
        hooked_in_alone(model)
    if protocol.pools_over_padding and isinstance(model.landmark, PooledLandmark | PerLayerLandmark):
        pooling_over_padding(model)


def without_positions(model: "HyLoRADAModel") -> None:
    """Take the position bias out of every layer: with no positions, the published layers applied none.

    Its table stays among the trained tensors, gets no gradient and so keeps its zeros.

    Raises:
        HyLoRADAError: no layer has a position bias.
    """
    from hylorada.lora import HyLoRADAUnified, unchanged

    layers = [module for module in model.modules() if isinstance(module, HyLoRADAUnified) and module.at_position]
    if not layers:
        raise HyLoRADAError("no adapted layer has a position bias to take out; set position_bias_enabled=True.")
    for layer in layers:
        layer.at_position = None
        layer.place_output = layer.place_update = unchanged


def with_buckets(model: "HyLoRADAModel", buckets: Buckets) -> None:
    """Spread positions over the buckets of the landmarks as given; a position bias keeps its own.

    Raises:
        HyLoRADAError: the landmarks of the model have no buckets.
    """
    from hylorada.landmark_redesigns import LearnableBucketLandmark
    from hylorada.landmarks import LandmarkLoRA
    from hylorada.positions import FixedBuckets

    landmark = model.landmark
    if not isinstance(landmark, LandmarkLoRA):
        raise HyLoRADAError("the model has no landmarks with buckets; use another landmark_design.")
    if isinstance(landmark, LearnableBucketLandmark):
        landmark.max_positions = buckets.learned_positions
        return
    fixed = FixedBuckets(len(landmark.position_gates), buckets.positions, buckets.spacing)
    landmark.bucket = fixed.to(landmark.position_gates.device)


def hooked_in_alone(model: "HyLoRADAModel") -> None:
    """Take the landmarks out of training, and their dropout out of the reach of `eval()`: it stays on.

    So the module acts on every pass and keeps its random start. Its tensors leave `adapter_tensors()` and with it a
    saved adapter; after training, `model.landmark.requires_grad_(True)` puts them back in. A resumed training finds
    them as they were, from the seed of the model.

    Raises:
        HyLoRADAError: the model has no landmarks at the final norm, or this was done before.
    """
    from torch import nn
    from torch.nn import functional as F

    if not isinstance(dropout := getattr(model.landmark, "dropout", None), nn.Dropout):
        raise HyLoRADAError("the model has no landmarks whose dropout could be kept on, or it is kept on already.")
    model.landmark.requires_grad_(False)
    del model.landmark.dropout
    model.landmark.dropout = partial(F.dropout, p=dropout.p)  # no module, so no mode reaches it


def in_base_dtype(model: "HyLoRADAModel") -> None:
    """Keep the trained tensors in the base model's type, without float32 masters; nothing changes on a float32 base."""
    dtype = model.base_model.get_input_embeddings().weight.dtype
    for parameter in model.trainable_parameters():
        parameter.data = parameter.data.to(dtype)


def pooling_over_padding(model: "HyLoRADAModel") -> None:
    """Let landmarks that pool take padding for text while the model trains; texts scored side by side stay apart."""
    import torch

    by_mask = model.running.real

    def real(seen: torch.Tensor) -> torch.Tensor:
        return torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device) if model.training else by_mask(seen)

    model.running.real = real


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Fix the random numbers of an evaluation whose dropout is on, for the length of a `with` block."""
    import torch

    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


def published_perplexity(nll: TokenNLL, min_tokens: int = 10) -> float:
    """Return the mean over lines of exp(mean NLL), each line cut at the window of the scoring and short ones skipped.

    The published code multiplied in the type of the model; here as everywhere the logits are float32.
    """
    return nll.first_windows().arithmetic_perplexity(min_tokens)


def _first(lines: list[str], count: int, what: str) -> list[str]:
    if len(lines) < count:
        raise HyLoRADAError(f"the text has {len(lines)} {what} and {count} are asked for; ask for fewer, or give more.")
    return lines[:count]
