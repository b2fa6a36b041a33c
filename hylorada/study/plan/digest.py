"""A digest of the code that a module depends on: what runs, and nothing that does not. Needs no torch."""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

PACKAGE = "hylorada"


def code_digest(module: str) -> str:
    """Digest the syntax trees of `module` and of all modules of this package that it imports, directly or not.

    Comments, docstrings and layout do not count: only what runs does.
    """
    seen: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen[name], imports = _read(_source(name).read_text(encoding="utf-8"))
        queue.extend(_module(*names) for names in imports)
    return sha256("\n".join(f"{name} {seen[name]}" for name in sorted(seen)).encode()).hexdigest()


def _source(name: str) -> Path:
    root = Path(__file__).parents[2]
    path = root.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _module(module: str, name: str) -> str:
    """`from hylorada import checkpoint` names a module, `from hylorada.nll import X` not."""
    inner = f"{module}.{name}"
    return inner if name and _source(inner).is_file() else module


@cache  # a call of Snakemake digests many modules, which share most of what they import
def _read(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the form of a source, and what it imports of this package: a module, and a name in it or none."""
    imports: list[tuple[str, str]] = []
    return repr(_form(ast.parse(source), imports)), imports


def _form(node: Any, imports: list[tuple[str, str]]) -> Any:
    """Return a syntax tree as nested tuples without docstrings, and without empty fields.

    Which fields there are, empty ones apart, does not differ between versions of Python.
    """
    if isinstance(node, list):
        return tuple([_form(item, imports) for item in node])
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
        imports.extend((node.module, alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
        imports.extend((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE)
    elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and _has_docstring(node):
        del node.body[0]
    form = [type(node).__name__]
    for name in node._fields:
        value = getattr(node, name, None)
        if value is not None and value != []:
            form.append((name, _form(value, imports)))
    return tuple(form)


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
