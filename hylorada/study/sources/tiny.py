"""Tiny random models of two families, and a tokenizer with one token a byte: enough to run everything in seconds."""

from collections.abc import Callable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

END = "<|end|>"  # the one token that is no byte; its id is 256
VOCABULARY = 257
INITIAL_STD = 0.1  # five times the usual: with the usual, all next tokens are as good as equally likely


def byte_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """A tokenizer without merges: UTF-8 bytes are the ids 0 to 255, so any text comes back as it was."""
    backend = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(_letters())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        bos_token=END,
        pad_token=END,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def llama_config(hidden: int, layers: int, heads: int, context: int) -> LlamaConfig:
    """Rotary positions, and one key-value head for two query heads, as in many models in use."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=INITIAL_STD,
        bos_token_id=256,
        eos_token_id=256,
    )


def gpt2_config(hidden: int, layers: int, heads: int, context: int) -> GPT2Config:
    """Learned positions and fused, transposed projections; no dropout, so that a pass can be repeated."""
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=hidden,
        n_layer=layers,
        n_head=heads,
        n_positions=context,
        initializer_range=INITIAL_STD,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=256,
        eos_token_id=256,
    )


CONFIGS: dict[str, Callable[[int, int, int, int], PreTrainedConfig]] = {"llama": llama_config, "gpt2": gpt2_config}


def random_model(config: PreTrainedConfig, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A bfloat16 model with weights drawn from `seed` (the caller's generator is left alone), and its tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model, byte_tokenizer(config.max_position_embeddings)


def _letters() -> list[str]:
    """The printable stand-in of each byte that byte-level tokenizers share; unprintable bytes move above 255."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]
