"""Texts of any origin become one form: a saved DatasetDict with the columns `title` and `text`, an article a row.

A .txt file of rows is read a row a line, blank lines too, as WikiText is kept; .jsonl and .parquet need a column `text`
and may have `title`. Which files a local folder may hold is said in `split_files`. Rows under WikiText's titles are
joined to articles (`wikitext`); in any other corpus a row is an article, a line of a plain .txt file too.
"""

import json
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.reading import reading
from hylorada.study.sources.split_files import SplitFiles
from hylorada.study.sources.splits import SPLITS
from hylorada.study.sources.wikitext import Columns, group_articles
from hylorada.texts import is_unicode

BOM = "\ufeff"  # that a row of its own file began with, before it became one of many
UNSEEN = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))  # marks of order, joints, soft hyphens
NO_ACCIDENT = 20  # words from which two texts are not alike by chance, as headings are


def save(columns: Mapping[str, Columns], folder: Path, progress: bool) -> dict[str, Any]:
    """Write the splits with `save_to_disk`; return their counts. Raises when a split has no text at all."""
    from datasets import Dataset, DatasetDict, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    corpus = DatasetDict({part: Dataset.from_dict(columns[part]) for part in SPLITS})
    counts = {part: count(corpus[part]["text"]) for part in SPLITS}
    if empty := [part for part in SPLITS if counts[part]["words"] == 0]:
        raise HyLoRADAError(f"no text in {', '.join(empty)}; each of {', '.join(SPLITS)} needs some.")
    bars = not are_progress_bars_disabled()
    if not (progress and sys.stderr.isatty()):
        disable_progress_bars()
    try:
        corpus.save_to_disk(str(folder))
    finally:
        if bars:
            enable_progress_bars()
    return {"counts": counts}


def hold_apart(columns: dict[str, Columns], name: str) -> dict[str, Columns]:
    """Return the splits of a corpus of the user's, none of whose longer texts is in two of them.

    White space, case, signs without a look and the form of accents make no other text.

    Raises:
        HyLoRADAError: a text of NO_ACCIDENT words or more is; what is scored must not have been trained on.
    """
    first: dict[str, str] = {}
    for part in SPLITS:
        for text in set(columns[part]["text"]):
            words = unicodedata.normalize("NFKC", text).translate(UNSEEN).casefold().split()
            if len(words) >= NO_ACCIDENT and first.setdefault(alike := " ".join(words), part) != part:
                raise HyLoRADAError(
                    f"{name}: a text is in {first[alike]} and in {part} ({' '.join(text.split()[:6])} ...); "
                    "keep it in one of them."
                )
    return columns


def count(texts: Any) -> dict[str, int]:
    """Articles, characters and words (between white space) of one split."""
    sizes = [(len(text), len(text.split())) for text in texts]
    return {
        "articles": len(sizes),
        "characters": sum(characters for characters, _ in sizes),
        "words": sum(words for _, words in sizes),
    }


def read_files(files: Mapping[str, SplitFiles]) -> dict[str, Columns]:
    """Read the files of each split; see the module for their forms."""
    return group_articles({part: _read_split(files[part]) for part in SPLITS})


def _read_split(form: SplitFiles) -> Columns:
    if form.articles:
        return {
            "title": [path.stem.encode(errors="surrogateescape").decode(errors="replace") for path in form.paths],
            "text": [_read_text(path).strip() for path in form.paths],
        }
    parts = [_read_rows(path) for path in form.paths]
    return {name: [value for part in parts for value in part[name]] for name in ("title", "text")}


def _read_rows(path: Path) -> Columns:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    lines = _read_text(path).removesuffix("\n").split("\n")  # not splitlines: it cuts at U+2028 too
    if path.suffix == ".txt":
        return {"title": [""] * len(lines), "text": lines}
    with reading(path, "JSON object a line", "correct it"):
        return _columns([json.loads(line) for line in lines if line.strip()], path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # a BOM in front is no text
    except FileNotFoundError as error:
        raise HyLoRADAError(f"{path} is not there; restore it.") from error
    except UnicodeDecodeError as error:
        raise HyLoRADAError(f"{path} is not UTF-8 ({error.reason}); convert it.") from error


def _read_parquet(path: Path) -> Columns:
    from pyarrow import parquet

    with reading(path, "parquet file", "save it again"):
        columns = parquet.read_schema(path).names
        if "text" not in columns:
            raise HyLoRADAError(
                f"{path} has no column 'text'; its columns are {', '.join(columns)}: save the splits into a folder, "
                "with the column renamed, and give local:FOLDER."
            )
        table = parquet.read_table(path, columns=[name for name in ("title", "text") if name in columns])
        try:
            return _columns(table.to_pylist(), path)
        except UnicodeDecodeError as error:
            raise HyLoRADAError(f"{path} holds text that is not UTF-8 ({error.reason}); convert it.") from error


def _columns(rows: list[dict[str, Any]], path: Path) -> Columns:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise HyLoRADAError(f"{path}: row {number} has no string in a column 'text'; columns: title, text.")
        if not all(is_unicode(str(row.get(name))) for name in ("title", "text")):
            raise HyLoRADAError(f"{path}: row {number} holds half a character, which is no Unicode text; mend it.")
    titles, texts = [str(row.get("title") or "") for row in rows], [row["text"] for row in rows]
    return {"title": [t.removeprefix(BOM) for t in titles], "text": [t.removeprefix(BOM) for t in texts]}
