"""RoPE scaling of a base model that is loaded already: rotary angles for more tokens than it was trained on.

A token at position p turns pair i of the d channels of a head by p·f_i; unscaled f_i = base^(-2i/d), i = 0 … d/2 - 1.
With the factor s > 1 and the trained context of L tokens:

    linear   f_i / s                                                                              arXiv:2306.15595
    dynamic  f_i of base·(s·n/L - (s - 1))^(d/(d-2)) in a pass over n > L positions, else f_i     NTK-aware scaling
    yarn     f_i·(1 - r_i) + f_i/s·r_i, queries and keys times 0.1·ln(s) + 1                      arXiv:2309.00071
             r_i = (i - low)/(high - low) within [0, 1]; low and high are d·ln(L/(2π·t))/(2·ln(base)), t turns over L
             tokens, of t = 32 rounded down (at least 0) and of t = 1 rounded up (at most d - 1)

transformers computes the f_i once, as the rotary module is made: a later change of the configuration does nothing. So
the module is made anew, in float32, from the changed configuration; a copy of the model saved and loaded has the same.

`max_position_embeddings` is L for linear and dynamic, as transformers has it for them: dynamic's formula reads L there,
and no other field can hold it, so that readers multiply it by s. For yarn it is raised to s·L, the ratio transformers
checks, and L stands in `original_max_position_embeddings`. `usable_context` reads all of these.

In transformers dynamic has a memory: angles of a longer pass stay for shorter ones, and cached keys keep angles that
the next tokens no longer have. Here each pass forgets the one before it, and one that goes on from a cache beyond L
raises (a model saved and loaded has transformers' memory again). What remains is the method: n is of the longest row
of the batch, and each further token turns all earlier ones.
"""

import copy
import inspect
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError, near

SCALINGS = ("dynamic", "linear", "yarn")
CHANGED = ("rope_parameters", "max_position_embeddings")  # of the configuration
LIMITS = ("max_position_embeddings", "max_seq_len", "seq_length")  # how families name their context length


def enable(base_model: PreTrainedModel, scaling_type: str, factor: float) -> None:
    """Scale the rotary angles of a model for `factor` times the tokens it was trained on, from its next pass on.

    scaling_type: one of SCALINGS. factor: s, above 1. To change them, `disable` first. The angles are float32 whatever
    the model's dtype; as in any model of transformers, a later `.to(torch.bfloat16)` would round them.

    Raises:
        HyLoRADAError: a setting that is not allowed, the scaling is on already, or the model has no rotary angles that
            can be scaled; the model is as it was.
    """
    check_scaling(scaling_type, factor)
    if is_enabled(base_model):
        raise HyLoRADAError("RoPE scaling is on in this model already; call disable before enabling it anew.")
    config = base_model.config.get_text_config()
    scaled = _scaled_config(config, scaling_type, float(factor))
    places = _find_rotaries(base_model, config)
    rebuilt = {old: _rebuild(old, config, scaled) for old in places.values()}
    kept = {name: getattr(config, name) for name in CHANGED}
    for name in CHANGED:
        setattr(config, name, getattr(scaled, name))
    for old, new in rebuilt.items():
        new.config, new.unscaled, new.unscaled_config, new.hooks = config, old, kept, []
        if scaling_type == "dynamic":
            _forget_earlier_passes(new, decoder_of(base_model))
    for place, old in places.items():
        base_model.set_submodule(place, rebuilt[old])


def disable(base_model: PreTrainedModel) -> None:
    """Give the model its own rotary modules and configuration back; does nothing where the scaling is off."""
    config = base_model.config.get_text_config()
    for place, module in list(base_model.named_modules(remove_duplicate=False)):
        if _is_scaled(module):
            for hook in module.hooks:
                hook.remove()
            for name, value in module.unscaled_config.items():
                setattr(config, name, value)
            base_model.set_submodule(place, module.unscaled)


def settle(base_model: PreTrainedModel) -> None:
    """Make the scaling the model's own, as if it had been loaded so; `disable` then does nothing."""
    for module in list(base_model.modules()):
        if _is_scaled(module):
            del module.unscaled, module.unscaled_config  # dynamic goes on forgetting earlier passes


def is_enabled(base_model: PreTrainedModel) -> bool:
    """Tell whether `enable` has set up this model."""
    return any(_is_scaled(module) for module in base_model.modules())


def check_scaling(scaling_type: str, factor: float) -> None:
    """Raise HyLoRADAError unless the type is one of SCALINGS and the factor a finite number above 1."""
    if not isinstance(scaling_type, str):
        raise HyLoRADAError(f"rope_scaling_type={scaling_type!r} is of the wrong kind; give a name.")
    if scaling_type not in SCALINGS:
        raise HyLoRADAError(f"rope_scaling_type={scaling_type!r} is not known; {near(scaling_type, SCALINGS)}")
    if not isinstance(factor, int | float) or isinstance(factor, bool):
        raise HyLoRADAError(f"rope_scaling_factor={factor!r} is of the wrong kind; give a number.")
    if not (math.isfinite(factor) and factor > 1):
        raise HyLoRADAError(
            f"rope_scaling_factor={factor} lengthens no context; use a number above 1, such as 4.0 for four times the "
            "tokens, or set rope_scaling_type=None."
        )


def usable_context(config: PreTrainedConfig) -> int | None:
    """Return the tokens a model has positions for, RoPE scaling included, or None where it states no limit."""
    config = config.get_text_config()
    limit = next((getattr(config, name) for name in LIMITS if getattr(config, name, None)), None)
    if limit is None:
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    return max(limit, int((rope.get("factor") or 1) * (rope.get("original_max_position_embeddings") or limit)))


