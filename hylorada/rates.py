"""Learning rates of a training: the highest one of each part, and the share of it at each step."""

import math
from typing import Any

from torch import nn

from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.training_config import TrainingConfig


def parameter_groups(model: HyLoRADAModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return the trained parameters in groups with their own learning rates, by the part that they belong to."""
    rate_of_part = {
        "position_bias": config.position_bias_lr,
        "landmark": config.landmark_lr,
        "embeddings": config.embedding_lr,
    } | ({} if config.magnitude_lr is None else {"magnitude": config.magnitude_lr})
    rates = {p: rate_of_part[part] for p, part in owners(model).items() if part in rate_of_part}
    groups: dict[float, list[nn.Parameter]] = {config.learning_rate: []}
    for parameter in dict.fromkeys([*rates, *model.parameters()]):  # last, what has no rate of its own
        if parameter.requires_grad:
            groups.setdefault(rates.get(parameter, config.learning_rate), []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items() if parameters]


def share_of_rate(schedule: str, warmup_ratio: float, step: int, total_steps: int) -> float:
    """Return the share of the learning rate at a step, counted from 0.

    schedule: "cosine" and "constant" warm up from above zero, so that the first step learns too, "linear_from_zero"
    from zero. warmup_ratio: the share of all steps with a rising rate.
    """
    if schedule == "linear_from_zero":
        warmup = math.floor(warmup_ratio * total_steps)
        return step / warmup if step < warmup else (total_steps - step) / (total_steps - warmup)
    warmup = math.ceil(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
