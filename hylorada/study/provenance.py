"""Where a result comes from: a digest of the code it depends on, versions, hardware and git state. Needs no torch."""

import ast
import os
import platform
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hylorada

PACKAGE = "hylorada"
VERSIONED = ("torch", "transformers", "accelerate", "safetensors", "numpy")


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


def describe_machine() -> dict[str, Any]:
    """Return versions, processor, cores, threads and operating system, as plain values."""
    own = {"python": platform.python_version(), PACKAGE: hylorada.__version__}
    return {
        "versions": own | {name: version(name) for name in VERSIONED},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def git_state(root: Path) -> dict[str, Any]:
    """Return commit and whether tracked files differ from it; both None outside a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}


def _source(name: str) -> Path:
    root = Path(__file__).parents[1]
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


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
