"""What fits an annotation: JSON into frozen dataclasses, checked on the way, and back. Needs no torch."""

import sys
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hylorada.errors import HyLoRADAError, near, shown

LARGEST = 2**31 - 1  # what counts in libraries can hold
QUIET = {"quiet": True}  # metadata of a field that is not written while it has its default
IN_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "none"}


def read(kind: Any, value: Any, where: str) -> Any:
    """Return a value of JSON as a `kind`: a dataclass, list, tuple, dict, literal, union of these, or a plain type.

    where: what the value is called in an error. A whole number stands for a number, true is none; a field with a
    default may be absent.

    Raises:
        HyLoRADAError: a value of another kind, a field that is missing or not known, or what the dataclass refuses.
    """
    origin, arguments = _parts(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _read_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise _other(value, where, in_words(kind))
        return value
    if is_dataclass(kind):
        return _read_fields(kind, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise _other(value, where, "a list")
        if arguments[0] is float and set(map(type, value)) <= {int, float}:  # a record has thousands
            return origin(value)
        return origin(read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise _other(value, where, "names with values")
        return {name: read(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or isinstance(value, bool) != (kind is bool):
        raise _other(value, where, in_words(kind))
    if kind is float and abs(value) > sys.float_info.max and isinstance(value, int):
        raise _other(value, where, "a number that a computer can hold")
    return value


def check_kinds(settings: Any, *leave_out: str) -> None:
    """Hold every field of a dataclass to its annotation, but for those left out.

    Raises:
        HyLoRADAError: a field of another kind, with what it has and what it takes.
    """
    for name, kind in _kinds(type(settings)).items():
        if name in leave_out:
            continue
        value = getattr(settings, name)
        try:
            read(kind, value, name)
        except HyLoRADAError:
            raise HyLoRADAError(f"{name}={shown(value)} is of the wrong kind; give {in_words(kind)}.") from None


def check_size(name: str, value: int, most: int = LARGEST, least: int = 1) -> None:
    """Hold a count or a size to what can be (HyLoRADAError), before anything of that size is made."""
    if value < least:
        raise HyLoRADAError(f"{name}={shown(value)} is too small; use {least} or more.")
    if value > most:
        raise HyLoRADAError(f"{name}={shown(value)} cannot be; use {most} or less.")


def in_words(kind: Any) -> str:
    """Say what an annotation takes."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(in_words, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (list, tuple):
        return f"a list, each {in_words(arguments[0])}"
    if origin is dict:
        return "names with values" if arguments[1] is Any else f"names with values, each {in_words(arguments[1])}"
    return IN_WORDS.get(kind, "names with values")


def plain(value: Any) -> Any:
    """Return a dataclass, and all within it, as JSON can hold it; `read` reads it back."""
    if is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if not (field.metadata.get("quiet") and getattr(value, field.name) == field.default)
        }
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return the value as the first kind that it fits; what it lacks of the last one is told."""
    if value is None and NoneType in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not NoneType)
    for kind in others:
        try:
            return read(kind, value, where)
        except HyLoRADAError:
            continue
    return read(last, value, where)


def _read_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _other(value, where, "names with values")
    kinds = _kinds(kind)
    for name in value:
        if name not in kinds:
            raise HyLoRADAError(f"{where}: {name!r} is not known; {near(str(name), kinds)}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in value]:
        raise HyLoRADAError(f"{where} lacks {', '.join(missing)}.")
    return kind(**{name: read(kinds[name], item, f"{where}.{name}") for name, item in value.items()})


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    kinds = get_type_hints(kind)
    return {field.name: kinds[field.name] for field in fields(kind)}


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def _other(value: Any, where: str, wanted: str) -> HyLoRADAError:
    return HyLoRADAError(f"{where} is {shown(value)}, and not {wanted}.")
