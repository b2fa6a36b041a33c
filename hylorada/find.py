"""Where things are in the decoder of a base model of transformers: by role, never by guess."""

import re

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
BLOCKS = ("layers", "h", "blocks")
OTHERS = re.compile("cross|encoder_attn")  # attention to what another model says
FEED_FORWARDS = ("MLP", "FeedForward")


def attentions_in(decoder: nn.Module) -> list[nn.Module]:
    """Return the decoder's self-attention modules, those too that transformers' attention interface cannot reach."""
    named = decoder.named_modules()
    return [m for name, m in named if type(m).__name__.endswith("Attention") and not OTHERS.search(name)]


def find_experts(decoder: nn.Module) -> list[nn.Module]:
    """Return the routed experts of each block: one module that holds the weights of all of them, or their list."""
    named = decoder.named_modules()
    found = [m for name, m in named if type(m).__name__.endswith("Experts") or name.endswith(".experts")]
    inside = {inner for experts in found for inner in experts.modules() if inner is not experts}
    return [experts for experts in found if experts not in inside]


def find_blocks(decoder: nn.Module) -> nn.ModuleList:
    """Return the decoder's blocks (HyLoRADAError when they are not recognised)."""
    for name in BLOCKS:
        if isinstance(blocks := getattr(decoder, name, None), nn.ModuleList):
            return blocks
    raise HyLoRADAError(f"{type(decoder).__name__} has none of {', '.join(BLOCKS)}; use a part that acts elsewhere.")


def find_feed_forwards(decoder: nn.Module) -> list[nn.Module]:
    """Return the feed-forward block of each of the decoder's blocks (HyLoRADAError when one is not recognised)."""
    feed_forwards = []
    for block in find_blocks(decoder):
        here = [module for module in block.children() if type(module).__name__.endswith(FEED_FORWARDS)]
        if len(here) != 1:
            raise HyLoRADAError(
                f"a {type(block).__name__} has {len(here)} modules named after {' or '.join(FEED_FORWARDS)}, and one "
                "is wanted; set sparse_enabled=False."
            )
        feed_forwards += here
    return feed_forwards


def find_final_norm(base_model: PreTrainedModel) -> str:
    """Return the full name of the final norm, where landmarks act: the norm whose output is the decoder's.

    A model whose norm has no usual name is run on two tokens to see.

    Raises:
        HyLoRADAError: no norm's output is the decoder's.
    """
    decoder = decoder_of(base_model)
    names = {module: name for name, module in base_model.named_modules()}
    for name in FINAL_NORMS:
        if isinstance(norm := getattr(decoder, name, None), nn.Module):
            return names[norm]
    outputs: dict[nn.Module, Tensor] = {}
    norms = [module for module in decoder.modules() if type(module).__name__.lower().endswith("norm")]
    hooks = [norm.register_forward_hook(lambda norm, args, out: outputs.update({norm: out})) for norm in norms]
    accelerators = [] if base_model.device.type in ("cpu", "meta") else [base_model.device]
    try:
        with torch.no_grad(), torch.random.fork_rng(accelerators, device_type=base_model.device.type):
            hidden = decoder(input_ids=torch.arange(2, device=base_model.device)[None], use_cache=False)[0]
    finally:
        for hook in hooks:
            hook.remove()
    last = [norm for norm, out in outputs.items() if out is hidden or _are_equal(out, hidden)]
    if not last:
        raise HyLoRADAError(
            f"the output of {type(decoder).__name__} comes from no norm, so landmarks have no place; set "
            "landmark_enabled=False."
        )
    return names[last[-1]]


def _are_equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and not one.is_meta and torch.equal(one, other)
