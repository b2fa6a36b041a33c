"""What data for training may hold: one item a sequence, read, held to the model's limits, and told apart by a digest.

An item is a mapping with `input_ids`, and `attention_mask`, `labels` and `position_ids` where wanted; what is None is
as good as absent. Each is one sequence of whole numbers, (seq,), or (1, seq) as `return_tensors` of a tokenizer gives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED
from hylorada.packing import begins_anew
from hylorada.rope import usable_context

NAMES = ("input_ids", "attention_mask", "labels", "position_ids")


@dataclass(frozen=True)
class Limits:
    """What a model can take: ids below `vocabulary`, positions below `context` (None: it states no limit)."""

    vocabulary: int
    context: int | None

    @classmethod
    def of(cls, base_model: PreTrainedModel) -> "Limits":
        """Return the limits of a base model."""
        return cls(base_model.get_input_embeddings().weight.shape[0], usable_context(base_model.config))

    def check(self, row: dict[str, Tensor], where: str) -> None:
        """Hold a row (seq,) or a batch (batch, seq) to the limits, its mask to 0 and 1 (else HyLoRADAError)."""
        labels = row.get("labels")
        targets = None if labels is None else labels[labels != IGNORED]
        for name, ids in (("input_ids", row["input_ids"]), ("labels", targets)):
            lowest, highest = (0, 0) if ids is None or not ids.numel() else (int(x) for x in ids.aminmax())
            if lowest < 0 or highest >= self.vocabulary:
                raise HyLoRADAError(
                    f"{name} of {where} go from {lowest} to {highest}, and the model's from 0 to "
                    f"{self.vocabulary - 1}; use the tokenizer that belongs to the model ({IGNORED} is no target)."
                )
        mask = row.get("attention_mask")
        if mask is not None and not ((mask == 0) | (mask == 1)).all():
            raise HyLoRADAError(
                f"the attention_mask of {where} holds other numbers than 0 (padding) and 1; where they number packed "
                "texts, give position_ids that begin anew with each text."
            )
        length = _positions_in(row)
        if self.context is not None and length > self.context:
            raise HyLoRADAError(
                f"{where} takes {length} positions, and this model has {self.context}; cut such rows, or scale the "
                "model's rotary positions."
            )


@dataclass(frozen=True)
class Survey:
    """What one look at all items found: tokens of the longest, whether texts lie packed in a row, and their digest."""

    longest: int
    is_packed: bool
    digest: str


def survey(name: str, dataset: Any, limits: Limits) -> Survey:
    """Look at every item once.

    Raises:
        HyLoRADAError: no data set of items, an item that is none, or one beyond the model's limits.
    """
    _check_dataset(name, dataset)
    longest, is_packed, seen = 0, False, sha256()
    for index in range(len(dataset)):
        item = _item(name, dataset, index)
        row = read_row(item, f"{name}[{index}]")
        limits.check(row, f"{name}[{index}]")
        longest = max(longest, len(row["input_ids"]))
        if "position_ids" in row:
            mask = row.get("attention_mask", torch.ones_like(row["input_ids"]))
            is_packed = is_packed or bool(begins_anew(row["position_ids"], mask).any())
        _add(seen, item | row if isinstance(item, dict) else row)
    return Survey(longest, is_packed, seen.hexdigest())


def read_row(item: Any, where: str = "an item") -> dict[str, Tensor]:
    """Return what an item holds of NAMES, each (seq,) int64 (HyLoRADAError naming `where` for what is no sequence)."""
    if not isinstance(item, Mapping) or item.get("input_ids") is None:
        held = f"holds {sorted(map(str, item))}" if isinstance(item, Mapping) else f"is a {type(item).__name__}"
        raise HyLoRADAError(f"{where} {held}; each needs 'input_ids' by name, such as {{'input_ids': [1, 2, 3]}}.")
    row = {}
    for name in NAMES:
        if item.get(name) is not None:
            values = whole_numbers(item[name], f"{name} of {where}")
            if values.ndim == 2 and len(values) == 1:
                values = values[0]
            if values.ndim != 1:
                raise HyLoRADAError(
                    f"{name} of {where} has shape {tuple(values.shape)}; an item is one sequence of shape (tokens,): "
                    "give each of them as an item."
                )
            row[name] = values
    for name, values in row.items():
        if len(values) != len(row["input_ids"]):
            raise HyLoRADAError(f"{where} has {len(row['input_ids'])} input_ids and {len(values)} {name}; one each.")
    return row


def whole_numbers(values: Any, where: str) -> Tensor:
    """Return values as an int64 tensor (HyLoRADAError naming `where` for anything but whole numbers)."""
    try:  # of a list, NumPy makes an array several times faster
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    except (TypeError, ValueError, RuntimeError):
        raise HyLoRADAError(f"{where} is {str(values)[:40]!r}, and no sequence of whole numbers.") from None
    if tensor.numel() and tensor.is_floating_point():
        raise HyLoRADAError(f"{where} holds fractions ({tensor.dtype}); give whole numbers.")
    return tensor.long()


def digest_of(items: Iterable[Any]) -> str:
    """Return the SHA-256 of items of any kind, in hexadecimal: what a saved state belongs to."""
    seen = sha256()
    for item in items:
        _add(seen, item)
    return seen.hexdigest()


def _add(seen: Any, value: Any) -> None:
    """Feed a value to a hash: arrays and lists of numbers by their bytes, all else by its parts or its text."""
    if isinstance(value, Mapping):
        for name in sorted(value):
            seen.update(f"{name}:".encode())
            _add(seen, value[name])
        return
    array = value.detach().cpu() if isinstance(value, Tensor) else value
    array = array.numpy() if isinstance(array, Tensor) and array.dtype != torch.bfloat16 else array
    if isinstance(array, list | tuple) and array and isinstance(array[0], int | float):
        array = np.asarray(array)
    if isinstance(array, np.ndarray) and array.dtype != object:
        seen.update(f"{array.dtype.str}{array.shape}".encode())
        seen.update(np.ascontiguousarray(array).data)
    elif isinstance(array, list | tuple):
        seen.update(f"{len(array)} of".encode())
        for part in array:
            _add(seen, part)
    else:
        seen.update(f"{array!r};".encode())


def _positions_in(row: dict[str, Tensor]) -> int:
    """Return how many positions a row or batch takes up: up to its highest one, or its real tokens."""
    if not row["input_ids"].numel():
        return 0
    if "position_ids" in row:
        return int(row["position_ids"].max()) + 1
    mask = row.get("attention_mask")
    return row["input_ids"].shape[-1] if mask is None or mask.ndim > 2 else int(mask.bool().sum(dim=-1).max())


def _item(name: str, dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except (KeyError, IndexError, TypeError) as error:  # a frame is asked for columns, another thing for slices
        raise HyLoRADAError(
            f"a {type(dataset).__name__} has no item {index} ({type(error).__name__}), so {name} is no sequence of "
            "items; give a list of them, or a Dataset."
        ) from error


def _check_dataset(name: str, dataset: Any) -> None:
    """Raise HyLoRADAError unless `dataset` has a length and items to be asked for by number."""
    wanted = "give a list of items, a Dataset, or a DataLoader as *_dataloader".replace("*", name.partition("_")[0])
    if isinstance(dataset, Mapping | str):
        raise HyLoRADAError(f"{name} is a {type(dataset).__name__}, and no sequence of items; {wanted}.")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise HyLoRADAError(
            f"{name} is a {type(dataset).__name__}, whose items can neither be counted nor asked for by number, which "
            f"an order of its own and exact resume need; take what you want of it into a list, or {wanted}."
        )
    if len(dataset) == 0:
        raise HyLoRADAError(f"{name} is empty; give at least one sequence.")
