"""What a training takes its batches from: a data set or a loader of them, held to the model before the first step."""

import logging
from typing import Any

from accelerate import Accelerator

from hylorada.batches import Collate, DatasetBatches, LoaderBatches, pad_right
from hylorada.errors import HyLoRADAError
from hylorada.model import HyLoRADAModel
from hylorada.packing import check_keeps_apart
from hylorada.rows import Limits, survey
from hylorada.training_config import TrainingConfig

LOG = logging.getLogger(__name__)
Batches = DatasetBatches | LoaderBatches


def batches_of(
    model: HyLoRADAModel,
    config: TrainingConfig,
    collate: Collate,
    accelerator: Accelerator,
    use: str,
    dataset: Any,
    loader: Any,
) -> Batches | None:
    """Return the batches of a data set or a loader, None where neither is given; use: "train" or "eval".

    Raises:
        HyLoRADAError: both are given, or what is given does not fit the model or the processes.
    """
    limits, share = Limits.of(model.base_model), (accelerator.process_index, accelerator.num_processes)
    if dataset is not None and loader is not None:
        raise HyLoRADAError(f"{use}_dataset and {use}_dataloader are both given; give one of them.")
    if loader is not None:
        batches = LoaderBatches(f"{use}_dataloader", loader, limits, config.seed, *share)
        if use == "train":
            _check_divides(len(loader), "batches", share[1], 1)
            _tell_of_batch_size(config, loader)
        return batches
    if dataset is None:
        return None
    found = survey(f"{use}_dataset", dataset, limits)
    if found.is_packed:
        check_keeps_apart(model)
        if collate is not pad_right:
            raise HyLoRADAError(
                f"texts are packed in rows of {use}_dataset, and a collate of your own may let them see each other; "
                f"leave collate out, or give the batches it makes as {use}_dataloader."
            )
    if use == "eval":
        return DatasetBatches(dataset, found.digest, limits, config.batch_size, collate, None, *share)
    _check_groups(model, found.longest)
    _check_divides(len(dataset), "sequences", share[1], config.batch_size)
    return DatasetBatches(dataset, found.digest, limits, config.batch_size, collate, config.seed, *share)


def _check_groups(model: HyLoRADAModel, longest: int) -> None:
    adapter = model.hylorada_config
    if adapter.s2_attn_enabled and longest <= adapter.s2_group_size:
        raise HyLoRADAError(
            f"no sequence is longer than s2_group_size={adapter.s2_group_size}, so S²-Attn would never act; "
            "use smaller groups or longer sequences, or set s2_attn_enabled=False."
        )


def _check_divides(count: int, what: str, processes: int, each: int) -> None:
    if processes > 1 and count % (processes * each):
        raise HyLoRADAError(
            f"{count} {what} do not divide among {processes} processes of batch_size={each}, and some would count "
            f"twice or be left out; give a multiple of {processes * each}."
        )


def _tell_of_batch_size(config: TrainingConfig, loader: Any) -> None:
    given = getattr(loader, "batch_size", None)
    if given is not None and given != config.batch_size:
        LOG.warning("train_dataloader gives batches of %d; batch_size=%d is not used.", given, config.batch_size)
