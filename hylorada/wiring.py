"""The parts of an adapter in the modules of its base: put in, taken out, and told of each pass that runs.

Positions come from a hook on the decoder, once a pass: it derives ids from the padding mask and the cache, which the
base alone does not, and lets go of them when the pass ends. Activation checkpointing runs a block again long after the
pass; `recompute` gives the block the positions of its own pass then.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from hylorada import daa, guarded_base, rope, s2_attention
from hylorada.attention_interface import attention_name
from hylorada.build import Parts
from hylorada.config import HyLoRADAConfig
from hylorada.decoder import decoder_of, takes_positions
from hylorada.errors import HyLoRADAError
from hylorada.find import find_blocks, find_feed_forwards
from hylorada.idle import RunningSequence
from hylorada.landmark_redesigns import PerLayerLandmark, PooledLandmark
from hylorada.last_hidden_state import LastHiddenState
from hylorada.layer_choice import chosen_layers
from hylorada.pieces import Pieces
from hylorada.position_bias import AtPosition
from hylorada.positions import PositionIds
from hylorada.recompute import leave_as_it_was, take_positions_along
from hylorada.running_pass import (
    RunningPass,
    is_next_token,
    note_positions,
    positions_of,
    tokens_of,
    whole_positions,
)


class Wiring:
    """What is changed in a base model for as long as an adapter acts in it, and how to undo it.

    positions, running, sequence: what the parts are told of the pass that runs. parts: none until `put_in`.
    compile_pieces: for as long, the base's own pieces are compiled.
    """

    def __init__(self, base_model: PreTrainedModel, config: HyLoRADAConfig, compile_pieces: bool = False) -> None:
        self.base_model, self.config, self.parts = base_model, config, Parts()
        self.positions, self.running = PositionIds(), RunningPass(base_model.config)
        self.sequence = RunningSequence()
        self.compile_pieces, self._pieces = compile_pieces, Pieces()
        self._hooks: list[RemovableHandle] = []
        self._takes_positions = True
        self._checkpointing: list[nn.Module] = []  # modules that can run again in the backward pass
        self._trained_before = [p for p in base_model.parameters() if p.requires_grad]

    def scale_rope(self) -> None:
        """Turn rotary positions as the configuration says; nothing where it says nothing of them."""
        if self.config.rope_scaling_type is not None:
            rope.enable(self.base_model, self.config.rope_scaling_type, self.config.rope_scaling_factor)

    def put_in(self, parts: Parts) -> None:
        """Freeze the base and let the parts act in it, for good or until `give_back`."""
        self.base_model.requires_grad_(False)
        self.parts = parts
        self.attach(training=True)
        if self.config.gradient_checkpointing:
            _checkpoint_blocks(self.base_model)
        self.base_model.is_adapted_by_hylorada = True

    def give_back(self) -> None:
        """Leave the base as it was before, whatever of it has been changed by now."""
        self.detach()
        rope.disable(self.base_model)
        for parameter in self._trained_before:
            parameter.requires_grad_(True)
        self.release()

    def release(self) -> None:
        """Let the base be adapted anew, and keep its activations where they were recomputed."""
        if self.config.gradient_checkpointing and self.base_model.is_activation_checkpointing:
            self.base_model.activation_checkpointing_disable()
            self.base_model.disable_input_require_grads()
        self.base_model.is_adapted_by_hylorada = False

    def attach(self, training: bool) -> None:
        """Set the parts' layers into the base, in training mode or not, and hook everything else to it."""
        parts, decoder = self.parts, decoder_of(self.base_model)
        if self.compile_pieces:
            self._pieces.swap_in(self.base_model)
        for name, layer in parts.layers.items():
            layer.train(training)  # the base may have been switched while they were out
            self.base_model.set_submodule(name, layer)
        self._hooks = [
            decoder.register_forward_pre_hook(self._begin_pass, with_kwargs=True),
            decoder.register_forward_hook(self._end_pass),
        ]
        self._takes_positions = takes_positions(decoder)
        self._checkpointing = [module for module in decoder.modules() if hasattr(module, "gradient_checkpointing")]
        self._group_attention()
        if parts.daa is not None:  # around what S²-Attn does
            daa.enable(self.base_model, parts.daa)
        if parts.position_bias is not None and not self.config.lora_enabled:  # no adapted layer applies it
            scale = AtPosition(parts.position_bias, self.positions)
            targets = chosen_layers(self.base_model, self.config)
            self._hooks += [layer.register_forward_hook(partial(_after, scale)) for layer in targets.values()]
        if parts.sparse is not None:
            blocks = zip(find_feed_forwards(decoder), parts.sparse, strict=True)
            self._hooks += [block.register_forward_hook(partial(_after, part)) for block, part in blocks]
        self._hooks += self._hook_landmark(decoder)
        self._hooks += LastHiddenState().attach(self.base_model)
        guarded_base.guard(self.base_model)
        if self.base_model.config.get_text_config() is not self.base_model.config:  # multimodal
            self._hooks.append(self.base_model.register_forward_pre_hook(self._begin_call, with_kwargs=True))

    def detach(self) -> None:
        """Take out what `attach` put in (HyLoRADAError where other attention has come into its place)."""
        daa.disable(self.base_model)  # these two may refuse, so they come first
        s2_attention.disable(self.base_model)
        self._pieces.swap_out()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        leave_as_it_was(self.base_model.modules())
        for name, layer in self.parts.layers.items():
            self.base_model.set_submodule(name, layer.base_layer)
        guarded_base.release(self.base_model)

    def _group_attention(self) -> None:
        if not self.config.s2_attn_enabled:
            return
        group_size, context = self.config.s2_group_size, rope.usable_context(self.base_model.config) or math.inf
        if group_size >= context:
            raise HyLoRADAError(
                f"s2_group_size={group_size} holds the whole context of {context} tokens, so "
                "S²-Attn would never act; use smaller groups, or set s2_attn_enabled=False."
            )
        s2_attention.enable(self.base_model, group_size, self.config.s2_sink_tokens)

    def _hook_landmark(self, decoder: nn.Module) -> list[RemovableHandle]:
        match landmark := self.parts.landmark:
            case None:
                return []
            case PerLayerLandmark():  # a block's own hook is outside activation checkpointing: it runs once a pass
                pairs = enumerate(zip(find_blocks(decoder), landmark, strict=True))
                return [b.register_forward_hook(partial(self._leave_pooled, part, slot)) for slot, (b, part) in pairs]
            case PooledLandmark():
                return [self._final_norm().register_forward_hook(partial(self._leave_pooled, landmark, 0))]
            case _:
                return [self._final_norm().register_forward_hook(self._leave_final_norm)]

    def _final_norm(self) -> nn.Module:
        return self.base_model.get_submodule(self.parts.landmark_place)

    def _begin_call(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Count positions before a multimodal model makes masks of its own, which no longer tell them."""
        names = inspect.signature(model.forward).parameters
        kwargs = dict(zip(names, args, strict=False)) | kwargs
        if "position_ids" in names:
            kwargs["position_ids"] = positions_of(kwargs)
        return (), kwargs

    def _begin_pass(self, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        names = inspect.signature(decoder.forward).parameters
        kwargs = dict(zip(names, args, strict=False)) | kwargs
        self._check_attention()
        ids = positions_of(kwargs)
        self.positions.set(ids, len(tokens_of(kwargs)), partial(whole_positions, kwargs.get("attention_mask"), ids))
        if decoder.training and self.parts.position_bias is not None:
            take_positions_along(self._checkpointing, self.positions)
        if not torch.compiler.is_compiling():  # a graph keeps nothing
            self.sequence.begin_pass(is_next_token(kwargs), keeps=not decoder.training)
        if ids is not None and kwargs.get("attention_mask") is not None and self._takes_positions:
            kwargs["position_ids"] = ids  # without a mask the decoder counts as we do
        if isinstance(self.parts.landmark, PooledLandmark | PerLayerLandmark):
            self.running.begin(kwargs, decoder.training)
        return (), kwargs

    def _end_pass(self, *call: Any) -> None:
        self.running.end()
        if not torch.compiler.is_compiling():
            note_positions(call[-1], self.positions.held.ids)
            self.sequence.end_pass()
        self.positions.set(None)

    def _check_attention(self) -> None:
        """Raise where the attention that the adapter set up was exchanged for another."""
        wanted = daa.NAME if self.parts.daa is not None else s2_attention.NAME
        current = attention_name(self.base_model)
        if (self.parts.daa is not None or self.config.s2_attn_enabled) and current != wanted:
            raise HyLoRADAError(
                f"the attention of this model was set to {current!r} after it was adapted, and {wanted!r} does not act "
                f"there; set it before, or back to {wanted!r}."
            )

    def _leave_final_norm(self, norm: nn.Module, args: tuple, hidden: Tensor) -> Tensor:
        return self.parts.landmark(hidden, self.positions.get())

    def _leave_pooled(self, part: PooledLandmark, slot: int, *call: Any) -> Tensor | tuple:
        output = call[-1]  # of (module, arguments, output)
        if isinstance(output, tuple):  # a block may return more than states; they come first
            return self._pooled(part, slot, output[0]), *output[1:]
        return self._pooled(part, slot, output)

    def _pooled(self, part: PooledLandmark, slot: int, hidden: Tensor) -> Tensor:
        if part.causal:
            return part(hidden, *self.running.look_back(hidden, slot))
        if self.running.past:
            raise HyLoRADAError(
                "landmark_pooling='sequence' sees the whole sequence, future included, and cannot go on from a cache; "
                "generate with use_cache=False, or use 'causal'."
            )
        return part(hidden, hidden, self.running.real(hidden))


def _after(part: Callable[[Tensor], Tensor], module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    return part(output)


def _checkpoint_blocks(base_model: PreTrainedModel) -> None:
    try:
        base_model.activation_checkpointing_enable()  # recomputes blocks, non-reentrant
    except ValueError as error:
        raise HyLoRADAError(
            f"a {type(base_model).__name__} cannot recompute its blocks; set gradient_checkpointing=False."
        ) from error
