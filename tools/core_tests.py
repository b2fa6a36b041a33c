"""Run the tests of the library alone on its wheel, in a new environment that holds nothing but what the wheel asks for.

`python tools/core_tests.py [PYTHON ...] [-- what pytest shall know]`: for each Python named, or for this one. A file of
tests is one of the library alone if it, and the fakes that it builds upon, import nothing but the library, what that
depends on, and pytest and hypothesis: no extra, no study, no checkout. It runs in a folder elsewhere.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from install import UV, options

ROOT = Path(__file__).resolve().parent.parent
FAKES = {path.stem: path for path in (ROOT / "tests" / "fakes").glob("*.py")}
CORE = {"hylorada", "torch", "transformers", "accelerate", "huggingface_hub"}
CORE |= {"safetensors", "tokenizers", "numpy", "yaml"}
TOOLS = ("pytest", "hypothesis")
BEYOND = ("hylorada.study", "hylorada.verbs", "hylorada.cli", "hylorada.bench")  # need a checkout, or an extra


def core_tests() -> list[Path]:
    """Return the files of tests of the library alone."""
    return [path for path in sorted((ROOT / "tests" / "method").glob("test_*.py")) if is_core(path)]


@cache
def is_core(path: Path) -> bool:
    """Tell whether a file of tests or of fakes needs the library alone."""
    for name in imported(path):
        top = name.partition(".")[0]
        if top in FAKES:
            if not is_core(FAKES[top]):
                return False
        elif name.startswith(BEYOND) or top not in CORE.union(TOOLS, sys.stdlib_module_names):
            return False
    return True


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def main(pythons: list[str], more: list[str]) -> int:
    """Test under each Python; return the first exit status that is not 0."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", UV], check=True)
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, encoding="utf-8").stdout
    for python in pythons:
        with TemporaryDirectory() as folder:
            place = Path(folder)
            source = place / "source"  # a copy, for a build leaves files beside what it builds
            shutil.copytree(ROOT / "hylorada", source / "hylorada", ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, source)
            build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
            subprocess.run([*pip, *build, source], check=True)
            subprocess.run([python, "-m", "venv", "--without-pip", place / "venv"], check=True)
            own = place / "venv" / "bin" / "python"
            install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own, *options(listed)]
            install += ["--index-strategy=unsafe-best-match", "--constraints", ROOT / "requirements.txt"]
            subprocess.run([*install, *place.glob("*.whl"), *TOOLS], check=True)
            tests = [shutil.copy(path, place) for path in core_tests()]
            shutil.copytree(ROOT / "tests" / "fakes", place / "fakes")
            command = [own, "-m", "pytest", "--quiet", "-o", "pythonpath=fakes", "-W", "error", *more, *tests]
            print(f"{python}: {len(tests)} files of tests", flush=True)
            surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(place / "fakes")}
            if status := subprocess.run(command, cwd=place, env=surroundings).returncode:
                return status
    return 0


if __name__ == "__main__":
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    sys.exit(main(given[:end] or [sys.executable], given[end + 1 :]))
