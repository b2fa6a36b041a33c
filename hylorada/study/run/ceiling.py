r"""How far training could take a part at most: a bound to first order, known before the first step.

AdamW moves a number by about its learning rate a step and no farther, so over a training by at most the sum of its
rates. With L the mean NLL (nats a token) of the beginnings of the test articles, at the start of training,

    ceiling(part) = sum over its numbers of |dL/dtheta| · sum over steps of their rate

is the most that the part could take off L if every number went its whole way in its best direction. A part whose
ceiling is below what is of interest cannot be told from one that does nothing, whatever its runs say.
"""

from collections.abc import Sequence

import numpy as np
import torch

from hylorada.loss import causal_lm_nll
from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.rates import parameter_groups, share_of_rate
from hylorada.scoring import evaluating
from hylorada.training_config import TrainingConfig

LOW_RANK = "lora"  # A and B, which every row has


def ceilings(
    model: HyLoRADAModel, config: TrainingConfig, total_steps: int, texts: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return the ceiling of each part but A and B, in nats a token; the model is left as it came, without gradients.

    texts: (tokens,) ids of each text, of two tokens or more.
    """
    reach = sum(
        share_of_rate(config.lr_schedule, config.warmup_ratio, step, total_steps) for step in range(total_steps)
    )
    targets = sum(len(ids) - 1 for ids in texts)
    with evaluating(model):
        for ids in texts:
            row = torch.from_numpy(np.asarray(ids, np.int64))[None].to(model.device)
            (causal_lm_nll(model, row).sum() / targets).backward()
    part_of, found = owners(model), {}
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            part = part_of.get(parameter, LOW_RANK)
            if part != LOW_RANK and parameter.grad is not None:
                found[part] = found.get(part, 0.0) + group["lr"] * reach * parameter.grad.abs().sum().item()
    for parameter in model.parameters():
        parameter.grad = None
    return found
