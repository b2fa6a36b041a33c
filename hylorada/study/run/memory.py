"""Out of memory, told: what was asked of the device, and which settings need less of it."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.specification import Specification

SIGNS = ("not enough memory", "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")  # where the class says nothing


@contextmanager
def told_when_full(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error within a `with` block into one line that ends with `advice`.

    The memory that the failed work held is free afterwards, so that other work may follow in the same process.

    Raises:
        HyLoRADAError: the memory of the device, or of the machine, did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the work that failed
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        where = torch.cuda.get_device_name() if _is_of_gpu(error) else "this machine"
        raise HyLoRADAError(f"out of memory on {where}: {advice}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an error for want of memory from every other."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    )


def what_to_lower(specification: Specification, jobs: int = 1) -> str:
    """Name the settings that a run's memory hangs on, with their values; jobs: how many runs go on at once."""
    training, adapter = specification.training, specification.adapter
    smaller = [f"--jobs (now {jobs})"] if jobs > 1 else []
    if training is not None:
        passes = training.gradient_accumulation_steps
        smaller.append(
            f"batch_size (now {training.batch_size}; as many times more gradient_accumulation_steps, now {passes}, "
            "keep the step)"
        )
    smaller += [f"evaluation_batch (now {specification.evaluation.batch_size})"]
    smaller += [f"block_tokens (now {specification.block_tokens})"]
    saves = adapter is not None and not adapter.gradient_checkpointing
    return (
        f"lower {', '.join(smaller)}{', or set gradient_checkpointing: true' if saves else ''}; the last checkpoint is "
        "kept, and a run of the same settings goes on from it."
    )


def _is_of_gpu(error: BaseException) -> bool:
    return torch.cuda.is_available() and "CPUAllocator" not in str(error) and not isinstance(error, MemoryError)
