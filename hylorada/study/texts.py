"""Texts of any origin become one form: a saved DatasetDict with the columns `title` and `text`.

A local folder holds either `train`, `validation` and `test` as .txt, .jsonl or .parquet files, or sub-folders of these
names with one article a .txt file. A single .txt file is read a row a line, blank lines too, as WikiText is kept;
.jsonl and .parquet need a column `text` and may have `title`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hylorada.errors import HyLoRADAError
from hylorada.study.registry import SPLITS

if TYPE_CHECKING:
    from datasets import DatasetDict

ENDINGS = (".txt", ".jsonl", ".parquet")
Columns = dict[str, list[str]]  # title and text, equally long
SplitFiles = Path | list[Path]  # one file of rows, or articles one a file


def save(corpus: "Mapping[str, Columns] | DatasetDict", folder: Path, progress: bool) -> dict[str, Any]:
    """Write the splits with `save_to_disk`; return their counts. Raises when a split has no text at all."""
    from datasets import Dataset, DatasetDict, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not isinstance(corpus, DatasetDict):
        corpus = DatasetDict({part: Dataset.from_dict(corpus[part]) for part in SPLITS})
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


def count(texts: Any) -> dict[str, int]:
    """Articles, characters and words (between white space) of one split."""
    sizes = [(len(text), len(text.split())) for text in texts]
    return {
        "articles": len(sizes),
        "characters": sum(characters for characters, _ in sizes),
        "words": sum(words for _, words in sizes),
    }


def find_files(folder: Path) -> dict[str, SplitFiles]:
    """The files of each split in a local folder. Raises when a split is absent or there in two forms."""
    found = {}
    for part in SPLITS:
        forms: list[SplitFiles] = [path for ending in ENDINGS if (path := folder / f"{part}{ending}").is_file()]
        if articles := sorted((folder / part).glob("*.txt")):
            forms.append(articles)
        if len(forms) != 1:
            raise HyLoRADAError(
                f"the folder {folder} holds {'no' if not forms else 'more than one'} form of the split {part!r}; give "
                f"exactly one of {', '.join(part + ending for ending in ENDINGS)} or {part}/ with .txt files."
            )
        found[part] = forms[0]
    return found


def flat(files: Mapping[str, SplitFiles]) -> list[Path]:
    """All files of all splits."""
    return [path for form in files.values() for path in (form if isinstance(form, list) else [form])]


def read_files(files: Mapping[str, SplitFiles]) -> dict[str, Columns]:
    """Read the files of each split; see the module for their forms."""
    return {part: _read_split(files[part]) for part in SPLITS}


def from_hub(repository: str, configuration: str | None, revision: str) -> "DatasetDict":
    """Load a data set of the hub at one commit, reduced to `title` (empty where there is none) and `text`."""
    from datasets import DatasetDict, load_dataset

    where = f"{repository} at {revision[:8]} on the hub"
    try:
        loaded = load_dataset(repository, configuration, revision=revision)
    except Exception as error:  # the hub's errors share no class, and their texts hold addresses
        raise HyLoRADAError(
            f"the data set {where} could not be loaded ({type(error).__name__}): check its name and the network, or "
            "save its splits into a folder and give local:FOLDER."
        ) from error
    if missing := [part for part in SPLITS if part not in loaded]:
        raise HyLoRADAError(
            f"{where} has the splits {', '.join(loaded)} and lacks {', '.join(missing)}; save three into a folder and "
            "give local:FOLDER."
        )
    return DatasetDict({part: _reduced(loaded[part], f"{part} of {where}") for part in SPLITS})


def _reduced(dataset: Any, where: str) -> Any:
    if "text" not in dataset.column_names:
        raise HyLoRADAError(f"{where} has no column 'text'; its columns are {', '.join(dataset.column_names)}.")
    if "title" not in dataset.column_names:
        dataset = dataset.add_column("title", [""] * len(dataset))
    return dataset.select_columns(["title", "text"])


def _read_split(form: SplitFiles) -> Columns:
    if isinstance(form, list):
        return {"title": [path.stem for path in form], "text": [_read_text(path).strip() for path in form]}
    if form.suffix == ".parquet":
        return _read_parquet(form)
    lines = _read_text(form).removesuffix("\n").split("\n")  # not splitlines: it cuts at U+2028 too
    if form.suffix == ".txt":
        return {"title": [""] * len(lines), "text": lines}
    try:
        return _columns([json.loads(line) for line in lines if line.strip()], form)
    except json.JSONDecodeError as error:
        raise HyLoRADAError(f"{form} does not hold one JSON object a line ({error}).") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise HyLoRADAError(f"{path} is not there; restore it.") from error
    except UnicodeDecodeError as error:
        raise HyLoRADAError(f"{path} is not UTF-8 ({error.reason}); convert it.") from error


def _read_parquet(path: Path) -> Columns:
    from pyarrow import ArrowInvalid, parquet

    try:
        return _columns(parquet.read_table(path).to_pylist(), path)
    except ArrowInvalid as error:
        raise HyLoRADAError(f"{path} is not a parquet file.") from error


def _columns(rows: list[dict[str, Any]], path: Path) -> Columns:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise HyLoRADAError(f"{path}: row {number} has no string in a column 'text'; columns: title, text.")
    return {"title": [str(row.get("title") or "") for row in rows], "text": [row["text"] for row in rows]}
