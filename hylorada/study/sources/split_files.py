"""Which files of a local folder hold each split of a corpus.

A split is one file of rows (`train.txt`, `.jsonl` or `.parquet`), all of its shards as the hub names them
(`train-00000-of-00002.parquet`), or a sub-folder `train` with one article a .txt file. The three splits lie in the
folder itself or in one sub-folder, as the hub keeps the files of each configuration of a data set.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.sources.splits import SPLITS

ENDINGS = (".txt", ".jsonl", ".parquet")
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\..*)")


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split, in order: rows, or articles one a file."""

    paths: tuple[Path, ...]
    articles: bool = False


def find_files(folder: Path) -> dict[str, SplitFiles]:
    """Return the files of each split.

    Raises:
        HyLoRADAError: a split is absent, there in two forms, lacks a shard, or lies in several sub-folders.
    """
    place = _place(folder)
    by_split = {}
    for part in SPLITS:
        forms = _forms(place, part)
        if len(forms) != 1:
            raise HyLoRADAError(
                f"the folder {place} holds {'no' if not forms else 'more than one'} form of the split {part!r}; give "
                f"exactly one of {', '.join(part + ending for ending in ENDINGS)} (or all of its shards, named as "
                f"{part}-00000-of-00002.parquet) or {part}/ with .txt files."
            )
        by_split[part] = forms[0]
    return by_split


def flat(files: Mapping[str, SplitFiles]) -> list[Path]:
    """Return all files of all splits."""
    return [path for form in files.values() for path in form.paths]


def check_shards(paths: Sequence[Path]) -> None:
    """Hold the files of one split against their names: `-00000-of-00002` says that there are two.

    Raises:
        HyLoRADAError: one is missing, or there are those of two sets.
    """
    shards = [match for path in paths if (match := SHARD.fullmatch(path.name))]
    numbers, totals = sorted(int(match[2]) for match in shards), {int(match[3]) for match in shards}
    if shards and (len(shards) < len(paths) or len(totals) > 1 or numbers != list(range(totals.pop()))):
        raise HyLoRADAError(
            f"{paths[0].parent} does not hold all shards of one set and nothing else: there are "
            f"{', '.join(path.name for path in paths)}; bring what is missing, and remove what is of another set."
        )


def _place(folder: Path) -> Path:
    """Return the folder itself when it has a split, else the one sub-folder that does, else the folder."""
    if _has_split(folder):
        return folder
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and _has_split(path)]
    if len(inside) > 1:
        raise HyLoRADAError(
            f"the folder {folder} holds splits in each of {', '.join(path.name for path in inside)}; "
            f"give one of them, such as local:{inside[0]}."
        )
    return inside[0] if inside else folder


def _has_split(folder: Path) -> bool:
    return any(_forms(folder, part) for part in SPLITS)


def _forms(folder: Path, part: str) -> list[SplitFiles]:
    forms = [SplitFiles((path,)) for ending in ENDINGS if (path := folder / f"{part}{ending}").is_file()]
    for ending in ENDINGS:
        if shards := tuple(path for path in sorted(folder.glob(f"{part}-*{ending}")) if SHARD.fullmatch(path.name)):
            check_shards(shards)
            forms.append(SplitFiles(shards))
    if articles := tuple(sorted((folder / part).glob("*.txt"))):
        forms.append(SplitFiles(articles, articles=True))
    return forms
