"""Where things are in a base model of transformers: by name as the user gives it, else by role, never by guess."""

from torch import nn
from transformers import PreTrainedModel

from hylorada.errors import HyLoRADAError, near
from hylorada.lora import weight_rows

LLAMA_LIKE = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = {  # layers adapted when the configuration names none, by `model_type`
    "gpt2": ("c_attn", "c_proj"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma", "granite"), LLAMA_LIKE),
}
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
BLOCKS = ("layers", "h")
FEED_FORWARDS = ("MLP", "FeedForward")


def find_layers(base_model: PreTrainedModel, names: tuple[str, ...] | None) -> dict[str, nn.Module]:
    """Return the layers to adapt by full name; a name matches a layer's full name or its dotted end.

    Raises:
        HyLoRADAError: an unknown family without names, or a name that matches nothing (nearest names are listed).
    """
    if names is None:
        family = base_model.config.model_type
        if family not in TARGETS:
            raise HyLoRADAError(f"the layers to adapt in a {family!r} model are not known; set lora_target_modules.")
        names = TARGETS[family]
    layers: dict[str, nn.Module] = {}
    modules, head = dict(base_model.named_modules()), base_model.get_output_embeddings()
    for name in names:
        matches = {full: module for full, module in modules.items() if full == name or full.endswith("." + name)}
        if not matches:
            ends = {full.rsplit(".", 1)[-1] for full, module in modules.items() if _is_linear(module)}
            ends -= {full.rsplit(".", 1)[-1] for full, module in modules.items() if module is head}
            raise HyLoRADAError(f"lora_target_modules: {name!r} matches no layer of this model; {near(name, ends)}")
        for full, module in matches.items():
            if module is head:
                raise HyLoRADAError(
                    f"lora_target_modules: {full!r} is the output layer, whose weight may be the input embedding's too "
                    "and which the loss applies in chunks; name layers inside the blocks."
                )
            weight_rows(module)  # raises for a layer that cannot be adapted
            layers[full] = module
    return {full: layers[full] for full in modules if full in layers}  # in the model's order


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def find_attentions_by_name(decoder: nn.Module) -> list[nn.Module]:
    """Return the self-attention modules of the decoder, those too that transformers' attention interface cannot reach.

    Raises:
        HyLoRADAError: none is recognised.
    """
    named = decoder.named_modules()
    attentions = [m for name, m in named if type(m).__name__.endswith("Attention") and "cross" not in name]
    if not attentions:
        raise HyLoRADAError("no attention module was found to deliver positions; set position_bias_enabled=False.")
    return attentions


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


def find_final_norm(decoder: nn.Module) -> nn.Module:
    """Return the norm after the last block, where landmarks act (HyLoRADAError when none is recognised)."""
    for name in FINAL_NORMS:
        if isinstance(norm := getattr(decoder, name, None), nn.Module):
            return norm
    raise HyLoRADAError(f"{type(decoder).__name__} has none of {', '.join(FINAL_NORMS)}; set landmark_enabled=False.")
