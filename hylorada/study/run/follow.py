"""Following a protocol: its lines, its training rows, and what it does to the parts of a freshly built model.

The published loss, over B rows of T ids cut or filled up to T with the end token e:

    L = 1/(B(T-1)) · sum of -log p(x_t | x_<t) over rows and t = 1 ... T-1,   x_t = e where the row has ended

Padding counts as a target like any token. The mask was given, so no token attends to padding (in a blank row, all of
it padding, what remains is the attention library's answer to an empty mask), and places count on: 0 ... T-1.
`published_batches` states all of it, labels and places included, so that nothing is left for the trainer to derive:
its batches are those of `torch.utils.data.default_collate`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hylorada.errors import HyLoRADAError
from hylorada.landmark_redesigns import LearnableBucketLandmark, PerLayerLandmark, PooledLandmark
from hylorada.landmarks import PositionGatedLandmark
from hylorada.lora import HyLoRADAUnified
from hylorada.loss import IGNORED
from hylorada.model import HyLoRADAModel
from hylorada.nll import TokenNLL
from hylorada.position_bias import unchanged
from hylorada.positions import FixedBuckets
from hylorada.study.plan.protocol import Buckets, Protocol


def published_batches(protocol: Protocol, rows: Sequence[Sequence[int]], end: int) -> list[dict[str, np.ndarray]]:
    """Return a padded protocol's training rows: input_ids, attention_mask, labels, position_ids, (block_tokens,) each.

    rows: ids of each line, none for a blank one. All of them stay, so that a protocol that masks the padding takes the
    same rows in the same steps as one that does not; the blank ones then hold no target.

    Raises:
        HyLoRADAError: the protocol packs its text, or nothing in the rows is a target.
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
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels, "position_ids": np.arange(length)})
    step = protocol.batch_size * protocol.gradient_accumulation_steps
    kept = len(batches) // step * step if protocol.whole_steps else len(batches)
    if not any((batch["labels"][1:] != IGNORED).any() for batch in batches[:kept]):
        raise HyLoRADAError(f"{len(rows)} rows leave nothing to train on under {protocol.label!r}; give more of them.")
    return batches[:kept]


def padding_share(batches: Sequence[dict[str, np.ndarray]]) -> float:
    """Return the share of padding among all targets of `published_batches`, 0 to 1."""
    targets = np.stack([batch["labels"][1:] != IGNORED for batch in batches])
    padding = np.stack([batch["attention_mask"][1:] == 0 for batch in batches])
    return float((targets & padding).sum() / targets.sum())


def follow(protocol: Protocol, model: HyLoRADAModel) -> None:
    """Change a freshly built or loaded model to what the protocol says of its parts; parts that it lacks are passed by.

    A saved adapter does not tell of these changes: whoever loads one makes them again.
    """
    if protocol.adapter_dtype == "base":
        in_base_dtype(model)
    if not protocol.positions_reach_bias and model.position_bias is not None:
        without_positions(model)
    if protocol.landmark_buckets is not None and isinstance(model.landmark, PositionGatedLandmark):
        with_buckets(model, protocol.landmark_buckets)
    if not protocol.bucket_module_registered and isinstance(model.landmark, LearnableBucketLandmark):
        hooked_in_alone(model)
    if protocol.pools_over_padding and isinstance(model.landmark, PooledLandmark | PerLayerLandmark):
        pooling_over_padding(model)


def without_positions(model: HyLoRADAModel) -> None:
    """Take the position bias out of every layer: with no positions, the published layers applied none.

    Its table stays among the trained tensors, gets no gradient and so keeps its zeros.

    Raises:
        HyLoRADAError: no layer has a position bias.
    """
    layers = [module for module in model.modules() if isinstance(module, HyLoRADAUnified) and module.at_position]
    if not layers:
        raise HyLoRADAError("no adapted layer has a position bias to take out; set position_bias_enabled=True.")
    for layer in layers:
        layer.at_position = None
        layer.place_output = layer.place_update = unchanged


def with_buckets(model: HyLoRADAModel, buckets: Buckets) -> None:
    """Spread positions over the buckets of the landmarks as given; a position bias keeps its own.

    Raises:
        HyLoRADAError: the landmarks of the model have no buckets.
    """
    landmark = model.landmark
    if not isinstance(landmark, PositionGatedLandmark):
        raise HyLoRADAError("the model has no landmarks with buckets; use another landmark_design.")
    if isinstance(landmark, LearnableBucketLandmark):
        landmark.max_positions = buckets.learned_positions
        return
    fixed = FixedBuckets(len(landmark.position_gates), buckets.positions, buckets.spacing)
    landmark.bucket = fixed.to(landmark.position_gates.device)


def hooked_in_alone(model: HyLoRADAModel) -> None:
    """Take the landmarks out of training, and their dropout out of the reach of `eval()`: it stays on.

    So the module acts on every pass and keeps its random start, which is saved with the adapter.

    Raises:
        HyLoRADAError: the model has no landmarks at the final norm, or this was done before.
    """
    if not isinstance(dropout := getattr(model.landmark, "dropout", None), nn.Dropout):
        raise HyLoRADAError("the model has no landmarks whose dropout could be kept on, or it is kept on already.")
    model.landmark.requires_grad_(False)
    del model.landmark.dropout
    model.landmark.dropout = partial(F.dropout, p=dropout.p)  # no module, so no mode reaches it


def in_base_dtype(model: HyLoRADAModel) -> None:
    """Keep the trained tensors in the base model's type, without float32 masters; nothing changes on a float32 base."""
    dtype = model.base_model.get_input_embeddings().weight.dtype
    for parameter in model.trainable_parameters():
        parameter.data = parameter.data.to(dtype)


def pooling_over_padding(model: HyLoRADAModel) -> None:
    """Let landmarks that pool take padding for text while the model trains; texts scored side by side stay apart."""
    running = model.wiring.running
    by_mask = running.real

    def real(seen: torch.Tensor) -> torch.Tensor:
        return torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device) if model.training else by_mask(seen)

    running.real = real


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Fix the random numbers of an evaluation whose dropout is on, for the length of a `with` block."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


def published_perplexity(nll: TokenNLL, min_tokens: int = 10) -> float:
    """Return the mean over lines of exp(mean NLL), each line cut at the window of the scoring and short ones skipped.

    The published code multiplied in the type of the model; here as everywhere the logits are float32.
    """
    return nll.first_windows().arithmetic_perplexity(min_tokens)
