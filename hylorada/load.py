"""A base model from a folder: safetensors alone, none of its own code, and one line where it does not load."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from hylorada.errors import HyLoRADAError


def load_base(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return the causal language model of a folder in a dtype, in evaluation mode, on the processor.

    Raises:
        HyLoRADAError: there is no such model, or it does not load without code of its own.
    """
    if not (folder / "config.json").is_file():
        raise HyLoRADAError(f"{folder} is no model folder (no config.json); run `hylorada fetch`, or name one.")
    logging.disable_progress_bar()  # a bar for a second of loading would bury the lines that tell how far it is
    how = dict(dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    try:
        return AutoModelForCausalLM.from_pretrained(folder, **how).eval()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HyLoRADAError(f"{folder} could not be loaded as a causal language model: {reason}") from error
