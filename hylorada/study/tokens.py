"""Articles as token ids: made once per base model and corpus, so that a run needs neither corpus nor its library.

The file is a NumPy archive: per split the ids of all articles end to end and the length of each, and one end token.
"""

import json
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Tokens:
    """articles: per split a list of id arrays, one an article, without special tokens. end: id put between articles.

    digest: SHA-256 of all of it. sources: identities of the base model and the corpus it was made from.
    """

    articles: dict[str, list[np.ndarray]]
    end: int
    digest: str
    sources: dict[str, Any]

    def train_blocks(self, block_tokens: int, train_tokens: int | None) -> list[np.ndarray]:
        """Return blocks of `block_tokens` ids from the training articles, whole and end to end with end tokens between.

        With `train_tokens` they are that many tokens, taken at even distances so that all articles have a share.

        Raises:
            HyLoRADAError: the corpus has fewer blocks than asked for, or none.
        """
        stream = np.concatenate([np.append(ids, self.end) for ids in self.articles["train"]])
        whole = len(stream) // block_tokens
        count = whole if train_tokens is None else train_tokens // block_tokens
        if not 1 <= count <= whole:
            raise HyLoRADAError(
                f"the training text has {whole} blocks of {block_tokens} tokens and {count} are asked for; "
                "lower train_tokens or block_tokens, or take a longer corpus."
            )
        starts = [index * whole // count * block_tokens for index in range(count)]
        return [stream[start : start + block_tokens] for start in starts]

    def held_out(self, split: str, articles: int | None, tokens_per_article: int | None) -> list[np.ndarray]:
        """Return the beginnings of a split's first articles; None means all of them, and whole."""
        return [ids[:tokens_per_article] for ids in self.articles[split][:articles]]


def encode(tokenizer: Any, texts: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    """Return the ids of every article by split, without special tokens; blank articles are dropped.

    Raises:
        HyLoRADAError: a split has no text, or the tokenizer no end token to put between articles.
    """
    if tokenizer.eos_token_id is None:
        raise HyLoRADAError("the tokenizer has no end token to put between articles; take another base model.")
    articles = {}
    for split in SPLITS:
        filled = [text for text in texts[split] if text.strip()]
        if not filled:
            raise HyLoRADAError(f"the {split} split has no text; take another corpus.")
        # verbose: whole articles exceed the model's context, which the tokenizer would warn of
        articles[split] = tokenizer(filled, add_special_tokens=False, verbose=False)["input_ids"]
    return articles


def write_tokens(path: Path, articles: dict[str, list[list[int]]], end: int, sources: dict[str, Any]) -> None:
    """Write encoded articles by split, atomically; sources: the identities of base model and corpus."""
    columns: dict[str, np.ndarray] = {"end": np.array(end), "sources": np.array(json.dumps(sources, sort_keys=True))}
    for split in SPLITS:
        columns[f"{split}_ids"] = np.concatenate(articles[split]).astype(np.int32)
        columns[f"{split}_lengths"] = np.array([len(ids) for ids in articles[split]])
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **columns)


def read_tokens(path: Path) -> Tokens:
    """Read what `write_tokens` wrote.

    Raises:
        HyLoRADAError: the file is absent, damaged or lacks a split.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            columns = dict(archive)
    except FileNotFoundError:
        raise HyLoRADAError(f"{path} is not there; run `hylorada tokens` first.") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise HyLoRADAError(
            f"{path} is no readable token file ({error}); remove it and run `hylorada tokens`."
        ) from error
    wanted = {"end", "sources"} | {f"{split}_{what}" for split in SPLITS for what in ("ids", "lengths")}
    if set(columns) != wanted:
        raise HyLoRADAError(
            f"{path} holds {sorted(columns)}, not {sorted(wanted)}; remove it and run `hylorada tokens`."
        )
    sources = json.loads(str(columns.pop("sources")))
    digest = sha256(b"".join(columns[name].astype(np.int64).tobytes() for name in sorted(columns))).hexdigest()
    articles = {
        split: np.split(columns[f"{split}_ids"].astype(np.int64), columns[f"{split}_lengths"].cumsum()[:-1])
        for split in SPLITS
    }
    return Tokens(articles, int(columns["end"]), digest, sources)
