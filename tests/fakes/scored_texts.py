"""Texts of letters or of drawn ids, and stores of NLL as a test wants them."""

import random

import numpy as np
import pandas as pd
import torch
from bases import VOCABULARY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hylorada.nll import STORED, TokenNLL

EOS = VOCABULARY - 1


def letters() -> PreTrainedTokenizerFast:
    """One token a letter of the Latin alphabet, a newline, a space, "é" (two bytes) and an end of text."""
    signs = [*"abcdefghijklmnopqrstuvwxyz", "\n", " ", "é", "?"]
    core = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(signs)}, unk_token="?"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return tokenizer


def ids_of(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=length)


def slow_nll(model: torch.nn.Module, ids: list[int], target: int, begin: int) -> float:
    """-log p(ids[target] | ids[begin:target]), one forward over exactly that context."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[begin:target]])).logits[0, -1].float()
    return -logits.log_softmax(dim=-1)[ids[target]].item()


def store(nll: list[list[float]], **columns: np.ndarray) -> TokenNLL:
    """A store of texts with the given NLL of their scored tokens, token ids 0, 1, 0, ..., one byte a token."""
    text = np.repeat(np.arange(len(nll)), [len(values) for values in nll])
    position = np.concatenate([np.arange(1, len(values) + 1) for values in nll])
    sizes = [len(values) for values in nll]
    made = dict(text=text, article=text // 2, position=position, context=position, token_id=position % 2)
    made |= dict(nll=np.concatenate(nll), text_bytes=sizes, text_words=np.ceil(np.array(sizes) / 4))
    return TokenNLL(**(made | columns))


def random_store() -> TokenNLL:
    generator = np.random.default_rng(0)
    return store([generator.gamma(2, size=size) for size in (3, 130, 257, 12, 99, 98)])


def table(tokens: TokenNLL) -> pd.DataFrame:
    return pd.DataFrame({name: getattr(tokens, name) for name in STORED}).astype({"nll": float})
