"""Weights of any origin become one form: bfloat16 safetensors with their tokenizer, complete and tied as they were.

Only safetensors and GGUF are read; pickled weights are refused and code that comes with a model is never run.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hylorada.errors import HyLoRADAError
from hylorada.files import as_new
from hylorada.load import check_config
from hylorada.reading import in_one_line
from hylorada.study.sources import hub

OLD_CONSTANT = ".masked_bias"  # what attention once added to hidden places; in older checkpoints, such as distilgpt2's


def from_gguf(gguf: Path, folder: Path, expected: Mapping[str, Any], progress: bool) -> dict[str, Any]:
    """Dequantise a GGUF file into `folder`. Raises when a key is missing, or it is not as expected (see `describe`)."""
    with _quiet(progress):
        model = _load(gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True))
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
        )
        facts = describe(model)
        if any(facts[key] != value for key, value in expected.items()):
            raise HyLoRADAError(f"{gguf.name} gave a model with {facts}; pinned is {dict(expected)}.")
    return save(model, tokenizer, folder, progress)


def from_folder(source: Path, folder: Path, progress: bool) -> dict[str, Any]:
    """Copy a local model into `folder` as bfloat16. Raises when it has no safetensors, config or tokenizer."""
    if not (source / "config.json").is_file():
        raise HyLoRADAError(f"{source} holds no config.json, so it is no model; give the folder that has one.")
    if not list(source.glob("*.safetensors")):
        pickled = sorted(path.name for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in source.glob(ending))
        reason = f"pickled weights ({', '.join(pickled)}), which can run code" if pickled else "no weights"
        raise HyLoRADAError(f"{source} holds {reason}; save the model as safetensors (save_pretrained does).")
    if quantisation := check_config(source).get("quantization_config"):
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
        raise HyLoRADAError(f"the weights in {source} are quantised ({method}); give those that they were made from.")
    with _quiet(progress):
        with _told(f"{source}/config.json cannot be used"):  # all else reads it first, and would be blamed
            AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        model = _load(source)
        with _told(f"{source} holds no readable tokenizer; save one beside the weights"):
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    return save(model, tokenizer, folder, progress)


def from_hub(repository: str, revision: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Copy a model of the hub at one commit into `folder` as bfloat16."""
    return from_folder(hub.model_snapshot(repository, revision), folder, progress)


def save(model: PreTrainedModel, tokenizer: Any, folder: Path, progress: bool) -> dict[str, Any]:
    """Write config, one safetensors file and the tokenizer into `folder`; return `describe(model)`."""
    with _quiet(progress):
        try:
            model.save_pretrained(folder, max_shard_size="1TB")  # one file, whatever the size
            tokenizer.save_pretrained(folder)
            for path in folder.glob("*.safetensors"):
                as_new(path)
        except SafetensorError as error:
            raise HyLoRADAError(f"the weights could not be written ({error}); is the disk full?") from error
    return describe(model)


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters, context (tokens; None when the config sets none), whether embeddings are tied, and model type."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "context": getattr(model.config, "max_position_embeddings", None),
        "tied_embeddings": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
        "model_type": model.config.model_type,
    }


def _load(source: Path, **how: Any) -> PreTrainedModel:
    """Load in bfloat16 by `dtype`, which leaves buffers such as the rotary frequencies in float32."""
    with _told(f"the model in {source} could not be loaded"):
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.bfloat16,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with what else does not fit
            **how,
        )
    report["unexpected_keys"] = {key for key in report["unexpected_keys"] if not key.endswith(OLD_CONSTANT)}
    if wrong := {kind: sorted(keys) for kind, keys in report.items() if keys}:
        raise HyLoRADAError(f"the weights in {source} do not fit their config: {wrong}.")
    return model


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say on one line what failed, and of what; the errors of what lies in a folder of any origin share no class."""
    try:
        yield
    except Exception as error:
        raise HyLoRADAError(f"{what} ({type(error).__name__}): {in_one_line(error, 300)}") from error


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Silence transformers' bars where ours are off, and its notes on loading in any case."""
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    if not (progress and sys.stderr.isatty()):
        transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
