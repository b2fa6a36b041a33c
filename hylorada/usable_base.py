"""What a base model must be for an adapter to act in it: a causal language model, whole in memory, not adapted yet."""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError

SHARED_PARTS = ("position_bias_enabled", "landmark_enabled", "daa_enabled", "sparse_enabled")  # made on one device

OTHER_LOSSES = {  # by `model_type`, of what transformers counts among causal language models
    "cpmant": "scores each token at its own place, after a prompt of its own",
    "xlm": "scores each token at its own place and not at the one before",
    "xlnet": "guesses tokens from both sides",
}


def check_base(base_model: Any, config: HyLoRADAConfig) -> None:
    """Hold a base model to what an adapter of this configuration needs.

    Raises:
        HyLoRADAError: it is no causal language model, or was not loaded as one, is adapted already, here or by PEFT,
            lies in part elsewhere than in memory, or on several devices while a part is to act on all of them.
    """
    if hasattr(base_model, "hylorada_config"):  # by what it has: its module imports this one
        raise HyLoRADAError(
            "a HyLoRADAModel is adapted already, and an adapter on it would be saved without the first; give a fresh "
            "base, or what merge_and_unload() or unload() returns."
        )
    if isinstance(base_model, nn.Module) and _holds_pefts_layers(base_model):
        raise HyLoRADAError(
            "this base model holds PEFT's layers, which an adapter saved here would not bring; give a fresh base, "
            "or what PEFT's merge_and_unload() returns (import_peft reads a folder that PEFT saved)."
        )
    if not isinstance(base_model, PreTrainedModel) or base_model.get_output_embeddings() is None:
        raise HyLoRADAError(f"a {type(base_model).__name__} is no causal language model; use AutoModelForCausalLM.")
    if base_model.config.is_encoder_decoder or not base_model.can_generate():
        raise HyLoRADAError(f"a {type(base_model).__name__} is no causal language model; use AutoModelForCausalLM.")
    if getattr(base_model, "is_adapted_by_hylorada", False):
        raise HyLoRADAError("this base model is adapted already; load a fresh one, or merge the first adapter.")
    _check_in_memory(base_model)
    _check_left_to_right(base_model)
    _check_one_device(base_model, [part for part in SHARED_PARTS if getattr(config, part)])


def require_numbers(base_model: nn.Module) -> None:
    """Raise HyLoRADAError for a model whose weights are shapes alone: it can be counted, and nothing else."""
    if any(weight.is_meta for weight in base_model.parameters()):
        raise HyLoRADAError(
            "the weights of this model are shapes without numbers (device 'meta'), enough to count parameters and no "
            "more; load it with from_pretrained."
        )


def _check_one_device(base_model: PreTrainedModel, parts: list[str]) -> None:
    devices = sorted({str(weight.device) for weight in base_model.parameters()})
    if len(devices) > 1 and parts:
        raise HyLoRADAError(
            f"this base model is spread over {' and '.join(devices)}, and parts of this adapter lie on one device; "
            f"load it with device_map={{'': {devices[-1]!r}}}, or set {', '.join(f'{part}=False' for part in parts)}."
        )


def _check_in_memory(base_model: PreTrainedModel) -> None:
    """Raise where weights are elsewhere; a model whose every weight is a shape alone is for counting, and may be."""
    tensors: dict[str, Tensor] = dict(base_model.named_parameters())
    absent = [name for name, tensor in tensors.items() if tensor.is_meta]
    if absent and (len(absent) < len(tensors) or any(hasattr(module, "_hf_hook") for module in base_model.modules())):
        raise HyLoRADAError(
            f"{len(absent)} weights of this base model are not in memory ({absent[0]} first), so nothing can be "
            "adapted there; load it whole, without offloading: device_map={'': 'cpu'} or one GPU."
        )


def _check_left_to_right(base_model: PreTrainedModel) -> None:
    """Raise where a token's score comes from itself or later ones; BERT's kin are asked, which can be either."""
    config, name = base_model.config, type(base_model).__name__
    if reason := OTHER_LOSSES.get(config.model_type):
        raise HyLoRADAError(f"a {name} {reason}, so nothing here would train it right; use another base model.")
    if getattr(config, "is_decoder", True) or base_model.device.type == "meta":
        return
    accelerators = [] if base_model.device.type == "cpu" else [base_model.device]
    firsts = []
    for last in (2, 3):
        with torch.no_grad(), torch.random.fork_rng(accelerators, device_type=base_model.device.type):
            torch.manual_seed(0)  # one dropout in both passes
            ids = torch.tensor([[1, 1, last]], device=base_model.device)
            firsts.append(decoder_of(base_model)(input_ids=ids)[0][:, 0])
    if not torch.equal(*firsts):
        raise HyLoRADAError(
            f"this {name} reads later tokens too, as its config says is_decoder=False; load it with "
            "from_pretrained(..., is_decoder=True)."
        )


def _holds_pefts_layers(base_model: Any) -> bool:
    tuners = sys.modules.get("peft.tuners.tuners_utils")  # who has such layers has imported it
    return tuners is not None and any(isinstance(m, tuners.BaseTunerLayer) for m in base_model.modules())
