"""Which layers an adapter takes, and the rank and alpha of each, where a configuration tells layers apart as PEFT does.

lora_target_modules            names and dotted ends, one pattern over full names, or what `hylorada.targets` chooses
exclude_modules                of these, names and dotted ends or one pattern that are left out
layers_to_transform            the numbers of the blocks, counted from 0, to which these are limited
rank_pattern, alpha_pattern    the number of each layer whose full name, or a dotted end of it, a pattern matches
"""

import re
from collections.abc import Iterable, Mapping

from torch import nn
from transformers import PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError
from hylorada.lora import weight_rows
from hylorada.targets import ALL_LINEAR, find_layers, is_linear

BLOCK_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")  # the first number in a name; experts have numbers too, further in


def chosen_layers(base_model: PreTrainedModel, config: HyLoRADAConfig) -> dict[str, nn.Module]:
    """Return the layers to adapt by full name, in the model's order.

    Raises:
        HyLoRADAError: as `find_layers`, a pattern matches nothing, nothing is left, or an exclusion or number of a
            block meets no layer.
    """
    targets = config.lora_target_modules
    if isinstance(targets, str) and targets != ALL_LINEAR:
        targets = _matching(base_model, targets)
    layers = find_layers(base_model, targets)
    excluded = {name for name in layers if is_meant(name, config.exclude_modules or ())}
    if config.exclude_modules and not excluded:
        raise HyLoRADAError(f"exclude_modules={_shown(config.exclude_modules)} excludes none of {_some(layers)}.")
    blocks = config.layers_to_transform
    numbers = {name: block_number(name) for name in layers}
    if absent := sorted(set(blocks or ()) - set(numbers.values())):
        there = sorted(number for number in set(numbers.values()) if number is not None)
        raise HyLoRADAError(
            f"layers_to_transform: no layer to adapt is in block {absent[0]}; the blocks are "
            f"{f'{there[0]} to {there[-1]}' if there else 'not numbered'}."
        )
    kept = [name for name in layers if name not in excluded and (blocks is None or numbers[name] in blocks)]
    if not kept:
        raise HyLoRADAError("exclude_modules leaves no layer to adapt; exclude fewer, or set lora_enabled=False.")
    return {name: layers[name] for name in kept}


def by_pattern(pattern: Mapping[str, float] | None, setting: str, names: Iterable[str]) -> dict[str, float]:
    """Return the number of each layer that a pattern speaks of, by full name.

    Raises:
        HyLoRADAError: a key matches no layer, or two with different numbers match one.
    """
    numbers: dict[str, float] = {}
    names = list(names)
    for key, number in (pattern or {}).items():
        matched = [name for name in names if matches(key, name)]
        if not matched:
            raise HyLoRADAError(f"{setting}: {key!r} matches no adapted layer; there are {_some(names)}.")
        for name in matched:
            if numbers.setdefault(name, number) != number:
                raise HyLoRADAError(f"{setting}: {name} has {numbers[name]} by one key and {number} by {key!r}.")
    return numbers


def matches(key: str, name: str) -> bool:
    """Tell whether a pattern fits a full name, or its dotted end, as a whole."""
    return re.fullmatch(rf"(.*\.)?({key})", name) is not None


def is_meant(name: str, targets: str | Iterable[str]) -> bool:
    """Tell whether a full name is meant by one pattern over whole names, or by a list of names and dotted ends."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in targets)


def block_number(name: str) -> int | None:
    """Return the number of the block that a layer lies in, by its full name."""
    found = BLOCK_NUMBER.search(name)
    return int(found[1]) if found else None


def _matching(base_model: PreTrainedModel, pattern: str) -> tuple[str, ...]:
    """Return the full names of the layers that a pattern matches; containers that it matches too are no layers."""
    own = {*decoder_of(base_model).modules(), base_model.get_output_embeddings()}
    named = {name: module for name, module in base_model.named_modules() if module in own}
    linear = [name for name, module in named.items() if is_linear(module)]
    found = [name for name in named if is_meant(name, pattern)]
    if not found:
        raise HyLoRADAError(
            f"lora_target_modules={pattern!r} is a pattern over whole names and matches none, such as {_some(linear)}; "
            f"for names or their ends give a list, such as [{linear[0].rsplit('.', 1)[-1]!r}]."
        )
    for name in found:
        if not any(named[name].children()):
            weight_rows(named[name])  # raises for a layer that cannot be adapted
    if not (layers := tuple(name for name in found if name in linear)):
        raise HyLoRADAError(f"lora_target_modules={pattern!r} matches no layer, only {_some(found)}.")
    return layers


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shown(targets: str | tuple[str, ...]) -> str:
    return repr(targets if isinstance(targets, str) else list(targets))
