"""S²-Attn: in training, causal attention within groups of G tokens, cut G/2 later on every other layer.

    even layers: [0, G) [G, 2G) …        odd layers: [0, G/2) [G/2, 3G/2) …        the last group may be shorter

LongLoRA's shifted sparse attention (arXiv:2309.12307) with two changes. Layers alternate, not halves of the heads. And
nothing rolls over from the end of the row to its start, which in the paper's own form lets first tokens see the last.
Sink tokens, the first S of a row, stay visible to every later token: each group is attended to together with them and
the rows of the sinks are dropped, so that plain causal attention is all it takes and no mask is made.

Time and memory are linear in length. Evaluation, and any pass that reads a cache, is the base model's full attention.
Everything goes through the attention and mask interfaces of transformers; no class or forward is replaced.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from hylorada.attention_interface import attention_name, find_attentions_on_interface, set_attention, wrong_attention
from hylorada.errors import HyLoRADAError

NAME = "hylorada_s2"
BASE = "sdpa"  # the implementation S²-Attn stands in for, and hands over to outside training
UNSUPPORTED = ("position_bias", "softcap", "output_attentions")  # what the groups could only ignore


def enable(base_model: PreTrainedModel, group_size: int, sink_tokens: int = 0) -> None:
    """Let the self-attention of a model act in groups whenever it trains on rows longer than `group_size` tokens.

    group_size: G, even, in tokens. sink_tokens: S < G. To change them, `disable` first. Under torch.compile give an
    attention_mask: without one transformers makes a mask for packed texts, packed or not, and that is refused.

    Raises:
        HyLoRADAError: a size that is not allowed, S²-Attn is on already, or the model's attention cannot be reached;
            the model is as it was.
    """
    check_sizes(group_size, sink_tokens)
    if is_enabled(base_model):
        raise HyLoRADAError("S²-Attn is on in this model already; call disable before enabling it with other sizes.")
    _check_own_attention(base_model)
    attentions = find_attentions_on_interface(base_model, "S²-Attn")
    set_attention(base_model, attentions, NAME, "S²-Attn")
    for attention in attentions:
        attention.s2_group_size = group_size
        attention.s2_sink_tokens = sink_tokens


def disable(base_model: PreTrainedModel) -> None:
    """Give the model its own attention back, in training too; does nothing where S²-Attn is off.

    Raises:
        HyLoRADAError: something stands around S²-Attn, or has replaced it; nothing is changed.
    """
    if not is_enabled(base_model):
        return
    if attention_name(base_model) != NAME:
        raise HyLoRADAError(
            f"S²-Attn cannot go while the attention of this model is {attention_name(base_model)!r}; disable that "
            f"first, or set it to {NAME!r}."
        )
    base_model.set_attn_implementation(BASE)
    for module in base_model.modules():
        if hasattr(module, "s2_group_size"):
            del module.s2_group_size, module.s2_sink_tokens


def is_enabled(base_model: PreTrainedModel) -> bool:
    """Tell whether `enable` has set up this model."""
    return any(hasattr(module, "s2_group_size") for module in base_model.modules())


def check_sizes(group_size: int, sink_tokens: int) -> None:
    """Raise HyLoRADAError unless G is even and at least 2 and the sinks fit into one group with room to spare."""
    for name, value in (("group_size", group_size), ("sink_tokens", sink_tokens)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise HyLoRADAError(f"{name}={value!r} is of the wrong kind; give a whole number.")
    if group_size < 2 or group_size % 2:
        raise HyLoRADAError(
            f"group_size={group_size} is not allowed: every other layer shifts by half a group; "
            "use an even number of tokens, 2 or more."
        )
    if not 0 <= sink_tokens < group_size:
        raise HyLoRADAError(
            f"sink_tokens={sink_tokens} does not fit group_size={group_size}; use 0 up to {group_size - 1}."
        )


def grouped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    group_size: int,
    shift: int = 0,
    sink_tokens: int = 0,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> Tensor:
    """Attend causally within groups and to the sinks; a first group of `shift` tokens moves the borders of the rest.

    query: (batch, heads, seq, d). key, value: (batch, kv_heads, seq, d). Returns (batch, seq, heads, d).
    """
    out = []
    for start, count, size in _groups(query.shape[2], group_size, shift, sink_tokens):
        sinks = min(sink_tokens, start)  # a group that holds a sink itself needs only those before it
        mixed = scaled_dot_product_attention(
            *(_cut(states, start, count, size, sinks) for states in (query, key, value)),
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )  # (batch·count, heads, sinks + size, d)
        mixed = mixed[:, :, sinks:].transpose(1, 2)
        out.append(mixed.reshape(len(query), count * size, *mixed.shape[2:]))
    return torch.cat(out, dim=1)


class ShiftedSparseAttention(nn.Module):
    """The grouped attention of one layer, for a model of one's own; one of transformers takes `enable`.

    group_size, sink_tokens: as for `enable`. layer_idx: an odd layer's groups lie half a group later.

    Raises:
        HyLoRADAError: a size that is not allowed.
    """

    def __init__(self, group_size: int = 2048, sink_tokens: int = 0, layer_idx: int = 0) -> None:
        super().__init__()
        check_sizes(group_size, sink_tokens)
        self.group_size, self.sink_tokens = group_size, sink_tokens
        self.shift = group_size // 2 if layer_idx % 2 else 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend causally within groups; the shapes are those of `grouped_attention`."""
        return grouped_attention(query, key, value, self.group_size, self.shift, self.sink_tokens)


