"""Articles as token ids: made once per base model and corpus, so that a run needs neither corpus nor its library.

The file is a NumPy archive: per split the ids of all articles end to end and the length of each, the same of all
lines, each encoded alone as the published protocols do, and one end token.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hylorada.errors import HyLoRADAError
from hylorada.files import written_beside
from hylorada.reading import hold, read_arrays, reading
from hylorada.study.sources.lines import Lines, lines_of, select_lines
from hylorada.study.sources.splits import SPLITS

OF_LINES = ("characters", "stripped", "article")  # a number a line


@dataclass(frozen=True)
class LineTokens:
    """All lines of a split in order, blank ones too, each encoded alone.

    ids: all lines end to end. ends: (lines,) where each ends in it. characters, stripped: (lines,) lengths with and
    without the white space at the ends. article: (lines,) index of the article that a line is of.
    """

    ids: np.ndarray
    ends: np.ndarray
    characters: np.ndarray
    stripped: np.ndarray
    article: np.ndarray

    def __getitem__(self, line: int) -> np.ndarray:
        """Ids of one line, none for a blank one."""
        return self.ids[self.ends[line - 1] if line else 0 : self.ends[line]]


@dataclass(frozen=True)
class Tokens:
    """articles: per split a list of id arrays, one an article, without special tokens. end: id put between articles.

    lines: per split its lines. digest: SHA-256 of all of it. sources: identities of the base model and the corpus it
    was made from.
    """

    articles: dict[str, list[np.ndarray]]
    lines: dict[str, LineTokens]
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

    def protocol_lines(self, wanted: Lines) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ids of the lines that a protocol takes, and the article that each is of.

        Raises:
            HyLoRADAError: there are fewer than asked for.
        """
        lines = self.lines[wanted.split]
        taken = select_lines(wanted, lines.characters, lines.stripped)
        return [lines[int(line)] for line in taken], lines.article[taken]


def encode(tokenizer: Any, texts: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return the columns of a token file: articles and lines of every split; blank articles are dropped.

    A line of a dropped article counts to the article before it, or to the first.

    Raises:
        HyLoRADAError: a split has no text, or the tokenizer no end token to put between articles.
    """
    if tokenizer.eos_token_id is None:
        raise HyLoRADAError("the tokenizer has no end token to put between articles; take another base model.")
    columns: dict[str, np.ndarray] = {"end": np.array(tokenizer.eos_token_id)}
    for split in SPLITS:
        filled = [bool(text.strip()) for text in texts[split]]
        if not any(filled):
            raise HyLoRADAError(f"the {split} split has no text; take another corpus.")
        articles = [text for text, is_filled in zip(texts[split], filled, strict=True) if is_filled]
        of_article = np.maximum(np.cumsum(filled) - 1, 0)
        of_text = [lines_of([text]) for text in texts[split]]
        lines = [line for part in of_text for line in part]
        columns[f"{split}_ids"], columns[f"{split}_lengths"] = _ids(tokenizer, articles)
        columns[f"{split}_line_ids"], columns[f"{split}_line_lengths"] = _ids(tokenizer, lines)
        columns[f"{split}_line_characters"] = np.array([len(line) for line in lines])
        columns[f"{split}_line_stripped"] = np.array([len(line.strip()) for line in lines])
        columns[f"{split}_line_article"] = np.repeat(of_article, [len(part) for part in of_text])
    return columns


def write_tokens(path: Path, columns: dict[str, np.ndarray], sources: dict[str, Any]) -> None:
    """Write what `encode` gave, atomically; sources: the identities of base model and corpus."""
    named = columns | {"sources": np.array(json.dumps(sources, sort_keys=True))}
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **named)


def read_tokens(path: Path) -> Tokens:
    """Read what `write_tokens` wrote.

    Raises:
        HyLoRADAError: the file is absent, damaged or lacks a column.
    """
    of_split = ("ids", "lengths", "line_ids", "line_lengths", *(f"line_{what}" for what in OF_LINES))
    wanted = {"end", "sources"} | {f"{split}_{what}" for split in SPLITS for what in of_split}
    if not Path(path).is_file():
        raise HyLoRADAError(f"{path} is not there; run `hylorada tokens` first.")
    advice = "remove it and run `hylorada tokens`"
    columns = read_arrays(path, wanted, "token file", advice)
    with reading(path, "token file", advice):
        sources = json.loads(str(columns.pop("sources")))
        hold(sources, path)
        _check(columns)
    return _tokens(columns, sources)


def _check(columns: dict[str, np.ndarray]) -> None:
    """Hold the columns of a token file to one another (ValueError)."""
    if any(column.dtype.kind not in "iu" or column.ndim != (name != "end") for name, column in columns.items()):
        raise ValueError("its columns are no rows of whole numbers")
    for split in SPLITS:
        for ids, lengths in ((f"{split}_ids", f"{split}_lengths"), (f"{split}_line_ids", f"{split}_line_lengths")):
            sizes = columns[lengths]
            if not len(sizes) or sizes.min() < 0 or sizes.sum() != len(columns[ids]) or columns[ids].min(initial=0) < 0:
                raise ValueError(f"{lengths} do not fit {ids}")
        lines = {len(columns[f"{split}_line_{what}"]) for what in ("lengths", *OF_LINES)}
        if len(lines) > 1:
            raise ValueError(f"the columns of the lines of {split} are not equally long")


def _tokens(columns: dict[str, np.ndarray], sources: dict[str, Any]) -> Tokens:
    digest = sha256(b"".join(columns[name].astype(np.int64).tobytes() for name in sorted(columns))).hexdigest()
    articles = {
        split: np.split(columns[f"{split}_ids"].astype(np.int64), columns[f"{split}_lengths"].cumsum()[:-1])
        for split in SPLITS
    }
    lines = {
        split: LineTokens(
            columns[f"{split}_line_ids"].astype(np.int64),
            columns[f"{split}_line_lengths"].cumsum(),
            *(columns[f"{split}_line_{what}"] for what in OF_LINES),
        )
        for split in SPLITS
    }
    return Tokens(articles, lines, int(columns["end"]), digest, sources)


def _ids(tokenizer: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all texts end to end, without special tokens, and the length of each."""
    # verbose: whole articles exceed the model's context, which the tokenizer would warn of
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return np.concatenate(encoded).astype(np.int32), np.array([len(ids) for ids in encoded])
