"""How many bytes and words scored tokens stand for: those of the text, also where tokens share out one character.

Decoding alone does not tell: a part of a character decodes to U+FFFD, three bytes whatever it stands for, and some
decoders strip the space in front of the first token that they get. So a run of tokens is as long as it makes the text
behind the token before it, and parts of characters count by the bytes that they are.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

UNREADABLE = "\ufffd"  # what bytes that are no character decode to
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")  # of tokenizers that fall back to bytes
LETTERS = frozenset(ByteLevel.alphabet())  # of byte-level tokenizers, each stands for one byte


def size_of_scored(ids: np.ndarray, scored: np.ndarray, tokenizer: Any, text: str | None = None) -> tuple[int, int]:
    """(UTF-8 bytes, words) that the scored tokens of a text stand for; special tokens stand for nothing.

    ids: all tokens. scored: the positions of those that are scored, in order. text: what they were encoded from; then
    its bytes count, whatever the tokenizer made of them (unknown signs, other forms of an accent), but for those of
    tokens without a score.
    """
    ids, is_scored = ids.tolist(), np.isin(np.arange(len(ids)), scored)
    if text is None:
        size = sum(_bytes_of_run(ids, *run, tokenizer) for run in _runs(is_scored))
    else:
        left_out = sum(_bytes_of_run(ids, *run, tokenizer) for run in _runs(~is_scored))
        text = _without_special_tokens(text, tokenizer)
        size = len(text.encode()) - left_out
        if not left_out:
            return size, len(text.split())
    return size, len(_decoded([ids[i] for i in scored], tokenizer).split())


def _runs(wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    yield from edges.reshape(-1, 2).tolist()


def _bytes_of_run(ids: Sequence[int], begin: int, end: int, tokenizer: Any) -> int:
    first = max(begin - 1, 0)
    return _bytes(ids[first:end], tokenizer) - _bytes(ids[first:begin], tokenizer)


def _bytes(ids: Sequence[int], tokenizer: Any) -> int:
    text = _decoded(ids, tokenizer)
    if UNREADABLE not in text:
        return len(text.encode())
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    kind = b"" if decoder is None else decoder.__getstate__()  # its description in JSON
    added = tokenizer.added_tokens_decoder if kind else {}
    ids = [i for i in ids if not (i in added and added[i].special)]
    tokens = tokenizer.convert_ids_to_tokens(ids) if kind else []
    if b'"ByteLevel"' in kind:
        own = [token for i, token in zip(ids, tokens, strict=True) if i not in added and LETTERS.issuperset(token)]
        others = [token for i, token in zip(ids, tokens, strict=True) if i in added or not LETTERS.issuperset(token)]
        return sum(map(len, own)) + sum(len(token.encode()) for token in others)
    if b'"ByteFallback"' in kind:
        return len(text.encode()) - (len(UNREADABLE.encode()) - 1) * _unreadable_bytes(tokens)
    return len(text.encode())


def _unreadable_bytes(tokens: Sequence[str]) -> int:
    """Return how many tokens a byte fallback decodes to U+FFFD each: all of a run of bytes that is no whole text."""
    count = 0
    for matches, run in groupby(map(BYTE_TOKEN.fullmatch, tokens), key=bool):
        held = bytes(int(match[1], 16) for match in run) if matches else b""
        try:
            held.decode()
        except UnicodeDecodeError:
            count += len(held)
    return count


def _without_special_tokens(text: str, tokenizer: Any) -> str:
    for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
        if token.special and i != tokenizer.unk_token_id:  # that one stands for text
            text = text.replace(token.content, "")
    return text


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
