"""The published protocols at the size of the test models: rows as they come, an adapted stage, and its training."""

from dataclasses import replace

import numpy as np
import torch
from bases import VOCABULARY
from torch import nn
from torch.utils.data import default_collate

from hylorada import HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.protocol import adapter_config, training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.run.follow import follow, published_batches

LENGTH, END = 24, 0
SMALL = {"block_tokens": LENGTH, "evaluation_tokens": LENGTH}  # tiny models have 64 positions
AS_PUBLISHED = replace(PROTOCOLS["as_published"], **SMALL)
PASSED = replace(PROTOCOLS["positions_passed"], **SMALL)
TRAINED = replace(PROTOCOLS["bucket_module_trained"], **SMALL)


def rows(count: int = 16) -> list[list[int]]:
    """Ids of lines as they come: blank, of one token, short, and longer than a block; the end token inside some."""
    draw = np.random.default_rng(5)
    lengths = [0, 3, 9, 1, 30, 0, 14, LENGTH] * (count // 8 + 1)
    return [draw.integers(END, VOCABULARY, length).tolist() for length in lengths[:count]]


def stage(name: str, base: nn.Module, protocol, seed: int = 5, **changes) -> HyLoRADAModel:
    torch.manual_seed(seed)
    model = HyLoRADAModel(
        base, adapter_config(protocol, replace(STAGES[name].adapter, max_positions=LENGTH, **changes))
    )
    follow(protocol, model)
    return model


def train(model: HyLoRADAModel, protocol, count: int = 16, collate=default_collate, **settings) -> list[dict]:
    config = TrainingConfig(**training_config(protocol, {"seed": 3} | settings))
    batches = published_batches(protocol, rows(count), END)
    return HyLoRADATrainer(model, config, batches, progress=False, collate=collate).train().history


def logits(model: HyLoRADAModel) -> torch.Tensor:
    ids = torch.tensor([row for row in rows() if len(row) == LENGTH])
    with torch.no_grad():
        return model(ids).logits


def trained(model: HyLoRADAModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.adapter_tensors().items()}
