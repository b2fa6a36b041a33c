"""What a source is, without fetching it: all that determines its content, and the folder that will hold it."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.files import sha256_of
from hylorada.reading import read_json
from hylorada.study.checkout import project_root
from hylorada.study.sources.registry import (
    CORPORA,
    MODELS,
    GgufModel,
    HubSource,
    LocalSource,
    SampleCorpus,
    StdlibCorpus,
    TinyModel,
    WikiCorpus,
    find_corpus,
    find_model,
    folder_name,
)
from hylorada.study.sources.split_files import SplitFiles, find_files, flat
from hylorada.study.sources.splits import SPLITS


def source_identity(kind: str, name: str) -> dict[str, Any]:
    """All that determines a source's content, without a download: checksums, the split, or the hub's commit.

    kind: "model" or "corpus". Local folders and the standard library are known by what their files hold and not by
    where they lie.
    """
    row = {"model": find_model, "corpus": find_corpus}[kind](name)
    match row:
        case GgufModel():
            content = {"name": name, "gguf_sha256": row.sha256, "dtype": "bfloat16"}
        case TinyModel():
            content = {"name": name, **_without_words(row)}
        case WikiCorpus():
            split, counts = pinned_split("wiki"), read_json(pinned_file("wiki", "counts.json"), dict)
            content = {"name": name, "dump_sha256": row.dump.sha256, "split_sha256": _sha256_of_value(split)}
            content["text_sha256"] = {part: counts[part]["text_sha256"] for part in SPLITS}
        case StdlibCorpus():
            from hylorada.study.sources import stdlib

            split = pinned_split("code")
            content = {"name": name, "split_sha256": _sha256_of_value(split)}
            content["text_sha256"] = stdlib.digests(stdlib.read_modules(split))
        case SampleCorpus():
            content = {"name": name, "split": _without_words(row)["split"]}
            content["files"] = file_digests(flat(sample_files(row)))
        case HubSource():
            content = _without_words(row)
        case LocalSource():
            content = {"files": file_digests(_local_files(kind, row.folder), row.folder)}
    return json.loads(json.dumps({"source": type(row).__name__, **content}))  # as it will read in source.json


def model_folder(name: str, data_dir: Path) -> Path:
    """Where `fetch_model` puts a model."""
    return Path(data_dir) / "models" / folder_name(name, MODELS)


def corpus_folder(name: str, data_dir: Path) -> Path:
    """Where `fetch_corpus` puts a corpus."""
    return Path(data_dir) / "corpora" / folder_name(name, CORPORA)


def _local_files(kind: str, folder: Path) -> list[Path]:
    if kind == "corpus":
        return flat(find_files(folder))
    endings = (".json", ".safetensors", ".txt", ".model", ".jinja")
    return [path for path in folder.iterdir() if path.suffix in endings]


def file_digests(files: list[Path], base: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of files by their names, or by their paths below `base`."""
    names = {path: path.relative_to(base).as_posix() if base else path.name for path in files}
    return {names[path]: sha256_of(path) for path in sorted(files)}


def _sha256_of_value(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _without_words(row: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key not in ("licence", "description")}


def pinned_split(corpus: str) -> dict[str, list[str]]:
    """Return which articles of a corpus are in which split, as its list in data/ says."""
    from hylorada.study.sources.wiki import read_split

    return read_split(pinned_file(corpus, "split.yaml"))


def pinned_file(corpus: str, file: str) -> Path:
    """Return where a list that pins a corpus lies."""
    return project_root() / "data" / corpus / file


def sample_files(row: SampleCorpus) -> dict[str, SplitFiles]:
    """Return the shipped texts of each split."""
    folder = project_root() / "data" / "sample"
    files = {part: tuple(folder / f"{stem}.txt" for stem in row.split[part]) for part in SPLITS}
    return {part: SplitFiles(paths, articles=True) for part, paths in files.items()}
