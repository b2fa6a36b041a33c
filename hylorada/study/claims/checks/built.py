"""Numbers counted on models and layers that are built for it: in the shape of GPT-2 124M, or one layer of any width.

Nothing is computed with the weights, so a model lies on torch's `meta` device: its tensors have shapes and no memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.daa import DirectAttention
from hylorada.landmark_redesigns import LearnableBucketLandmark, PerLayerLandmark, PooledLandmark
from hylorada.landmarks import LandmarkLoRA
from hylorada.lora import HyLoRADAUnified
from hylorada.model import HyLoRADAModel
from hylorada.position_bias import PositionBias
from hylorada.sparse_mlp import SparseMLP

WIDTH, LAYERS, LANDMARKS, BUCKETS = 768, 12, 8, 32  # GPT-2 124M; the published landmarks
STUDY_LANDMARKS = 4  # of the landmark study
BLOCK_WIDTH, RANK, HEADS = 4096, 8, 32  # of the documents' single layers; heads of 128
MODULES = ("c_attn", "c_proj")  # c_proj is in the attention and in the feed-forward layer
BLOCKS = ("attn.c_proj", "c_attn"), ("c_fc", "mlp.c_proj")


def gpt2() -> PreTrainedModel:
    """Return GPT-2 124M without weights."""
    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config())


def small_llama() -> PreTrainedModel:
    """Return a Llama of two layers without weights."""
    with torch.device("meta"):
        sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=8)
        return LlamaForCausalLM(LlamaConfig(**sizes))


@cache
def adapted_counts(config: HyLoRADAConfig, modules: tuple[str, ...] = MODULES) -> dict[str, int]:
    """Return `count_params` of GPT-2 124M adapted so."""
    return HyLoRADAModel(gpt2(), replace(config, lora_target_modules=modules)).count_params()


@cache
def base_parameters() -> int:
    """Return the parameters of GPT-2 124M."""
    return trained(gpt2())


def added_by(base: PreTrainedModel, config: HyLoRADAConfig, **part: Any) -> int:
    """Return how many more numbers train when a part is switched on; the base is taken as it is."""
    without = HyLoRADAModel(type(base)(base.config), config).count_params()["trainable"]
    return HyLoRADAModel(type(base)(base.config), replace(config, **part)).count_params()["trainable"] - without


def wide_layer(d_in: int, d_out: int, **settings: Any) -> HyLoRADAUnified:
    """Return one adapted linear layer at the documents' rank."""
    layer = nn.Linear(d_in, d_out, bias=False, device="meta").requires_grad_(False)
    return HyLoRADAUnified(layer, rank=RANK, **settings)


def trained(*modules: nn.Module, name: str = "") -> int:
    """Return the numbers that train, of all parameters or of those whose last name is given."""
    named = (pair for module in modules for pair in module.named_parameters())
    return sum(p.numel() for full, p in named if p.requires_grad and full.split(".")[-1].startswith(name))


def attention_layers(count: int = 4, **settings: Any) -> list[HyLoRADAUnified]:
    """Return adapted projections of one attention layer: queries, keys, values and output, or the first of them."""
    return [wide_layer(BLOCK_WIDTH, BLOCK_WIDTH, **settings) for _ in range(count)]


def feed_forward_layers(inner: int = 4 * BLOCK_WIDTH, **settings: Any) -> list[HyLoRADAUnified]:
    """Return the two adapted projections of one feed-forward layer."""
    return [wide_layer(BLOCK_WIDTH, inner, **settings), wide_layer(inner, BLOCK_WIDTH, **settings)]


def landmarks(count: int = LANDMARKS, width: int = WIDTH) -> LandmarkLoRA:
    """Return position-adaptive landmarks with fixed buckets."""
    return LandmarkLoRA(width, count, BUCKETS)


def learned_landmarks(count: int = LANDMARKS, width: int = WIDTH) -> LearnableBucketLandmark:
    """Return landmarks with learnable buckets."""
    return LearnableBucketLandmark(width, count, BUCKETS)


def pooled_landmarks(count: int, width: int = WIDTH) -> PooledLandmark:
    """Return the original design."""
    return PooledLandmark(width, count)


def per_layer_landmarks(count: int) -> PerLayerLandmark:
    """Return the per-layer design for GPT-2's layers."""
    return PerLayerLandmark(LAYERS, WIDTH, count)


def direct_attention() -> DirectAttention:
    """Return what LoRaDA adds to one attention layer."""
    return DirectAttention(HEADS)


def sparse_layer() -> SparseMLP:
    """Return a sparse bottleneck of the default size."""
    return SparseMLP(BLOCK_WIDTH)


def position_bias(buckets: int = 64, positions: int = 1024) -> PositionBias:
    """Return one position bias."""
    return PositionBias(buckets, positions)


def gate_at_start() -> float:
    """Return the gate of a fresh layer."""
    return HyLoRADAUnified(nn.Linear(2, 2), rank=1, magnitude=True).combine.gate.sigmoid().item()


def optimiser_numbers() -> float:
    """Return the numbers held for each trained one: itself, its gradient and AdamW's states of its size."""
    parameter = nn.Parameter(torch.ones(64))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    states = [t for t in optimiser.state[parameter].values() if isinstance(t, torch.Tensor) and t.numel() > 1]
    held: Sequence[torch.Tensor] = [parameter, parameter.grad, *states]
    return sum(t.numel() for t in held) / parameter.numel()


def sees_the_future(landmark: nn.Module, width: int = 8, length: int = 6) -> bool:
    """Tell whether a changed last token changes what a pooled landmark adds to earlier ones."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for parameter in landmark.parameters():
            nn.init.normal_(parameter)
        hidden = torch.randn(1, length, width)
    changed = hidden.clone()
    changed[:, -1] += 10.0
    real = torch.ones(1, length, dtype=torch.bool)
    with torch.no_grad():
        before, after = (landmark(states, states, real)[:, :-1] for states in (hidden, changed))
    return not torch.equal(before, after)
