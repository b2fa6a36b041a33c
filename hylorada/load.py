"""A base model and its tokenizer from a folder: safetensors alone, no code of its own, one line where it does not load.

A folder that was fetched is held to what was fetched, every file of it.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from hylorada.errors import HyLoRADAError
from hylorada.fetched import SOURCE_FILE, hold_fetched
from hylorada.reading import read_json, reading

MOST_LAYERS = 10_000  # of a model that is meant; each is made before any weight is read
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")  # as configurations call their number


def load_base(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return the causal language model of a folder in a dtype, in evaluation mode, on the processor.

    Raises:
        HyLoRADAError: there is no such model, it was changed since it was fetched, it lacks a weight (which would start
            at random), or it does not load without code of its own.
    """
    _hold(folder)
    logging.disable_progress_bar()  # a bar for a second of loading would bury the lines that tell how far it is
    how = dict(dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    with reading(folder, "causal language model", "fetch it again, or name another"):
        model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
    if missing := sorted(report["missing_keys"]):
        raise HyLoRADAError(f"{folder} lacks {len(missing)} weights of its config.json ({missing[0]}); save it whole.")
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder.

    Raises:
        HyLoRADAError: it has none, it was changed since it was fetched, or it does not load without code of its own.
    """
    _hold(folder)
    with reading(folder, "tokenizer", "fetch it again, or save one beside the weights"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def check_config(folder: Path) -> dict[str, Any]:
    """Return the configuration in a model's folder, where it can be one.

    Raises:
        HyLoRADAError: there is none, or it states more layers than can be.
    """
    if not (Path(folder) / "config.json").is_file():
        raise HyLoRADAError(f"{folder} is no model folder (no config.json); run `hylorada fetch`, or name one.")
    config = read_json(Path(folder) / "config.json")
    if not isinstance(config, dict):
        raise HyLoRADAError(f"{folder}/config.json holds no settings by name; give that of the weights.")
    for name in LAYERS:
        if isinstance(config.get(name), int) and config[name] > MOST_LAYERS:
            raise HyLoRADAError(f"{folder}: {name} of {config[name]:,} cannot be; up to {MOST_LAYERS:,} are read.")
    return config


def _hold(folder: Path) -> None:
    """Hold a folder to what was fetched into it, if it was, and to the configuration of a model."""
    if (Path(folder) / SOURCE_FILE).is_file():
        hold_fetched(folder)
    check_config(folder)
