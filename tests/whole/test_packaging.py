"""The lock fits the declared requirements, imports go one way, and nothing names a machine."""

import ast
import graphlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import ROOT, printed

import hylorada

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.findall(r"^(\S+==\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", LOCK, flags=re.MULTILINE)
PINS = dict(pin.split("==") for pin, _ in PINNED)
ENVIRONMENT = (ROOT / "environment.yml").read_text()
LAYERS = {  # a layer's file -> what it may import beside the standard library and the error type
    "constants": set(),
    "decoder": {"torch"},
    "positions": {"torch"},
    "fused": {"torch"},
    "norm": {"torch"},
    "idle": {"torch"},
    "position_bias": {"torch", "hylorada.idle", "hylorada.positions"},
    "lora": {
        *("torch", "hylorada.positions", "hylorada.fused", "hylorada.norm", "hylorada.idle", "hylorada.constants"),
        "hylorada.position_bias",
    },
    "landmarks": {"torch", "hylorada.positions", "hylorada.constants"},
    "landmark_redesigns": {"torch", "hylorada.positions", "hylorada.landmarks", "hylorada.constants"},
    "attention_interface": {"torch", "transformers"},
    "s2_attention": {"torch", "transformers", "hylorada.attention_interface"},
    "daa": {"torch", "transformers", "hylorada.attention_interface", "hylorada.s2_attention"},  # which it wraps
    "sparse_mlp": {"torch"},
    "trained_weights": {"torch", "hylorada.decoder"},
    "rope": {"torch", "transformers", "hylorada.decoder"},
}
STUDY_ONLY = {"snakemake", "datasets", "pandas", "matplotlib", "seaborn", "scipy", "gguf", "mwparserfromhell"}


def requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], *(r for e in extras for r in e)]


@pytest.mark.parametrize("requirement", sorted(set(requirements())))
def test_the_lock_holds_and_satisfies_every_requirement(requirement):
    wanted = Requirement(requirement)
    pinned = PINS.get(canonicalize_name(wanted.name))
    assert pinned is not None, f"{wanted.name} is not in requirements.lock; run tools/lock.py"
    assert wanted.specifier.contains(pinned), f"{pinned} is pinned, {wanted.specifier} is asked for; run tools/lock.py"


def test_the_lock_is_a_list_with_hashes_that_fits_every_registry():
    lines = [line for line in LOCK.splitlines() if not line.startswith(("#", "    --hash="))]
    assert [line.removesuffix(" \\") for line in lines] == [pin for pin, _ in PINNED]
    assert list(PINS) == sorted(PINS) and all(re.fullmatch(r"[a-z0-9.-]+==[0-9][\w.]*", pin) for pin, _ in PINNED)
    assert "://" not in LOCK and not re.search("--(?!hash=)", LOCK)
    assert [name for name in PINS if re.search("nvidia|cuda|triton", name)] == []
    assert [pin for pin, hashes in PINNED if not hashes] == [f"torch=={PINS['torch']}"], (
        "each machine has its own build"
    )


def test_one_python_version_everywhere():
    python = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"- python={python}\n" in ENVIRONMENT
    assert f"under Python {python}" in " ".join(LOCK.replace("#", " ").split())
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + python.replace(".", "")


def test_conda_takes_its_versions_from_the_lock_alone():
    listed = re.findall(r"^\s*- (.+)$", ENVIRONMENT.split("dependencies:")[1], flags=re.MULTILINE)
    assert [entry.split("=")[0] for entry in listed] == [
        "python",
        "pip",
        "make",
        "pip:",
        "-r requirements.txt",
        "-e .",
    ]


def test_the_plain_list_is_the_lock_without_its_hashes():
    plain = (ROOT / "requirements.txt").read_text()
    assert [line for line in plain.splitlines() if not line.startswith("#")] == [pin for pin, _ in PINNED]


def test_one_version_of_the_package_everywhere():
    version = PROJECT["project"]["version"]
    assert hylorada.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by dotted name."""
    found = {}
    for path in sorted((ROOT / "hylorada").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, everywhere: bool = True) -> Iterator[str]:
    """Yield the dotted names that a module imports; with everywhere=False, only those at its top level."""
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}; write the full name"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name in modules())
            if not all(name in modules() for name in inner):
                yield node.module


def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_can_be_read_and_reused_without_the_rest(layer):
    used = {name if name.startswith("hylorada") else name.split(".")[0] for name in imports(tree(f"hylorada.{layer}"))}
    beneath = {"hylorada.arguments", "hylorada.errors"}  # of the standard library alone
    assert used - set(sys.stdlib_module_names) - beneath <= LAYERS[layer]


def test_imports_go_one_way():
    graph = {name: [used for used in imports(tree(name)) if used in modules()] for name in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


MEET_BOTH = {
    "hylorada.study",
    "hylorada.verbs",
    "hylorada.cli",
    "hylorada.__main__",
}  # the study itself, and the command line


@pytest.mark.parametrize("name", [name for name in modules() if name.count(".") == 1 and name not in MEET_BOTH])
def test_the_method_does_not_know_the_study(name):
    used = list(imports(tree(name)))
    assert [other for other in used if other.startswith("hylorada.study")] == []
    assert {other.split(".")[0] for other in imports(tree(name), everywhere=False)} & STUDY_ONLY == set()


def test_importing_the_package_loads_none_of_the_heavy_ones():
    code = "import hylorada, sys; print(*sys.modules)"
    loaded = printed(code)
    assert "hylorada" in loaded.split()
    assert (STUDY_ONLY | {"torch", "transformers"}) & set(loaded.split()) == set()


@pytest.mark.parametrize("name", hylorada.__all__)
def test_every_public_name_exists(name):
    assert getattr(hylorada, name).__module__.startswith("hylorada.")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match="no 'HyLoRADA'; it has .*HyLoRADAModel"):
        _ = hylorada.HyLoRADA


def test_no_file_names_a_machine_or_leaves_work_undone():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    pattern = re.compile(r"(?<![\w.}/])/(?:home|root|work|tmp|Users)/\w|\bTO[D]O\b|\bFIX[M]E\b")
    found = []
    for name in filter(None, listed):
        text = (ROOT / name).read_bytes().decode(errors="ignore") if (ROOT / name).is_file() else ""
        found += [f"{name}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []
