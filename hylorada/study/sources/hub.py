"""Models and data sets of the hub at one commit: downloaded into the hub's cache, or found there without a network.

With and without a network the way is one: the files lie in a snapshot folder of the cache and are read from there.
(`datasets.load_dataset` does not find what lies there without a network, and may take another commit's data instead.)
"""

from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError, near
from hylorada.reading import read_text, read_yaml, reading
from hylorada.study.sources.split_files import ENDINGS, SplitFiles, check_shards, find_files
from hylorada.study.sources.splits import SPLITS

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
CARD = "README.md"  # of a data set; it may say which files are of which configuration and split


def model_snapshot(repository: str, revision: str) -> Path:
    """Return the folder of a model's config, safetensors and tokenizer, without its sub-folders (other formats)."""
    return _snapshot("model", repository, revision, allow_patterns=list(MODEL_FILES), ignore_patterns=["*/*"])


def data_set_files(repository: str, configuration: str | None, revision: str) -> dict[str, SplitFiles]:
    """Return the files of each split of one configuration of a data set, as its card lists them, else as they lie.

    Raises:
        HyLoRADAError: it cannot be reached, lacks the configuration or a split, or has files that are not read here.
    """
    where = f"the data set {repository} at {revision[:8]}"
    folder = _snapshot("data set", repository, revision, allow_patterns=[CARD])
    listed = _configurations(folder / CARD)
    chosen = configuration or ("default" if "default" in listed or len(listed) != 1 else next(iter(listed)))
    if listed and chosen not in listed:
        raise HyLoRADAError(
            f"{where} has no configuration {chosen!r}; give hub:{repository}:CONFIG@REVISION with a CONFIG of its own, "
            f"{near(chosen, listed)}"
        )
    entry = listed.get(chosen, {"data_dir": configuration})
    paths = _paths_by_split(entry)
    if not paths:  # nothing says which file is of which split but their names
        below = entry.get("data_dir") or "."
        _snapshot("data set", repository, revision, allow_patterns=[f"{below}/*"] if below != "." else None)
        if not (folder / below).is_dir():
            raise HyLoRADAError(f"{where} has no folder {below!r}; give a CONFIG that its page lists, or none.")
        return find_files(folder / below)
    if missing := [part for part in SPLITS if part not in paths]:
        raise HyLoRADAError(
            f"{where} has the splits {', '.join(paths)} and lacks {', '.join(missing)}; save three into a folder and "
            "give local:FOLDER."
        )
    _snapshot("data set", repository, revision, allow_patterns=[path for part in SPLITS for path in paths[part]])
    return {part: _found(folder, paths[part], f"{part} of {where}") for part in SPLITS}


def _snapshot(kind: str, repository: str, revision: str, **files: Any) -> Path:
    from huggingface_hub import snapshot_download

    try:
        repo_type = "model" if kind == "model" else "dataset"
        return Path(snapshot_download(repository, repo_type=repo_type, revision=revision, **files))
    except Exception as error:  # the hub's errors share no class, and their texts hold addresses
        raise HyLoRADAError(
            f"the {kind} {repository} at {revision[:8]} could not be downloaded ({type(error).__name__}): check its "
            "name and the network, or save it into a folder and give local:FOLDER."
        ) from error


def _configurations(card: Path) -> dict[str, dict[str, Any]]:
    """Return what a data set's card says of the files of each configuration; nothing without a card."""
    if not card.is_file():
        return {}
    _, rule, rest = read_text(card).partition("---\n")
    described = read_yaml(card, rest.partition("\n---")[0]) if rule else None
    with reading(card, "card of a data set", "save the splits into a folder and give local:FOLDER"):
        entries = (described or {}).get("configs") or []
        return {str(entry["config_name"]): dict(entry) for entry in entries}


def _paths_by_split(entry: dict[str, Any]) -> dict[str, list[str]]:
    """Return the patterns of the files of each split that a card's entry names; strange ones name none."""
    listed = entry.get("data_files", [])
    named = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    paths = {each.get("split"): each.get("path") for each in named}
    of_split = {part: [path] if isinstance(path, str) else path for part, path in paths.items()}
    return {
        part: patterns
        for part, patterns in of_split.items()
        if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns)
    }


def _found(folder: Path, patterns: list[str], where: str) -> SplitFiles:
    paths = tuple(path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file())
    if not paths or any(path.suffix not in ENDINGS for path in paths):
        there = ", ".join(path.name for path in paths) or "none"
        raise HyLoRADAError(
            f"{where} should be {', '.join(patterns)}, and there is {there}: "
            f"only {', '.join(ENDINGS)} are read; save its splits so into a folder and give local:FOLDER."
        )
    check_shards(paths)
    return SplitFiles(paths)
