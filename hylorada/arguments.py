"""What a user calls holds what it is given to its own signature, before anything else happens. Needs no torch.

A name that it does not have is answered with the nearest one, a value of another kind with the right kind, where the
annotation is of plain kinds alone (text, numbers, true or false, none) or of places (`Path`).
"""

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from errno import ENAMETOOLONG
from functools import cache, wraps
from numbers import Real
from operator import index
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hylorada.errors import HyLoRADAError, UnknownSettingError, near, nearest, shown
from hylorada.typed import IN_WORDS

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

CHECKED_KINDS = frozenset(IN_WORDS) | {Path}


def checked(also: Collection[str] = (), elsewhere: Mapping[str, str] | None = None) -> Callable[[Function], Function]:
    """Let a function, or the `__init__` of a class, hold its arguments to its signature, which stays what it was.

    also: names that its `**` arguments may have; without any, what it takes so is not its own matter. elsewhere: names
    that it has not, with where their matter is settled.

    It raises UnknownSettingError for a name that it has not, HyLoRADAError for a value of another kind.
    """

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        takes_any = not also and any(each.kind is each.VAR_KEYWORD for each in parameters)
        by_position = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        known = frozenset(names - {"self", "cls"} | set(also))
        called = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not takes_any and not kwargs.keys() <= known:
                check_names(kwargs, known, f"argument of {called}", elsewhere)
            kinds = _checked_kinds(function)
            for name, value in (*zip(by_position, args, strict=False), *kwargs.items()):
                if name in kinds and not _fits(value, kinds[name]):
                    raise HyLoRADAError(f"{name}={shown(value)} is not possible; give {_in_words(kinds[name])}.")
            return function(*args, **kwargs)

        call.keywords = known
        return call

    return decorate


def keywords_of(function: Callable[..., Any], *left_out: str) -> frozenset[str]:
    """Return the names that a checked function takes, less those left out: what may be passed on to it."""
    return function.keywords - set(left_out)


def named_settings(kind: str, elsewhere: Mapping[str, str], aliases: Mapping[str, str]) -> Callable[[Class], Class]:
    """Let the constructor of a dataclass, whose fields have kinds of their own to be checked by, do so for their names.

    kind: what its fields are called. elsewhere: as `checked`. aliases: second names of fields.

    The constructor raises UnknownSettingError for a name that is none, or a value without a name, and HyLoRADAError for
    a field under both its names.
    """

    def decorate(cls: Class) -> Class:
        make, known = cls.__init__, [field.name for field in fields(cls)] + list(aliases)

        @wraps(make)
        def __init__(self: Any, *unnamed: Any, **settings: Any) -> None:
            if unnamed:
                raise UnknownSettingError(f"{unnamed[0]!r} is given without a name; write {known[0]}=... and the like.")
            check_names(settings, known, f"{kind} setting", elsewhere)
            for alias in aliases.keys() & settings.keys():
                if aliases[alias] in settings:
                    raise HyLoRADAError(
                        f"{alias} and {aliases[alias]} are one setting, and both are given (a copy by `replace` holds "
                        f"{aliases[alias]} already); give {aliases[alias]} alone."
                    )
                settings[aliases[alias]] = settings.pop(alias)
            make(self, **settings)

        cls.__init__ = __init__
        return cls

    return decorate


def check_names(
    given: Iterable[str], known: Collection[str], what: str, elsewhere: Mapping[str, str] | None = None
) -> None:
    """Hold names to those that are known. what: what they are to be names of. elsewhere: as `checked`.

    Raises:
        UnknownSettingError: one is none of them, with the nearest ones, or where its matter is settled.
    """
    elsewhere = elsewhere or {}
    for name in given:
        if name in known:
            continue
        if name in elsewhere:
            told = f"{elsewhere[name]}."
        elif not nearest(name, known) and (meant := nearest(name, elsewhere)):
            told = f"did you mean {meant[0]!r}? {elsewhere[meant[0]]}."
        else:
            told = near(name, known)
        raise UnknownSettingError(f"{name!r} is no {what}; {told}")


@cache
def _checked_kinds(function: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """Return the kinds of the arguments that have checked ones alone; late, for a hint may name what comes after it."""
    found = {}
    for name, hint in get_type_hints(function).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if name != "return" and CHECKED_KINDS.issuperset(kinds):
            found[name] = kinds
    return found


def _fits(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Tell whether a value is of one of the kinds; numbers of other libraries are numbers."""
    if value is None or isinstance(value, bool):
        return type(value) in kinds
    if Path in kinds and isinstance(value, str | os.PathLike):
        return _is_place(os.fspath(value))
    if isinstance(value, str):
        return str in kinds
    return (float in kinds and isinstance(value, Real)) or (int in kinds and _is_whole(value))


def _is_place(path: str | bytes) -> bool:
    """Tell whether something could be there: a path is text, not empty, and no longer than the system takes."""
    if not isinstance(path, str) or not path:
        return False
    try:
        os.lstat(path)
    except ValueError:  # it holds a zero
        return False
    except OSError as error:
        return error.errno != ENAMETOOLONG
    return True


def _is_whole(value: Any) -> bool:
    try:
        index(value)
    except TypeError:
        return False
    return True


def _in_words(kinds: tuple[Any, ...]) -> str:
    words = [IN_WORDS[kind] for kind in kinds if kind is not Path and not (kind is str and Path in kinds)]
    return " or ".join(["a path"] * (Path in kinds) + words)
