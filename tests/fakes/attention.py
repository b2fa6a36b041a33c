"""What the tests of groups and of direct attention share: bases with either on, and models that neither reaches."""

import torch
from bases import FAMILIES, tokens
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel

from hylorada import daa, s2_attention

CLOSE = dict(rtol=1e-4, atol=1e-4)
LENGTH = 24


def grouped(family: str, group_size: int = 8, sinks: int = 0) -> PreTrainedModel:
    """A tiny base in training mode with S²-Attn on; it has no dropout."""
    model = FAMILIES[family]()
    s2_attention.enable(model, group_size, sinks)
    return model.train()


def adapters(fresh: bool = False, layers: int = 2, heads: int = 4) -> nn.ModuleList:
    """One adapter a layer, moved off its start unless `fresh`."""
    generator = torch.Generator().manual_seed(2)
    made = nn.ModuleList(daa.DirectAttention(heads) for _ in range(layers))
    for parameter in made.parameters() if not fresh else ():
        parameter.data.add_(torch.randn(heads, generator=generator) * 0.5)
    return made


def direct(family: str, fresh: bool = False) -> tuple[PreTrainedModel, nn.ModuleList]:
    """A tiny base with DAA on, and the owner of the adapters."""
    model, made = FAMILIES[family](), adapters(fresh)
    daa.enable(model, made)
    return model, made


def batch_of(kind: str) -> dict:
    """Two rows of tokens under each kind of mask there is; with a cache, packed texts would not be told apart."""
    ids = tokens(2, LENGTH)
    mask = torch.ones_like(ids)
    if kind == "unmasked":
        return dict(input_ids=ids, use_cache=False)
    if kind == "right":
        mask[0, -7:] = 0
        mask[1, -2:] = 0
    if kind == "left":
        mask[0, :7] = 0
    if kind == "holes":
        mask[0, 5:9] = 0
        mask[1, -3] = 0
    if kind == "packed":
        positions = torch.cat([torch.arange(10), torch.arange(14)]).expand(2, -1)
        return dict(input_ids=ids, position_ids=positions, use_cache=False)
    if kind == "own":
        generator = torch.Generator().manual_seed(5)
        own = torch.rand(2, 1, LENGTH, LENGTH, generator=generator) < 0.5
        mask = own.tril() | torch.eye(LENGTH, dtype=torch.bool)
    return dict(input_ids=ids, attention_mask=mask, use_cache=False)


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor):
                self.elements = max(self.elements, made.numel())
        return out


class OwnAttention(nn.Module):
    """Attends by its own code and never asks the interface."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, 0, True


class OwnModel(PreTrainedModel):
    config_class, _supports_sdpa = LlamaConfig, True

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.attention = OwnAttention(config)
        self.post_init()
