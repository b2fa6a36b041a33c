"""tools/get_allocator.py: the library and its licence come without root, once, and set-up goes on without them."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

from hylorada.allocator import LIBRARY, has_glibc

pytestmark = pytest.mark.skipif(not has_glibc(), reason="there is no glibc")
CALLED = 'echo "$(basename "$0") $*" >> "$CALLED"\n'
DOWNLOAD = 'for name in "$@"; do :; done\ncase " $* " in *" download "*) touch "${name}_1_any.deb";; esac\n'
UNPACK = """mkdir -p unpacked/usr/lib/any unpacked/usr/share/doc/any
cp "$CONTENT" unpacked/usr/lib/any/libtcmalloc_minimal.so.4.5
ln -s libtcmalloc_minimal.so.4.5 unpacked/usr/lib/any/libtcmalloc_minimal.so.4
echo BSD > unpacked/usr/share/doc/any/copyright
"""


@pytest.fixture
def tool(tmp_path, monkeypatch) -> ModuleType:
    """The tool, in an environment that has no library yet, with a PATH for what it calls."""
    spec = importlib.util.spec_from_file_location("get_allocator", ROOT / "tools" / "get_allocator.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setattr(module, "find_tcmalloc", lambda: next((tmp_path / "environment").rglob(LIBRARY), None))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    monkeypatch.setenv("CALLED", str(tmp_path / "called"))
    monkeypatch.setenv("CONTENT", re.search(r"/\S+/libm[.-]\S+$", Path("/proc/self/maps").read_text(), re.M)[0])
    return module


def put(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{CALLED}{script}")
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    """The commands that were called, without their options."""
    lines = (folder / "called").read_text().splitlines() if (folder / "called").exists() else []
    return [re.sub(r" -o \S*", "", line) for line in lines]


def told_in_one_line(tool: ModuleType, capsys) -> str:
    tool.main()
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_the_package_is_unpacked_beside_this_python_once(tool, tmp_path, capsys):
    put(tmp_path, "apt-get", DOWNLOAD)
    put(tmp_path, "dpkg-deb", UNPACK)
    folder = tmp_path / "environment" / "lib"
    assert told_in_one_line(tool, capsys) == str(folder / LIBRARY)
    assert (folder / LIBRARY).read_bytes() == Path(os.environ["CONTENT"]).read_bytes()
    assert (folder / f"{LIBRARY}.copyright").read_text() == "BSD\n"
    assert sorted(path.name for path in folder.iterdir()) == [LIBRARY, f"{LIBRARY}.copyright"]
    once = ["apt-get download libtcmalloc-minimal4", "dpkg-deb --extract libtcmalloc-minimal4_1_any.deb unpacked"]
    assert calls(tmp_path) == once
    assert told_in_one_line(tool, capsys) == f"{folder / LIBRARY} is there." and calls(tmp_path) == once


def test_without_lists_of_packages_it_makes_its_own(tool, tmp_path, capsys):
    """As in a fresh container, where only root may renew the system's; and where the package has its newer name."""
    unknown = 'case "$*" in *Dir::State::lists*t64|*update) ;; *) echo "E: Unable to locate" >&2; exit 100;; esac\n'
    put(tmp_path, "apt-get", unknown + DOWNLOAD)
    put(tmp_path, "dpkg-deb", UNPACK)
    assert told_in_one_line(tool, capsys) == str(tmp_path / "environment" / "lib" / LIBRARY)
    names = ("libtcmalloc-minimal4", "libtcmalloc-minimal4t64")
    downloads = [f"apt-get download {name}" for name in names]
    assert calls(tmp_path)[:-1] == [*downloads, "apt-get update", *downloads]


@pytest.mark.parametrize(
    ("apt_get", "content", "reason"),
    [
        (None, None, "'apt-get'"),
        ("echo Reading >&2; echo 'E: no network' >&2; exit 100\n", None, "E: no network"),
        ("exit 1\n", None, "apt-get fails"),
        (DOWNLOAD, "no library", "cannot be preloaded"),
    ],
    ids=["no apt-get", "no network", "silent", "a broken library"],
)
def test_what_fails_is_told_in_one_line_and_leaves_nothing(
    tool, apt_get, content, reason, tmp_path, capsys, monkeypatch
):
    if apt_get is None:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    else:
        put(tmp_path, "apt-get", apt_get)
        put(tmp_path, "dpkg-deb", UNPACK)
    if content is not None:
        (tmp_path / "content").write_text(content)
        monkeypatch.setenv("CONTENT", str(tmp_path / "content"))
    line = told_in_one_line(tool, capsys)
    assert reason in line and "training on a processor is faster" in line
    assert line.endswith("install libtcmalloc-minimal4.")
    assert not (tmp_path / "environment").exists()


def test_without_glibc_nothing_is_got(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, "has_glibc", lambda: False)
    put(tmp_path, "apt-get", DOWNLOAD)
    assert "of no use here" in told_in_one_line(tool, capsys) and calls(tmp_path) == []
