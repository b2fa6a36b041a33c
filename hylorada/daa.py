"""Direct attention adaptation (DAA): a trained scale of each head's attention and a trained share of a plain mean.

v_j: value of token j; P: the attention of one head, after the softmax; S_i: the n_i positions that token i sees.

    out_i = alpha·Σ_j P_ij v_j + beta·(1/n_i)·Σ_{j in S_i} v_j          alpha = 1, beta = 0 before training

LoRaDA's direct path beside LoRA: two numbers a head and layer. They act after the softmax, because before it
softmax(alpha·s + beta) = softmax(alpha·s): beta would do nothing and alpha be a temperature. Departing from
alpha·P + beta entry by entry, beta is divided by n_i, so that its share does not grow with the position. Attention
dropout drops entries of P, never of the mean. No weight of the base can hold beta, so DAA does not merge.

DAA wraps scaled-dot-product attention, with S²-Attn or without, through the attention and mask interfaces of
transformers; no class or forward is replaced. Its mean runs over all that full attention sees, in S²-Attn's groups too,
so that training and evaluation agree. A later token never reaches an earlier one.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from hylorada import s2_attention
from hylorada.attention_interface import attention_name, find_attentions_on_interface, set_attention, wrong_attention
from hylorada.errors import HyLoRADAError

NAME = "hylorada_daa"
WRAPPED = (s2_attention.BASE, s2_attention.NAME)  # what DAA can stand around
UNSUPPORTED = {"output_attentions": "makes no attention weights", "cache": "cannot look into a paged cache"}

_attention_within = AttentionInterface()[s2_attention.NAME]  # sdpa's own wherever S²-Attn is off
_mask_within = AttentionMaskInterface()[s2_attention.NAME]  # as for sdpa, but right padding stays (batch, seq)


class DirectAttention(nn.Module):
    """alpha and beta of the heads of one attention module, float32 (heads,); neutral at the start."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(num_heads))
        self.beta = nn.Parameter(torch.zeros(num_heads))

    def forward(self, mixed: Tensor, average: Tensor) -> Tensor:
        """Return alpha·mixed + beta·average head by head, (batch, seq, heads, d).

        mixed: PV, (batch, seq, heads, d). average: mean of the visible values, (batch, seq or 1, kv_heads, d); each
        key-value head serves heads / kv_heads heads that follow one another.
        """
        groups = mixed.unflatten(2, (average.shape[2], -1))  # (batch, seq, kv_heads, heads / kv_heads, d)
        # alpha - 1 is applied instead of alpha: near 1, bfloat16 would round alpha to exactly 1 and it would not learn
        extra = (self.alpha - 1.0).to(mixed.dtype).view(*groups.shape[2:4], 1)
        share = self.beta.to(mixed.dtype).view(*groups.shape[2:4], 1)
        scaled = torch.addcmul(groups, groups, extra)
        return torch.addcmul(scaled, average[:, :, :, None], share).flatten(2, 3)


DirectAttentionAdapter = DirectAttention  # its published name


def enable(base_model: PreTrainedModel, adapters: Iterable[DirectAttention]) -> None:
    """Let each adapter act in the self-attention of one layer; S²-Attn, where wanted, is enabled before.

    adapters: one for each module of `find_attentions_on_interface`, in its order. They stay their owner's: the base
    refers to them, but its modules and parameters are what they were. Under torch.compile a padded batch breaks the
    graph once.

    Raises:
        HyLoRADAError: DAA is on already, the adapters do not fit, or the model's attention cannot be wrapped or
            reached; the model is as it was.
    """
    if is_enabled(base_model):
        raise HyLoRADAError("DAA is on in this model already; call disable before enabling it with other adapters.")
    _check_own_attention(base_model)
    attentions, adapters = find_attentions_on_interface(base_model, "DAA"), list(adapters)
    _check_fit(attentions, adapters)
    set_attention(base_model, attentions, NAME, "DAA")
    for attention, adapter in zip(attentions, adapters, strict=True):
        object.__setattr__(attention, "direct_attention", adapter)  # past nn.Module, which would register it


def disable(base_model: PreTrainedModel) -> None:
    """Give the model back the attention it had before `enable`; does nothing where DAA is off.

    Raises:
        HyLoRADAError: something else has replaced the attention in between, and DAA did not act; it is off now.
    """
    if not is_enabled(base_model):
        return
    for module in base_model.modules():
        if hasattr(module, "direct_attention"):
            del module.direct_attention
    current = attention_name(base_model)
    if current != NAME:
        raise HyLoRADAError(
            f"this model's attention was set to {current!r} while DAA was on, so DAA has not acted since; "
            "disable DAA first, and S²-Attn after it."
        )
    base_model.set_attn_implementation(s2_attention.NAME if s2_attention.is_enabled(base_model) else s2_attention.BASE)


