"""Memory: what an adapter takes of it, held to what there is before any is given (`check_room`).

An adapter's settings may be within their limits and its tensors larger than the machine, which then ends the process
without a word. Counted is what grows with a setting, in float32, as it is made; training takes about four times that.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from hylorada.config import POOLED_DESIGNS, HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.layer_choice import by_pattern
from hylorada.lora import weight_rows

NUMBER = 4  # bytes of a trained number
PLACE = 32  # bytes of a position while the table of its bucket is made (`hylorada.positions.FixedBuckets`)
MEMINFO, OWN_GROUPS, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def check_room(base: PreTrainedModel, config: HyLoRADAConfig, layers: dict[str, nn.Module], positions: int) -> None:
    """Hold what an adapter takes to the memory that is free where the base lies; where that cannot be told, go on.

    layers: those to adapt, by name. positions: tokens over which buckets spread.

    Raises:
        HyLoRADAError: it takes more.
    """
    needs = bytes_by_setting(base, config, layers, positions)
    needed, free = sum(needs.values()), free_bytes(base.device)
    if free is not None and needed > free:
        setting = max(needs, key=needs.__getitem__)
        raise HyLoRADAError(
            f"the adapter takes {needed / 2**30:,.1f} GiB, {needs[setting] / 2**30:,.1f} of it by {setting}, and "
            f"{free / 2**30:,.1f} GiB are free on {base.device}; lower {setting}."
        )


def bytes_by_setting(
    base: PreTrainedModel, config: HyLoRADAConfig, layers: dict[str, nn.Module], positions: int
) -> dict[str, int]:
    """Return the bytes that grow with each setting, but for those of layers that cannot be told or adapted."""
    sizes = base.config.get_text_config()
    needs = {"lora_rank": NUMBER * _low_rank_numbers(layers, config) if config.lora_enabled else 0}
    if config.sparse_enabled:
        numbers = 2 * sizes.hidden_size * config.sparse_bottleneck
        needs["sparse_bottleneck"] = NUMBER * sizes.num_hidden_layers * numbers
    spread = config.position_bias_enabled
    if config.landmark_enabled and config.landmark_design != "constant":
        blocks = sizes.num_hidden_layers if config.landmark_design == "per_layer" else 1
        each = config.num_landmarks // (2 if config.landmark_design == "per_layer" else 1)
        needs["num_landmarks"] = NUMBER * blocks * 2 * each * sizes.hidden_size
        if config.landmark_design not in POOLED_DESIGNS:
            gates = config.num_landmarks * config.num_position_buckets
            needs["num_landmarks and num_position_buckets"] = NUMBER * gates * 2  # once more while they are made
            spread = spread or config.landmark_design == "position_adaptive"
    return needs | {"max_positions": PLACE * positions if spread else 0}


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that a device, or the groups of this process, can still give; None where it cannot be told."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    return min((*_free_of_machine(), *_free_of_groups()), default=None)


def _low_rank_numbers(layers: dict[str, nn.Module], config: HyLoRADAConfig) -> int:
    try:
        ranks = by_pattern(config.rank_pattern, "rank_pattern", layers)
        shapes = {name: weight_rows(layer).shape for name, layer in layers.items()}
    except HyLoRADAError:
        return 0  # told, with all else that stands in the way, where the layers are made
    numbers = sum(
        min(ranks.get(name, config.lora_rank), d_in) * (d_out + d_in) for name, (d_out, d_in) in shapes.items()
    )
    return 2 * numbers if config.init_lora_weights == "pissa" else numbers  # which keeps where it began


def _free_of_machine() -> Iterator[int]:
    """Yield what the system says is free, swap included, if it says so."""
    try:
        kib = {name: int(rest.split()[0]) for name, rest in _pairs(MEMINFO, ":")}
        yield 2**10 * (kib["MemAvailable"] + kib.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        return  # no Linux


def _free_of_groups() -> Iterator[int]:
    """Yield what each control group around this process leaves of its limit; what it holds of files can be had back."""
    try:
        groups = [line.split(":", 2)[1:] for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for kinds, place in groups:
        if kinds not in ("", "memory"):  # version 2 has one kind alone; version 1 one of memory
            continue
        top = GROUPS / kinds
        folder = top / place.strip("/")
        for each in (folder, *folder.parents[: len(folder.parts) - len(top.parts)]):
            names = (
                ("memory.max", "memory.current") if not kinds else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            )
            try:
                limit, used = (int((each / name).read_text(encoding="ascii")) for name in names)
                held = {name.removeprefix("total_"): int(count) for name, count in _pairs(each / "memory.stat", " ")}
            except (OSError, ValueError):  # no such group here, or "max"
                continue
            yield limit - used + held.get("file", held.get("cache", 0)) - held.get("shmem", 0)


def _pairs(path: Path, sign: str) -> list[tuple[str, str]]:
    return [tuple(line.split(sign, 1)) for line in path.read_text(encoding="ascii").splitlines()]
