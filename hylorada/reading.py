"""Files of any origin: each kind is read in one place, which tells in one line what is not of its kind.

What comes from outside fails in as many ways as its library has, so each reader below turns all of them into one
`HyLoRADAError` that names the file. Sizes that a file states are held to the file before memory is given to them.

`READERS` has them all: what is read, and by what.
"""

import json
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError

READERS = {  # what is read: the function (module:name) that alone does
    "JSON": "hylorada.reading:read_json",
    "text": "hylorada.reading:read_text",
    "YAML": "hylorada.reading:read_yaml",
    "NumPy archive": "hylorada.reading:read_arrays",
    "safetensors": "hylorada.checkpoint:read_tensors",
    "adapter": "hylorada.checkpoint:read_adapter",
    "PEFT adapter": "hylorada.peft_import:import_peft",
    "training state": "hylorada.training_state:load_state",
    "base model": "hylorada.load:load_base",
    "tokenizer": "hylorada.load:load_tokenizer",
    "fetched folder": "hylorada.fetched:hold_fetched",
    "corpus": "hylorada.study.sources.fetch:load_corpus",
    "texts of a user": "hylorada.study.sources.texts:read_files",
    "Wikipedia dump": "hylorada.study.sources.wiki:read_dump",
    "tokens": "hylorada.study.sources.tokens:read_tokens",
    "scale": "hylorada.study.plan.scales:load_settings",
    "record": "hylorada.study.plan.record:read_record",
    "scored tokens": "hylorada.nll:TokenNLL.load",
    "statements": "hylorada.study.claims.catalogue:load_catalogue",
    "judged statements": "hylorada.study.claims.judged:read_judged",
    "benchmark": "hylorada.study.results.cost:read_benchmark",
    "table": "hylorada.study.results.tables:read_csv",
}
LONGEST_DEFLATED = 1032  # bytes that one byte of deflate can stand for, and no more
MOST_NODES = 1_000_000  # of a YAML file once its aliases are written out; paper/claims.yaml has about 20,000


@contextmanager
def reading(path: Path | str, kind: str, advice: str) -> Iterator[None]:
    """Turn whatever a library raises over a file within a `with` block into one line.

    Raises:
        HyLoRADAError: anything was raised but an interrupt, or an error that is told in one line already.
    """
    try:
        yield
    except (HyLoRADAError, PermissionError):
        raise
    except FileNotFoundError:
        raise HyLoRADAError(f"{path} is not there; {advice}.") from None
    except BaseException as error:  # a panic of Rust code is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise HyLoRADAError(f"{path} is damaged, or no {kind} ({in_one_line(error)}); {advice}.") from error


@contextmanager
def told_of(path: Path | str) -> Iterator[None]:
    """Name the file in what its values are refused for (HyLoRADAError, of its kind) within a `with` block."""
    try:
        yield
    except HyLoRADAError as error:
        raise type(error)(f"{path}: {error}") from None


def in_one_line(error: BaseException, most: int = 200) -> str:
    """Return what an error says as one line of at most so many characters, its class where it says nothing."""
    told = " ".join(str(error).split())
    return told[:most] or type(error).__name__


def read_text(path: Path | str, advice: str = "make it again") -> str:
    """Read UTF-8, with a BOM in front or without.

    Raises:
        HyLoRADAError: the file is absent or is something else.
    """
    with reading(path, "text", advice):
        return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: Path | str, kind: Any = None, /, **kinds: Any) -> Any:
    """Read JSON. kind: of the value, as dict. kinds: of values that it must have by name, as `settings=dict`.

    Raises:
        HyLoRADAError: the file is absent, is no JSON, or its value is of another kind.
    """
    with reading(path, "JSON", "make it again, or check the path"):
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # some editors put a BOM in front
    if kinds or kind is not None:
        hold(value, path, kind or dict, **kinds)
    return value


def hold(value: Any, path: Path | str, kind: Any = dict, /, **kinds: Any) -> None:
    """Hold what was read to the kind, and to the names with their kinds of value, that it must have.

    Raises:
        HyLoRADAError: it has not.
    """
    if not isinstance(value, kind):
        raise HyLoRADAError(
            f"{path} holds a {type(value).__name__} where it should hold something else; make it again."
        )
    if lacking := [name for name, one in kinds.items() if name not in value or not isinstance(value[name], one)]:
        raise HyLoRADAError(f"{path} lacks {', '.join(lacking)}; make it again.")


def read_yaml(source: Path | str, text: str | None = None, loader: Any = None, advice: str = "correct it") -> Any:
    """Read YAML, of a file or of a text of that name. loader: of PyYAML, by default its safe one.

    Raises:
        HyLoRADAError: the file is absent or is no YAML, a value contains itself, or aliases make it larger than any
            that is meant.
    """
    import yaml

    given = read_text(source, advice) if text is None else text
    with reading(source, "YAML", advice):
        one = (loader or yaml.SafeLoader)(given)
        try:
            node = one.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > MOST_NODES:
                raise HyLoRADAError(f"{source} has aliases that stand for more than {MOST_NODES:,} values; {advice}.")
            return one.construct_document(node)
        finally:
            one.dispose()


def _size(node: Any, sizes: dict[int, int | None]) -> int:
    """Return how many values a YAML node is with its aliases written out (ValueError for one that contains itself)."""
    if id(node) in sizes:
        if (known := sizes[id(node)]) is None:
            raise ValueError("a value contains itself")
        return known
    sizes[id(node)] = None
    inside = node.value if isinstance(node.value, list) else []
    flat = [part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,))]
    total = sizes[id(node)] = 1 + sum(_size(part, sizes) for part in flat)
    return total


def read_arrays(path: Path | str, names: Collection[str], kind: str, advice: str) -> dict[str, Any]:
    """Read the arrays of an .npz file without pickle, which must be exactly those of these names.

    kind: what the file is called in an error.

    Raises:
        HyLoRADAError: the file is absent or damaged, holds other arrays, or states sizes that it cannot hold.
    """
    import numpy as np

    with reading(path, kind, advice), zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if set(members) != set(names) or len(members) != len(archive.infolist()):
            raise HyLoRADAError(f"{path} holds {sorted(members)}, not {sorted(names)}; {advice}.")
        if min(member.header_offset for member in members.values()) != 0:  # zipfile passes over what is not its own
            raise ValueError("something stands before its beginning")
        arrays = {}
        for name, member in members.items():
            if member.file_size > LONGEST_DEFLATED * member.compress_size + LONGEST_DEFLATED:
                raise ValueError(f"{name} states a size that it cannot have")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version](stream)
                if dtype.hasobject or math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                    raise ValueError(f"{name} states a size that it cannot have")
            with archive.open(member) as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays
