"""The attention interface of transformers: which modules of a model ask it, by which name, and giving them another."""

from torch import nn
from transformers import PreTrainedModel

from hylorada.errors import HyLoRADAError


def find_attentions_on_interface(base_model: PreTrainedModel, part: str) -> list[nn.Module]:
    """Return the causal self-attention modules in order of layer; `.config.num_attention_heads` gives their heads.

    part: what is to act in them, for the message.

    Raises:
        HyLoRADAError: there is none of the kind that the interface reaches.
    """
    read = ("is_causal", "layer_idx", "config")  # by the interface, or by what stands behind it
    attentions = [m for m in base_model.modules() if all(hasattr(m, name) for name in read) and m.is_causal]
    if not attentions:
        raise _out_of_reach(base_model, part)
    return sorted(attentions, key=lambda attention: attention.layer_idx)


def set_attention(base_model: PreTrainedModel, attentions: list[nn.Module], name: str, part: str) -> None:
    """Let the model look up another implementation for its attention modules.

    Raises:
        HyLoRADAError: one of them goes on with its own, since a model whose code does not ask cannot be told.
    """
    own = attention_name(base_model)
    base_model.set_attn_implementation(name)  # does nothing to such a model
    if any(attention_name(attention) != name for attention in attentions):
        base_model.set_attn_implementation(own)
        raise _out_of_reach(base_model, part)


def wrong_attention(base_model: PreTrainedModel, part: str, wanted: str) -> HyLoRADAError:
    """Return the refusal of a model whose attention is not the one that `part` can act in, with what can be done."""
    name, given = type(base_model).__name__, attention_name(base_model)
    if getattr(base_model, "_supports_sdpa", False):
        return HyLoRADAError(
            f"{part} acts in {wanted!r} attention, and this {name} uses {given!r}; load it with "
            f"attn_implementation={wanted!r}."
        )
    return HyLoRADAError(
        f"{part} acts in {wanted!r} attention, which cannot compute what this {name} does in {given!r} (it may cap its "
        f"scores, or have sinks or code of its own); use a base model such as Llama or Qwen2, or turn {part} off."
    )


def attention_name(module: nn.Module) -> str | None:
    """Return the name that a model, or one of its attention modules, looks up in the interface."""
    return getattr(getattr(module, "config", None), "_attn_implementation", None)


def _out_of_reach(base_model: PreTrainedModel, part: str) -> HyLoRADAError:
    return HyLoRADAError(
        f"the attention of {type(base_model).__name__} is not reached through transformers' attention interface, "
        f"so {part} cannot act in it; use a base model such as GPT-2 or Llama, or turn {part} off."
    )