def is_enabled(base_model: PreTrainedModel) -> bool:
    """Tell whether `enable` has set up this model."""
    return any(hasattr(module, "direct_attention") for module in base_model.modules())


def visible_mean(value: Tensor, length: int, mask: Tensor | None = None, causal: bool = True) -> Tensor:
    """Return the mean of the values that each of `length` queries sees, (batch, length or 1, kv_heads, d).

    value: (batch, kv_heads, keys, d). mask: None, with sdpa's meaning (a single query sees all keys, more see the
    first keys causally); right padding of a causal row, (batch, seq), True where real; or (batch or 1, heads or 1,
    length, keys), True where visible or, as floats, added to the scores. 0 where nothing is visible.
    """
    if mask is not None and mask.ndim == 4:
        return _mean_under(mask, value)
    if mask is None and (length == 1 or not causal):
        return value.mean(dim=2, keepdim=True, dtype=torch.float32).to(value.dtype).transpose(1, 2)
    value = value[:, :, :length]  # a static cache that was empty has room behind
    if mask is None:
        count = torch.arange(1, length + 1, device=value.device)[:, None]  # (length, 1)
    else:
        value = value * mask[:, None, :, None]
        count = mask.cumsum(dim=1).clamp_min(1)[:, None, :, None]  # (batch, 1, length, 1)
    return (value.cumsum(dim=2, dtype=torch.float32) / count).to(value.dtype).transpose(1, 2)


def _mean_under(mask: Tensor, value: Tensor) -> Tensor:
    """Average under a mask written out: one product, linear in the values; the shapes are those of `visible_mean`."""
    if mask.dtype != torch.bool:
        mask = mask.float().exp() > 0  # what the softmax can give a weight to
    # the shares, not the sums, are rounded to the dtype of the values: a sum over a long row overflows float16
    shares = mask.sum(dim=-1, keepdim=True).clamp_min(1).reciprocal().to(value.dtype) * mask
    if mask.shape[1] == 1:  # one mask for all heads: their values side by side, for a single product
        return (shares[:, 0] @ value.transpose(1, 2).flatten(2)).unflatten(2, (value.shape[1], -1))
    value = value.repeat_interleave(mask.shape[1] // value.shape[1], dim=1)
    return (shares @ value).transpose(1, 2)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Act for one attention module; the arguments are those of transformers' attention interface."""
    adapter = getattr(module, "direct_attention", None)
    if adapter is None:  # attention of another kind in the same model: across, or of another modality
        return _attention_within(module, query, key, value, attention_mask, *args, **kwargs)
    for name, reason in UNSUPPORTED.items():
        if kwargs.get(name) not in (None, False):
            raise HyLoRADAError(f"DAA {reason}; leave out {name}, or turn DAA off.")
    mixed, _ = _attention_within(module, query, key, value, attention_mask, *args, **kwargs)  # PV
    causal = kwargs.get("is_causal")
    average = visible_mean(value, query.shape[2], attention_mask, module.is_causal if causal is None else causal)
    return adapter(mixed, average), None


def _check_own_attention(base_model: PreTrainedModel) -> None:
    """Raise HyLoRADAError where DAA cannot wrap the model's own attention."""
    if base_model.config.output_attentions:
        raise HyLoRADAError("DAA makes no attention weights to return; set output_attentions=False.")
    if attention_name(base_model) not in WRAPPED:
        raise wrong_attention(base_model, "DAA", s2_attention.BASE)


def _check_fit(attentions: list[nn.Module], adapters: list[DirectAttention]) -> None:
    """Raise HyLoRADAError unless there is one adapter for each attention module, with its number of heads."""
    if len(adapters) != len(attentions):
        raise HyLoRADAError(
            f"{len(adapters)} DAA adapters do not fit {len(attentions)} attention layers; give one for each."
        )
    for attention, adapter in zip(attentions, adapters, strict=True):
        given, heads = len(adapter.alpha), attention.config.num_attention_heads
        if given != heads:
            raise HyLoRADAError(
                f"a DAA adapter of {given} heads does not fit layer {attention.layer_idx}, which has {heads}; "
                f"make it with num_heads={heads}."
            )


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask_within)
