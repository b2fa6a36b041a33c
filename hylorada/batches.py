"""Micro-batches of an epoch, in an order that (seed, epoch) decide: from a data set, or as a DataLoader gives them.

What a collate function or sampler draws at random hangs on (seed, epoch, batch) alone, so that a run that was stopped
sees the same batches again. Of several processes each takes every n-th batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED, real_targets
from hylorada.packing import keep_apart
from hylorada.rows import NAMES, Limits, digest_of, read_row, whole_numbers

Collate = Callable[[list[dict[str, Any]]], dict[str, Tensor]]
OF_DATA = 7  # keeps these seeds apart from those of the dropout


class DatasetBatches:
    """Batches of a data set's items, shuffled by (seed, epoch), or in their order without a seed."""

    def __init__(
        self,
        dataset: Sequence,
        digest: str,
        limits: Limits,
        batch_size: int,
        collate: Collate,
        seed: int | None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.dataset, self.digest, self.limits = dataset, digest, limits
        self.batch_size, self.collate = batch_size, collate
        self.seed, self.process, self.processes = seed, process, processes

    def __len__(self) -> int:
        return -(-len(self.dataset) // (self.batch_size * self.processes))

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield this process's batches of an epoch, from the one numbered `first` on."""
        order = list(range(len(self.dataset)))
        if self.seed is not None:
            order = torch.randperm(len(order), generator=_generator(self.seed, epoch)).tolist()
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        mine = batches[self.process :: self.processes][first:]
        loader = DataLoader(self.dataset, batch_sampler=mine, collate_fn=self.collate)
        for index, batch in drawn(loader, first, self.seed or 0, epoch):
            if self.collate is not pad_right:  # its padding may lie beyond the vocabulary
                check_batch(batch, f"batch {index + 1} of this collate function")
                self.limits.check(batch, f"batch {index + 1} of this collate function")
            yield batch

    def generator_states(self, within_epoch: bool) -> list[Tensor]:
        """Return none: the order hangs on seed and epoch alone."""
        return []

    def go_on_from(self, states: list[Tensor]) -> None:
        """Do nothing, for the same reason."""


class LoaderBatches:
    """Batches as a DataLoader gives them, or any iterable that knows how many it has.

    name: what it is called in an error. Generators that the loader draws its order from go on from epoch to epoch.

    Raises:
        HyLoRADAError: it does not know its length, or has no batch.
    """

    def __init__(self, name: str, loader: Any, limits: Limits, seed: int, process: int = 0, processes: int = 1) -> None:
        self.name, self.loader, self.limits = name, loader, limits
        self.seed, self.process, self.processes = seed, process, processes
        self.began: list[Tensor] = []  # states of the generators when the epoch began
        try:
            batches = len(loader)
        except TypeError:
            raise HyLoRADAError(
                f"{name} is a {type(loader).__name__} that does not know how many batches it has, which the learning "
                "rate's schedule needs; take as many items as you want into a list, and make a DataLoader of that."
            ) from None
        if batches == 0:
            raise HyLoRADAError(f"{name} is empty; give at least one batch.")

    def __len__(self) -> int:
        return -(-len(self.loader) // self.processes)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield this process's batches of an epoch, from the one numbered `first` on."""
        sources = (getattr(self.loader, name, None) for name in ("sampler", "batch_sampler", "dataset"))
        for source in sources:
            if hasattr(source, "set_epoch"):
                source.set_epoch(epoch)
        self.began = [generator.get_state() for generator in self._generators()]
        for index, batch in drawn(self.loader, 0, self.seed, epoch):
            own, process = divmod(index, self.processes)
            if process == self.process and own >= first:
                yield self._read(batch, f"batch {index + 1} of {self.name}")

    def generator_states(self, within_epoch: bool) -> list[Tensor]:
        """Return the states from which the running epoch, or else the next one, draws its order."""
        return self.began if within_epoch else [generator.get_state() for generator in self._generators()]

    def go_on_from(self, states: list[Tensor]) -> None:
        """Let the epoch that comes draw from generators in these states."""
        for generator, state in zip(self._generators(), states, strict=True):
            generator.set_state(state)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the data that the batches are made of."""
        data = getattr(self.loader, "dataset", self.loader)
        is_map = hasattr(data, "__len__") and hasattr(data, "__getitem__")
        return digest_of((data[index] for index in range(len(data))) if is_map else data)

    def _generators(self) -> list[torch.Generator]:
        """Return the generators that the loader's order comes from, each once."""
        holders = [self.loader, getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)]
        holders.append(getattr(holders[-1], "sampler", None))
        found = (getattr(holder, "generator", None) for holder in holders)
        return list({id(generator): generator for generator in found if generator is not None}.values())

    def _read(self, batch: Any, where: str) -> dict[str, Tensor]:
        """Return a batch as the arguments of `causal_lm_loss`, labels always among them."""
        check_batch(batch, where)
        read = {name: batch[name] for name in NAMES if batch.get(name) is not None}
        read = {name: whole_numbers(values, f"{name} of {where}") for name, values in read.items()}
        ids = read["input_ids"]
        if ids.ndim != 2 or 0 in ids.shape:
            raise HyLoRADAError(f"input_ids of {where} have shape {tuple(ids.shape)}; give (batch, tokens).")
        if "position_ids" in read:
            read["position_ids"] = read["position_ids"].expand_as(ids)
        self.limits.check(read, where)
        mask, labels = read.setdefault("attention_mask", torch.ones_like(ids)), read.get("labels", ids)
        if mask.shape != ids.shape or labels.shape != ids.shape:
            raise HyLoRADAError(
                f"{where} has input_ids of {tuple(ids.shape)}, an attention_mask of {tuple(mask.shape)} and labels of "
                f"{tuple(labels.shape)}; give all of one shape (batch, tokens)."
            )
        return keep_apart(read | {"labels": real_targets(labels, mask)})


def pad_right(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Make one batch of sequences of any length; padding has attention 0 and is neither target nor context of one.

    An item without a token becomes a row of padding. Texts packed in a row are kept apart (`hylorada.packing`).
    """
    rows = [read_row(item) for item in items]
    longest = max(1, *(len(row["input_ids"]) for row in rows))
    has_places = any("position_ids" in row for row in rows)
    batch: dict[str, list[Tensor]] = {name: [] for name in NAMES if has_places or name != "position_ids"}
    for row in rows:
        ids = row["input_ids"]
        mask = row.get("attention_mask", torch.ones_like(ids))
        labels = real_targets(row.get("labels", ids)[None], mask[None])[0]
        places = row.get("position_ids", torch.arange(len(ids), device=ids.device))
        full = {"input_ids": ids, "attention_mask": mask, "labels": labels, "position_ids": places}
        for name, values in batch.items():
            filler = IGNORED if name == "labels" else 0
            values.append(nn.functional.pad(full[name], (0, longest - len(ids)), value=filler))
    return keep_apart({name: torch.stack(values) for name, values in batch.items()})


def check_batch(batch: Any, where: str) -> None:
    """Raise HyLoRADAError unless a batch holds ids by name."""
    if not isinstance(batch, Mapping) or batch.get("input_ids") is None:
        held = f"holds {sorted(map(str, batch))}" if isinstance(batch, Mapping) else f"is a {type(batch).__name__}"
        raise HyLoRADAError(f"{where} {held}; a batch needs 'input_ids' by name, of shape (batch, tokens).")


def drawn(batches: Iterable, first: int, *seeds: int) -> Iterator[tuple[int, Any]]:
    """Yield what an iterable gives, numbered from `first`; whatever it draws hangs on seeds and number alone."""
    torch.manual_seed(mixed(*seeds, OF_DATA))
    source = iter(batches)
    for index in count(first):
        torch.manual_seed(mixed(*seeds, index, OF_DATA))
        try:
            batch = next(source)
        except StopIteration:
            return
        yield index, batch


def mixed(*numbers: int) -> int:
    """Mix small counters into one seed below 2^32, so that (1, 0) and (0, 1) do not meet."""
    mix = 0
    for number in numbers:
        mix = (mix * 1_000_003 + number + 0x9E3779B9) % 2**32
    return mix


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(mixed(*numbers))
