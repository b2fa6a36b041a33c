"""What transformers, TRL and others ask of a `PreTrainedModel`, where the model is a base with an adapter in it.

Tools tell a model from a bare module by its class: of what is no `PreTrainedModel` they save all tensors. So
`HyLoRADAModel` is one, and answers by its base: ANSWERED_BY_BASE lists what is read from the base and set on it,
ADAPTERS_OF_PEFT what is refused. Saving, loading and generating are the model's own; what else the class has
(`num_parameters`, `get_memory_footprint`, ...) looks at parameters and serves as it is.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from transformers import PreTrainedModel

from hylorada.checkpoint import SEAL, check_seal, describe_base
from hylorada.errors import HyLoRADAError
from hylorada.guarded_base import plain_class
from hylorada.states import check_some_train

ANSWERED_BY_BASE = (
    # what it is
    *("config", "generation_config", "name_or_path", "main_input_name", "input_modalities", "output_modalities"),
    *("can_generate", "model_tags", "add_model_tags", "warnings_issued", "is_remote_code"),
    # where it lies, and how that is spread
    *("device", "dtype", "hf_device_map", "hf_quantizer", "is_quantized", "quantization_method"),
    *("tp_size", "tp_plan", "ep_plan", "pp_plan", "fsdp_size", "fsdp_plan", "supports_tp_plan", "supports_pp_plan"),
    *("is_distributed_loading_by_transformers", "_no_split_modules", "_skip_keys_device_placement"),
    # what it minimises
    "loss_function",
    # its modules
    *("get_input_embeddings", "set_input_embeddings", "get_output_embeddings", "set_output_embeddings"),
    *("get_decoder", "set_decoder", "get_encoder", "set_encoder", "get_position_embeddings"),
    *("resize_token_embeddings", "resize_position_embeddings"),
    # how it computes
    *("activation_checkpointing_enable", "activation_checkpointing_disable", "is_activation_checkpointing"),
    *("gradient_checkpointing_enable", "gradient_checkpointing_disable", "is_gradient_checkpointing"),
    *("supports_gradient_checkpointing", "enable_input_require_grads", "disable_input_require_grads"),
    *("set_attn_implementation", "get_correct_attn_implementation", "supports_context_parallel", "use_kernels"),
    *("set_experts_implementation", "get_experts_implementation", "get_correct_experts_implementation"),
    *("prepare_inputs_for_generation", "get_compiled_call", "set_use_kernels", "is_backend_compatible"),
)
ADAPTERS_OF_PEFT = (
    *("peft_config", "load_adapter", "add_adapter", "set_adapter", "delete_adapter", "active_adapters"),
    *("enable_adapters", "disable_adapters", "get_adapter_state_dict", "enable_peft_hotswap"),
)

WITHOUT_EFFECT = ("max_shard_size", "safe_serialization", "save_function", "save_original_format", "save_peft_format")


class AsPretrained(PreTrainedModel):
    """A `PreTrainedModel` by the base model inside it, for which alone the class's own __init__ has run."""

    def __init__(self, base_model: PreTrainedModel) -> None:
        nn.Module.__init__(self)
        self.base_model = base_model  # a module, so it is registered and the property below returns it
        self.forward = MethodType(_with_arguments_of(base_model, type(self).forward), self)

    @property
    def base_model(self) -> PreTrainedModel:
        """The causal language model that is adapted, head included."""
        return self._modules["base_model"]

    @property
    def accepts_loss_kwargs(self) -> bool:
        """What the base's class says; where it says nothing, the signature of `forward` tells, which is the base's."""
        return plain_class(self.base_model).accepts_loss_kwargs

    @property
    def loss_type(self) -> str:
        """The base's, by which Trainer counts targets; where it has none (GPT-2), that of the loss it then takes."""
        return self.base_model.loss_type or "ForCausalLM"

    def _get_name(self) -> str:
        """The base's, by which Trainer knows a causal language model, whose labels a smoothed loss shifts."""
        return plain_class(self.base_model).__name__

    def __repr__(self) -> str:
        return type(self).__name__ + super().__repr__().removeprefix(self._get_name())

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        """The tensors that no checkpoint of an adapter holds, so that Trainer does not warn of them after loading."""
        return self.state_dict().keys() - self.adapter_tensors().keys()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of all gradients; trainers of transformers and TRL begin so to train, and never to evaluate.

        Raises:
            HyLoRADAError: nothing of the adapter trains, or more than it, as `trainable_parameters` says.
        """
        check_some_train(self.trainable_parameters())
        super().zero_grad(set_to_none)

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: what is tied in the base stays so, and an adapter's own tensors are tied by its layers."""

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load as torch does; with strict=False and no tensor of the base among them, these are an adapter, and whole.

        Raises:
            HyLoRADAError: an adapter's tensors, and one is missing, unknown or of another shape; or those of a
                checkpoint are not what was saved, or not of this model's settings and base.
        """
        if SEAL in state_dict:
            state_dict = dict(state_dict)
            given = state_dict.pop(SEAL)
            check_seal(given, self.hylorada_config.to_dict(), describe_base(self.base_model), state_dict)
        if strict or not (of_base := self._keys_to_ignore_on_save).isdisjoint(state_dict):
            return super().load_state_dict(state_dict, strict, assign)
        self.load_adapter_tensors(state_dict, "the checkpoint")
        return _IncompatibleKeys(sorted(of_base), [])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.forward = MethodType(_with_arguments_of(self.base_model, type(self).forward), self)

    def _replicate_for_data_parallel(self) -> nn.Module:
        raise HyLoRADAError(
            "nn.DataParallel copies modules apart from what they share, which an adapter does not survive; start one "
            "process a GPU (torchrun, accelerate launch), or show this process one (CUDA_VISIBLE_DEVICES=0)."
        )


class _AnsweredByBase:
    """An attribute or method of the base under its own name; setting it sets it there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, model: AsPretrained | None, owner: type) -> Any:
        return self if model is None else getattr(model.base_model, self.name)

    def __set__(self, model: AsPretrained, value: Any) -> None:
        setattr(model.base_model, self.name, value)


class _RefusedToPEFT:
    """What PEFT looks at before it puts layers of its own in."""

    def __get__(self, model: AsPretrained | None, owner: type) -> Any:
        if model is None:
            return self
        raise HyLoRADAError(
            "this model holds an adapter of hylorada already, and PEFT's layers would come into it; give PEFT a fresh "
            "base model, or the one that merge_and_unload() returns."
        )


for name in ANSWERED_BY_BASE:
    setattr(AsPretrained, name, _AnsweredByBase(name))
for name in ADAPTERS_OF_PEFT:
    setattr(AsPretrained, name, _RefusedToPEFT())


def _with_arguments_of(base_model: PreTrainedModel, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `plain`, a forward by names, as one that takes what the base takes, in its order, and says so.

    Each family has arguments of its own (GPT-2 `token_type_ids`); Trainer removes the columns that are not among them.
    """
    signature = inspect.signature(plain_class(base_model).forward)
    names = [name for name, each in signature.parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD][1:]

    @wraps(plain)
    def forward(self: AsPretrained, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(names, args, strict=False))
        return plain(self, *args[len(names) :], **named, **kwargs)  # Python refuses what is too many, or given twice

    forward.__signature__ = signature
    return forward