def _scaled_config(config: PreTrainedConfig, scaling_type: str, factor: float) -> PreTrainedConfig:
    """Return a changed copy (HyLoRADAError where the model has no angles, several sets of them, or scaled ones)."""
    rope, family = getattr(config, "rope_parameters", None), config.model_type
    if not rope:
        raise HyLoRADAError(
            f"RoPE scaling cannot act in a {family!r} model: its configuration has no rope_parameters (GPT-2, for one, "
            "learns an embedding for each position, which has no angle to scale); use a base such as Llama or Qwen2, "
            "or set rope_scaling_type=None."
        )
    sets = sorted(name for name, value in rope.items() if isinstance(value, dict))
    if sets:
        raise HyLoRADAError(
            f"this {family!r} model has rotary angles of its own for each of {', '.join(sets)}, and one factor is not "
            "for all; use a base with a single set, or set rope_scaling_type=None."
        )
    already = rope.get("rope_type", rope.get("type", "default"))
    if already != "default":
        raise HyLoRADAError(
            f"this base model's rotary angles are scaled already (rope_type={already!r}); use a base with "
            "rope_type='default', or set rope_scaling_type=None."
        )
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int):
        raise HyLoRADAError(
            f"this {family!r} model states no max_position_embeddings, the context that RoPE scaling starts from; set "
            "it in the base's config to the tokens the base was trained on, or set rope_scaling_type=None."
        )
    scaled = copy.deepcopy(config)
    own = {key: value for key, value in rope.items() if key != "type"}  # the old name of rope_type
    scaled.rope_parameters = own | {"rope_type": scaling_type, "factor": factor}
    if scaling_type == "yarn":
        scaled.rope_parameters["original_max_position_embeddings"] = context
        scaled.max_position_embeddings = int(factor * context)
    return scaled


def _find_rotaries(base_model: PreTrainedModel, config: PreTrainedConfig) -> dict[str, nn.Module]:
    """Return the rotary modules made from `config` by name; one that is reached by two names stands under both."""
    rotaries = {
        name: module
        for name, module in base_model.named_modules(remove_duplicate=False)
        if isinstance(getattr(module, "inv_freq", None), Tensor) and getattr(module, "config", None) is config
    }
    if not rotaries:
        raise HyLoRADAError(
            f"no rotary module was found in this {config.model_type!r} model, so RoPE scaling cannot act; use a base "
            "such as Llama or Qwen2, or set rope_scaling_type=None."
        )
    return rotaries


def _rebuild(old: nn.Module, config: PreTrainedConfig, scaled: PreTrainedConfig) -> nn.Module:
    """Return a module like `old`, on its device, made from `scaled` (HyLoRADAError unless its angles follow)."""
    wanted = dict(scaled.rope_parameters)
    beyond = torch.tensor([[2 * config.max_position_embeddings]])  # where every type acts, dynamic too
    try:
        plain, tried, new = (type(old)(config=made_from) for made_from in (copy.deepcopy(config), scaled, scaled))
        for rotary in (plain, tried):
            rotary(torch.zeros(1, 1, 1), beyond)
        same = torch.equal(tried.inv_freq, plain.inv_freq) and tried.attention_scaling == plain.attention_scaling
        if same or tried.inv_freq.shape != plain.inv_freq.shape or scaled.rope_parameters != wanted:
            raise ValueError("its angles do not follow the configuration")
    except Exception as error:  # whatever the constructor of a family may raise
        raise HyLoRADAError(
            f"the {type(old).__name__} of this model cannot be rebuilt for rope_scaling_type={wanted['rope_type']!r} "
            f"({error}); use another type or base, or set rope_scaling_type=None."
        ) from error
    return new.to(old.inv_freq.device).train(old.training)


def _is_scaled(module: nn.Module) -> bool:
    return hasattr(module, "unscaled_config")


def _forget_earlier_passes(rotary: nn.Module, decoder: nn.Module) -> None:
    """Make the angles of a dynamic rotary module depend on the running pass alone, or raise where they cannot.

    transformers itself compares lengths on every call; the hooks look at what it did and add no wait for the device.
    """
    rotary.goes_on = False
    rotary.hooks = [decoder.register_forward_pre_hook(partial(_note_cache, rotary), with_kwargs=True)]
    rotary.register_forward_pre_hook(_reset)
    rotary.register_forward_hook(_refuse_mixed_angles)


def _note_cache(rotary: nn.Module, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    named = dict(zip(inspect.signature(decoder.forward).parameters, args, strict=False)) | kwargs
    cache = named.get("past_key_values")
    rotary.goes_on = cache is not None and cache.get_seq_length() > 0


def _reset(rotary: nn.Module, args: tuple) -> None:
    rotary.inv_freq, rotary.max_seq_len_cached = rotary.original_inv_freq, rotary.original_max_seq_len


def _refuse_mixed_angles(rotary: nn.Module, args: tuple, output: Any) -> None:
    if rotary.inv_freq is not rotary.original_inv_freq and rotary.goes_on:  # grown beyond the trained context
        raise HyLoRADAError(
            "dynamic RoPE scaling cannot go on from a cache beyond the trained context of "
            f"{rotary.original_max_seq_len} tokens, for the cached keys were turned by other angles; generate with "
            "use_cache=False, or use 'linear' or 'yarn'."
        )
