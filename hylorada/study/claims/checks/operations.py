"""Operations, numbers trained and numbers kept, counted on small models of given sizes.

Operations are those that torch counts in products of matrices, two for a multiplication and an addition.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.landmarks import LandmarkLoRA
from hylorada.lora import HyLoRADAUnified
from hylorada.methods import method_config
from hylorada.model import HyLoRADAModel
from hylorada.position_bias import PositionBias
from hylorada.s2_attention import grouped_attention

SIZES = dict(n=32, d=16, L=1, r=4, g=16, K=8)  # tokens, width, layers, rank, group, landmarks
SMALL_VOCABULARY = 8
Sizes = dict[str, int]


def count_operations(run: Callable[[], Any], attention: bool = True) -> float:
    """Return the operations of the matrix products in a call, without attention's own on request."""
    return _sum(_counts(run), attention)


class Products(TorchDispatchMode):
    """Counts operations by their kind; torch's own counter gives the same, by module too, in twice the time."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, kind = func(*args, **(kwargs or {})), func._overloadpacket
        if kind in flop_registry:
            self.counts[kind] += flop_registry[kind](*args, **(kwargs or {}), out_val=out)
        return out


def _counts(run: Callable[[], Any]) -> Counter[Any]:
    with Products() as products:
        run()
    return products.counts


def _sum(counts: Counter[Any], attention: bool) -> float:
    return float(sum(n for op, n in counts.items() if attention or not is_attention(op)))


def is_attention(op: Any) -> bool:
    """Tell whether an operation multiplies queries, keys or values: of all products those alone come in batches."""
    return "bmm" in str(op) or "attention" in str(op)


def small_gpt2(sizes: Sizes, device: str = "cpu") -> PreTrainedModel:
    """Return a random GPT-2 of one head and, unless V says otherwise, with a vocabulary too small to matter."""
    with torch.device(device):
        config = GPT2Config(
            n_embd=sizes["d"],
            n_layer=sizes["L"],
            n_head=1,
            n_positions=sizes["n"],
            vocab_size=sizes.get("V", SMALL_VOCABULARY),
            bos_token_id=0,
            eos_token_id=0,
            use_cache=device == "meta",  # without a cache transformers looks at the values of positions
        )
        return GPT2LMHeadModel(config)


def adapted(sizes: Sizes, method: str = "hylorada", **parts: Any) -> HyLoRADAModel:
    """Return the same with the adapters of a method, all linear layers adapted."""
    shared = HyLoRADAConfig(
        lora_rank=sizes["r"],
        lora_target_modules=("c_attn", "c_proj", "c_fc"),
        num_landmarks=sizes["K"],
        lora_dropout=0.0,
    )
    config = HyLoRADAConfig(**vars(method_config(method, shared)) | parts)
    return HyLoRADAModel(small_gpt2(sizes), config)


def forward_operations(sizes: Sizes) -> float:
    """Count one pass of the base model."""
    base = small_gpt2(sizes, "meta")
    return count_operations(lambda: base(input_ids=_ids(sizes, "meta")))


def per_token(sizes: Sizes) -> float:
    """Count one pass of the base model for each token."""
    return forward_operations(sizes) / sizes["n"]


def full_training(sizes: Sizes, attention: bool = True) -> float:
    """Count a pass and its gradients, all weights trained."""
    base = small_gpt2(sizes)
    return count_operations(lambda: base(input_ids=_ids(sizes, "cpu")).logits.sum().backward(), attention)


def adapter_training(method: str, attention: bool = True, **parts: Any) -> Callable[[Sizes], float]:
    """Return what counts a pass and its gradients with the adapters of a method."""

    def count(sizes: Sizes) -> float:
        extra = {"s2_group_size": sizes["g"]} if parts.get("s2_attn_enabled") else {}
        settings = (tuple(sorted(each.items())) for each in (parts | extra, sizes))
        return _sum(_training_counts(method, *settings), attention)

    return count


@cache  # many statements grow one size of the same step
def _training_counts(method: str, parts: tuple[tuple[str, Any], ...], sizes: tuple[tuple[str, int], ...]) -> Counter:
    model, ids = adapted(dict(sizes), method, **dict(parts)).train(), _ids(dict(sizes), "cpu")
    return _counts(lambda: model(input_ids=ids).logits.sum().backward())


def adapter_per_token(sizes: Sizes) -> float:
    """Count what a low-rank update adds to one square layer for each token."""
    layer = nn.Linear(sizes["d"], sizes["d"], bias=False)
    hidden = torch.zeros(1, sizes["n"], sizes["d"])
    whole = count_operations(lambda: HyLoRADAUnified(layer, rank=sizes["r"])(hidden))
    return (whole - count_operations(lambda: layer(hidden))) / sizes["n"]


def landmarks_per_token(sizes: Sizes) -> float:
    """Count what landmarks add for each token."""
    part = LandmarkLoRA(sizes["d"], sizes["K"])
    hidden = torch.zeros(1, sizes["n"], sizes["d"])
    return count_operations(lambda: part(hidden, torch.arange(sizes["n"])[None])) / sizes["n"]


def looked_up(sizes: Sizes) -> float:
    """Count the entries of the position bias that one token reads."""
    return PositionBias(max_positions=sizes["n"]).extra(torch.zeros(1, 1, dtype=torch.long)).numel()


def bias_numbers(sizes: Sizes) -> float:
    """Count what the position bias trains for a context of n tokens."""
    return sum(p.numel() for p in PositionBias(max_positions=sizes["n"]).parameters())


def attention(sizes: Sizes, group: int | None = None, shift: int = 0) -> float:
    """Count one head of causal attention, in groups where a size is given."""
    states = torch.empty(1, 1, sizes["n"], sizes["d"], device="meta")
    return count_operations(lambda: grouped_attention(states, states, states, group or sizes["n"], shift))


def attention_factor(length: int, group: int) -> float:
    """Return full attention over S²-Attn, the layers with and without a shift taken together."""
    sizes = SIZES | {"n": length}
    return 2 * attention(sizes) / (attention(sizes, group) + attention(sizes, group, group // 2))


def trained_numbers(method: str, part: str = "trainable") -> Callable[[Sizes], float]:
    """Return what counts the numbers that a method trains."""
    return lambda sizes: _trained_counts(method, tuple(sizes.items()))[part]


@cache
def _trained_counts(method: str, sizes: tuple[tuple[str, int], ...]) -> dict[str, int]:
    return adapted(dict(sizes), method).count_params()


def block_numbers(sizes: Sizes) -> float:
    """Count the weights of the base model's layers."""
    return sum(p.numel() for p in small_gpt2(sizes, "meta").transformer.h.parameters())


def kept_numbers(model: nn.Module, ids: torch.Tensor) -> float:
    """Count the numbers that a training pass keeps for the gradients, weights apart."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[tuple[int, int], int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.data_ptr(), tensor.numel()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), ids.flatten())
    del loss
    return float(sum(kept.values()))


def checkpointed(sizes: Sizes) -> float:
    """Count what is kept with checkpointing."""
    model = adapted(sizes, gradient_checkpointing=True).train()
    return kept_numbers(model, _ids(sizes, "cpu"))


def _ids(sizes: Sizes, device: str) -> torch.Tensor:
    return torch.zeros(1, sizes["n"], dtype=torch.long, device=device)
