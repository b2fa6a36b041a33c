"""The code corpus: source of Python's standard library, read from the interpreter that runs, split by a pinned list.

One article is one module, whole, titled with its dotted name; `data/code/split.yaml` says which module is in which
split and how that was chosen. Versions of Python differ in their text, so a digest of what was read names the content.
Nothing repeats: no two texts are equal, and of the long lines of a validation or test module at most `LARGEST_SHARE`
stand in training modules too.
"""

import hashlib
import platform
import sysconfig
import tokenize
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.sources.splits import SPLITS

LONG_LINE = 40  # characters without indentation; shorter lines (`else:`, `return self`) are alike in all code
LARGEST_SHARE = 0.05  # several times what licence headers and chance amount to, a fraction of what near-copies share
SHORTEST_MODULE = 1_000  # characters; every listed module had ten times as many when the list was made

ADVICE = "the corpus code needs every module of data/code/split.yaml, as a whole Python 3.11, 3.12 or 3.13 has them."

Columns = dict[str, list[str]]  # title and text, equally long


def read_modules(split: dict[str, list[str]]) -> dict[str, Columns]:
    """Read the listed modules: split -> columns `title` and `text`, in the list's order.

    Raises:
        HyLoRADAError: this Python has no source files, lacks a module or all but a stub of it, or one is undecodable.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    python = f"Python {platform.python_version()}"
    files = {title: _file(folder, title) for titles in split.values() for title in titles}
    absent = [title for title, path in files.items() if path is None]
    if len(absent) == len(files):
        raise HyLoRADAError(
            f"{python} keeps no source files of its standard library in {folder} (it may be zipped, or compiled "
            "alone); fetch the corpus code with a Python that has them."
        )
    if absent:
        raise HyLoRADAError(f"{python} lacks {_named(absent)} in {folder}; {ADVICE}")
    texts = {title: _read(title, path) for title, path in files.items() if path}
    if stubs := [title for title, text in texts.items() if len(text) < SHORTEST_MODULE]:
        raise HyLoRADAError(f"{python} has moved the source of {_named(stubs)} elsewhere; {ADVICE}")
    return {part: {"title": split[part], "text": [texts[title] for title in split[part]]} for part in SPLITS}


def digests(corpus: dict[str, Columns]) -> dict[str, str]:
    """Return the sha256 over all texts of each split."""
    return {part: hashlib.sha256("\x00".join(corpus[part]["text"]).encode()).hexdigest() for part in SPLITS}


def hold_apart(corpus: dict[str, Columns]) -> dict[str, float]:
    """Return, for validation and test, the largest share of a module's long lines that stand in train too.

    Raises:
        HyLoRADAError: two texts are equal, or a share exceeds LARGEST_SHARE.
    """
    texts = {part: dict(zip(corpus[part]["title"], corpus[part]["text"], strict=True)) for part in SPLITS}
    _require_all_different([pair for part in SPLITS for pair in texts[part].items()])
    trained = {line for text in texts["train"].values() for line in _long_lines(text)}
    largest = {}
    for part in ("validation", "test"):
        largest[part], worst = max((_share(text, trained), title) for title, text in texts[part].items())
        if largest[part] > LARGEST_SHARE:
            raise HyLoRADAError(
                f"{largest[part]:.1%} of the long lines of {worst}, in {part}, stand in training modules too, and at "
                f"most {LARGEST_SHARE:.0%} may; put it into one split with the modules that share them."
            )
    return largest


def _file(folder: Path, title: str) -> Path | None:
    path = folder.joinpath(*title.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _read(title: str, path: Path) -> str:
    try:
        with tokenize.open(path) as file:  # in the encoding that the file declares
            return file.read()
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise HyLoRADAError(f"the module {title} ({path}) cannot be read ({error}); install Python anew.") from error


def _require_all_different(texts: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}  # text -> title
    for title, text in texts:
        if text.strip() in seen:
            raise HyLoRADAError(f"the modules {seen[text.strip()]} and {title} have the same text; list one of them.")
        seen[text.strip()] = title


def _long_lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.split("\n")) if len(line) >= LONG_LINE]


def _share(text: str, trained: set[str]) -> float:
    lines = _long_lines(text)
    return sum(line in trained for line in lines) / max(len(lines), 1)


def _named(titles: list[str]) -> str:
    return ", ".join(titles[:5]) + (f" and {len(titles) - 5} more modules" if len(titles) > 5 else "")
