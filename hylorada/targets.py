"""Which layers an adapter takes: by name as the user gives it, else by family, else by role, never by guess.

`lora_target_modules` is None (a row of TARGETS, or the projections of the decoder's self-attention), "all-linear" (all
linear layers of the decoder, as in PEFT, but those that it multiplies by itself) or names. A list of names may be for
several families: those that this model has serve, and a layer name of another family is passed over with a warning.
"""

import logging
from collections.abc import Container, Iterable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError, near
from hylorada.find import attentions_in
from hylorada.lora import weight_rows
from hylorada.read_weights import read_from_outside

ALL_LINEAR = "all-linear"
LLAMA_LIKE = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = {  # what stays as it was before roles were read, by `model_type`
    "gpt2": ("c_attn", "c_proj"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma", "granite"), LLAMA_LIKE),
}
LAYER_NAMES = {  # of the linear layers of known families: a name among them is not misspelt
    *LLAMA_LIKE,
    *(
        "qkv_proj",
        "out_proj",
        "query_key_value",
        "query",
        "key",
        "value",
        "dense",
        "c_attn",
        "c_proj",
        "Wqkv",
        "W_pack",
    ),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "wqkv", "wq", "wk", "wv", "wo"),
    *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "fc_in", "fc_out", "w1", "w2", "w3"),
    *("dense_h_to_4h", "dense_4h_to_h", "in_proj", "x_proj", "dt_proj"),
}


def find_layers(base_model: PreTrainedModel, targets: tuple[str, ...] | str | None) -> dict[str, nn.Module]:
    """Return the layers to adapt by full name, in the model's order; a name matches a full name or its dotted end.

    Raises:
        HyLoRADAError: nothing matches, a name is no layer's (the nearest are listed), or a layer cannot be adapted.
    """
    decoder, head = decoder_of(base_model), base_model.get_output_embeddings()
    own, read = set(decoder.modules()), read_from_outside(decoder)
    modules = {name: module for name, module in base_model.named_modules() if module in own or module is head}
    if targets == ALL_LINEAR:
        found = {module for module in own if module is not head and is_linear(module)}
        _tell_left_out([(full, read[module]) for full, module in modules.items() if module in found & read.keys()])
        found -= read.keys()
    elif targets is None and base_model.config.model_type not in TARGETS:
        found = _attention_projections(base_model, decoder, read)
    else:
        found = _named(modules, head, targets or TARGETS[base_model.config.model_type])
    for full, module in modules.items():
        if module in found:
            _check_adaptable(full, module, head)
            if module in read:
                _refuse_read(full, read[module], _others(((n, m) for n, m in modules.items() if m is not head), read))
    return {full: module for full, module in modules.items() if module in found}


def shortest_names(base_model: PreTrainedModel, layers: dict[str, nn.Module]) -> list[str]:
    """Return names that mean exactly these layers, as `find_layers` and PEFT read them: dotted ends where they can.

    layers: by their full names in the base, which may be adapted.
    """
    inside = {inner for layer in layers.values() for inner in layer.modules()} - set(layers.values())
    others = [n for n, m in base_model.named_modules() if n not in layers and m not in inside]
    dotted = {"." + other for other in others}
    clear: dict[str, bool] = {}  # whether no other name has this end
    for full in layers:
        for end in _own_ends(full):
            if end not in clear:
                clear[end] = not any(other.endswith("." + end) for other in dotted)
    return sorted({next((end for end in _own_ends(full) if clear[end]), full) for full in layers})


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module maps each vector x to Wx + b; a linear class with a forward of its own is asked."""
    if not isinstance(module, nn.Linear):
        return type(module).__name__ == "Conv1D"
    if type(module).forward is nn.Linear.forward or not module.weight.is_floating_point():
        return True  # a quantised one is refused by name, not passed over
    probe = torch.linspace(-1, 1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    with torch.no_grad():
        try:
            answer = module(probe[None])
        except RuntimeError:  # DeepSeek V4's asks for groups of vectors
            return False
        product = F.linear(probe[None], module.weight, module.bias)
    same_kind = isinstance(answer, torch.Tensor) and answer.shape == product.shape
    return same_kind and (answer.is_meta or torch.allclose(answer, product, rtol=1e-2, atol=1e-2))


def _attention_projections(
    base_model: PreTrainedModel, decoder: nn.Module, read: Container[nn.Module]
) -> set[nn.Module]:
    found = {m for attention in attentions_in(decoder) for m in attention.children() if is_linear(m)}
    if not found:
        raise HyLoRADAError(
            f"a {base_model.config.model_type!r} model has no self-attention whose projections could be adapted; set "
            f"lora_target_modules to 'all-linear' or to names among {_others(decoder.named_modules(), read)}."
        )
    return found


def _others(named: Iterable[tuple[str, nn.Module]], read: Container[nn.Module]) -> str:
    """Return the ends of names, joined, of the layers that can be adapted; read: those whose weight others read."""
    named = list(named)
    never = set(_ends((full, module) for full, module in named if module in read))
    return ", ".join(end for end in _ends(named) if end not in never)


def _named(modules: dict[str, nn.Module], head: nn.Module, names: tuple[str, ...]) -> set[nn.Module]:
    own = _ends((full, module) for full, module in modules.items() if module is not head)
    found: set[nn.Module] = set()
    absent = []
    for name in names:
        matches = [module for full, module in modules.items() if full == name or full.endswith("." + name)]
        found.update(matches)
        end = name.rsplit(".", 1)[-1]
        if not matches and (end in own or end not in LAYER_NAMES):
            raise HyLoRADAError(f"lora_target_modules: {name!r} matches no layer of this model; {near(name, own)}")
        absent += [] if matches else [name]
    if not found:
        raise HyLoRADAError(
            f"lora_target_modules: none of {list(names)} matches a layer of this model; {near(names[0], own)}"
        )
    if absent:
        logging.getLogger(__name__).warning(
            "lora_target_modules: this model has no %s; adapted are the others.", ", ".join(absent)
        )
    return found


def _own_ends(full: str) -> list[str]:
    """Return the dotted ends of a name, shortest first; none begins with the number of a block."""
    parts = full.split(".")
    return [".".join(parts[-n:]) for n in range(1, len(parts) + 1) if not parts[-n].isdigit()]


def _ends(named) -> list[str]:
    return sorted({full.rsplit(".", 1)[-1] for full, module in named if is_linear(module)})


def _tell_left_out(layers: list[tuple[str, str]]) -> None:
    if layers:
        logging.getLogger(__name__).warning(
            "'all-linear' leaves out %s, the weights of which %s takes instead of calling them.",
            ", ".join(sorted({".".join(full.split(".")[-2:]) for full, _ in layers})),
            " or ".join(sorted({reader for _, reader in layers})),
        )


def _refuse_read(full: str, reader: str, others: str) -> None:
    raise HyLoRADAError(
        f"lora_target_modules: {full!r} cannot be adapted, because {reader} takes its weight instead of calling it; "
        f"name layers among {others}, or give 'all-linear', which leaves such layers out."
    )


def _check_adaptable(full: str, module: nn.Module, head: nn.Module) -> None:
    if module is head:
        raise HyLoRADAError(
            f"lora_target_modules: {full!r} is the output layer, whose weight may be the input embedding's too "
            "and which the loss applies in chunks; name layers inside the blocks."
        )
    weight_rows(module)  # raises for a layer that cannot be adapted
    if not is_linear(module):
        raise HyLoRADAError(
            f"lora_target_modules: {full!r} is a {type(module).__name__}, which does more than multiply by its weight; "
            "name other layers."
        )