def _groups(length: int, group_size: int, shift: int, sink_tokens: int) -> Iterator[tuple[int, int, int]]:
    """Cut a row into stretches of equal groups, (start, number of groups, tokens in each), in order.

    Groups that begin before the last sink come one by one: each sees another number of sinks before it.
    """
    start, size = 0, shift or group_size
    while start < min(max(shift, sink_tokens), length):
        size = min(size, length - start)
        yield start, 1, size
        start, size = start + size, group_size
    count = (length - start) // group_size
    if count:
        yield start, count, group_size
        start += count * group_size
    if start < length:
        yield start, 1, length - start


def _cut(states: Tensor, start: int, count: int, size: int, sinks: int) -> Tensor:
    """Lay `count` groups from `start` side by side in the batch, each behind the sinks.

    states: (batch, heads, seq, d). Returns (batch·count, heads, sinks + size, d).
    """
    groups = states[:, :, start : start + count * size].unflatten(2, (count, size)).transpose(1, 2)
    if sinks:
        first = states[:, None, :, :sinks].expand(-1, count, -1, -1, -1)
        groups = torch.cat([first, groups], dim=3)
    return groups.flatten(0, 1)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Act for one attention module; the arguments are those of transformers' attention interface."""
    length, group_size = query.shape[2], getattr(module, "s2_group_size", None)
    if group_size is None or not module.training or key.shape[2] != length or length <= group_size:
        if attention_mask is not None and attention_mask.ndim == 2:
            attention_mask = _causal_mask(attention_mask)
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    _refuse_what_groups_would_ignore(module, attention_mask, kwargs)
    shift = group_size // 2 if module.layer_idx % 2 else 0
    # right padding needs no mask here: it comes after the real tokens, which look back only
    out = grouped_attention(query, key, value, group_size, shift, module.s2_sink_tokens, dropout, scaling)
    return out, None


def _mask(**kwargs: Any) -> Tensor | None:
    """Make the mask of a pass as for sdpa, but hand right padding on as it came, (batch, seq), not squared.

    The arguments are those of transformers' mask interface. Two dimensions tell `_attention` that a plain causal mask
    over rows padded on the right is meant; all else has four.
    """
    padding, length = kwargs.get("attention_mask"), kwargs["q_length"]
    plain = kwargs.get("mask_function", causal_mask_function) is causal_mask_function
    plain = plain and kwargs.get("allow_is_causal_skip", True)
    if plain and padding is not None and padding.shape[1:] == (length,) and kwargs["kv_length"] == length:
        if not (padding[:, 1:] > padding[:, :-1]).any():  # nothing on the left, no holes
            return None if padding.all() else padding
    return sdpa_mask(**kwargs)


def _causal_mask(padding: Tensor) -> Tensor:
    """Return the (batch, 1, seq, seq) mask that sdpa would have got for this padding, True where visible."""
    length = padding.shape[-1]
    causal = torch.ones(length, length, dtype=torch.bool, device=padding.device).tril()
    return causal & padding[:, None, None, :]


def _refuse_what_groups_would_ignore(module: nn.Module, mask: Tensor | None, kwargs: dict[str, Any]) -> None:
    for name in UNSUPPORTED:
        if kwargs.get(name) not in (None, False):
            raise HyLoRADAError(f"S²-Attn cannot honour {name} in training; leave it out, or turn S²-Attn off.")
    packed = False
    positions = kwargs.get("position_ids")
    if positions is not None and positions.ndim == 2 and module.layer_idx == 0:  # alike in all layers: look once
        back = positions[:, 1:] < positions[:, :-1]
        packed = (back if mask is None or mask.ndim != 2 else back & mask[:, 1:]).any()
    if packed or (mask is not None and mask.ndim != 2):
        raise HyLoRADAError(
            "S²-Attn trains on one text a row, padded on the right if at all; this batch has left padding, packed "
            "texts or a mask of another kind (custom, sliding window; under torch.compile, no attention_mask at all). "
            "Pad on the right, or turn S²-Attn off."
        )


def _check_own_attention(base_model: PreTrainedModel) -> None:
    """Raise HyLoRADAError where taking over from the model's own attention would change more than its groups."""
    if base_model.config.output_attentions:
        raise HyLoRADAError("S²-Attn makes no attention weights to return; set output_attentions=False.")
    if attention_name(base_model) != BASE:
        raise wrong_attention(base_model, "S²-Attn", BASE)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
