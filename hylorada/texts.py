"""Texts as a user has them: a list, a column, rows of any kind of data set; what holds no texts is refused."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from hylorada.errors import HyLoRADAError, shown

WANTED = "give a list of str, or a data set, table or rows with a column 'text' of str; of several splits, one"


def texts_of(dataset: Any, count: int | None = None) -> list[str]:
    """Return the texts of a data set, the first `count` of them; no more of a stream is read.

    dataset: an iterable of str or of rows `{"text": ...}`; or what holds a column "text", such as a Hugging Face data
    set, a slice or a single row of it, or a DataFrame.

    Raises:
        HyLoRADAError: it is anything else, or `count` is no count.
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise HyLoRADAError(f"num_samples={count!r} is not possible; give 1 or more, or None for all texts.")
    if isinstance(dataset, str | bytes):
        raise HyLoRADAError(f"the dataset is one {type(dataset).__name__} ({shown(dataset)}); {WANTED}.")
    columns = _columns(dataset)
    column = dataset if columns is None else _column(dataset, columns)
    try:
        items = list(islice(column, count))
    except TypeError:
        raise HyLoRADAError(f"a {type(dataset).__name__} holds no texts; {WANTED}.") from None
    texts = [item.get("text") if isinstance(item, Mapping) else item for item in items]
    for item, text in zip(items, texts, strict=True):
        if not isinstance(text, str):
            raise HyLoRADAError(f"the dataset holds {shown(item)}, which is no text; {WANTED}.")
        if not is_unicode(text):
            raise HyLoRADAError(f"the dataset holds {shown(text)}: half a character, which is no Unicode text.")
    return [str(text) for text in texts]  # of a subclass, such as numpy's, plain ones


def is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: half a character, as JSON with a cut escape gives, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _columns(dataset: Any) -> list[str] | None:
    """Return the names of the columns (splits, keys) of what is not iterated row by row; None for all else."""
    if (names := getattr(dataset, "column_names", None)) is None:  # a stream may not know them before its first row
        names = dataset if isinstance(dataset, Mapping) else getattr(dataset, "columns", None)
    return None if names is None else [str(name) for name in names]


def _column(dataset: Any, columns: list[str]) -> Any:
    if columns.count("text") != 1:
        raise HyLoRADAError(f"the dataset has {columns} but no single column 'text'; {WANTED}.")
    column = dataset["text"]
    if isinstance(column, Mapping) or getattr(column, "columns", None) is not None:
        raise HyLoRADAError(f"'text' of the dataset is itself a {type(column).__name__}; {WANTED}.")
    return [column] if isinstance(column, str) else column
