"""A digest of the code that a module depends on: what runs, and nothing that does not. Needs no torch."""

import ast
from collections.abc import Iterator
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
        tree = ast.parse(_source(name).read_text())
        queue.extend(_imports(tree))
        seen[name] = repr(_form(_without_docstrings(tree)))
    return sha256("\n".join(f"{name} {seen[name]}" for name in sorted(seen)).encode()).hexdigest()


def _source(name: str) -> Path:
    root = Path(__file__).parents[2]
    path = root.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            for (
                alias
            ) in node.names:  # `from hylorada import checkpoint` names a module, `from hylorada.nll import X` not
                inner = f"{node.module}.{alias.name}"
                yield inner if _source(inner).is_file() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)


def _form(node: Any) -> Any:
    """Return a syntax tree as nested tuples without empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return tuple(_form(item) for item in node)
    if not isinstance(node, ast.AST):
        return node
    filled = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return type(node).__name__, *((name, _form(value)) for name, value in filled)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
