"""Set-up installs by uv with the sources that pip has, and by pip alone where uv cannot."""

import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from repository import ROOT

LISTED = (
    "global.cert='/a.pem'\nglobal.extra-index-url='file:///one file:///two'\nglobal.find-links='/old'\n"
    ":env:.find-links='/wheels'\n:env:.default-timeout='180'\n"
)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pips_sources_become_options_of_uv(tool):
    assert tool.options(LISTED) == ["--index", "file:///one", "--index", "file:///two", "--find-links", "/wheels"]
    assert tool.options("global.index-url='https://a/simple'\n") == ["--default-index", "https://a/simple"]
    assert tool.options("global.find-links='\\n/a\\n/b'\n") == ["--find-links", "/a", "--find-links", "/b"]
    assert tool.options("") == []


HASHED = "# words\na==1 \\\n    --hash=sha256:12 \\\n    --hash=sha256:34\nb==2 \\\n    --hash=sha256:56\ntorch==3\n"


def test_pip_is_told_what_has_hashes_and_what_has_none_apart(tool):
    calls = tool.by_pip(HASHED)
    *options, file = next(calls)
    assert options == ["--no-deps", "--requirement"]
    assert [line.split() for line in Path(file).read_text().splitlines()] == [
        ["a==1", "--hash=sha256:12", "--hash=sha256:34"],
        ["b==2", "--hash=sha256:56"],
    ]
    assert list(calls) == [["torch==3"]]
    assert list(tool.by_pip("a==1\nb==2\n")) == [["a==1", "b==2"]]


@pytest.mark.parametrize(("uv_works", "pip_status"), [(True, 0), (False, 0), (False, 1)])
def test_where_uv_cannot_pip_installs_and_its_status_is_the_end(
    tool, monkeypatch, capsys, tmp_path, uv_works, pip_status
):
    called, lock = [], tmp_path / "the.lock"
    lock.write_text(HASHED)

    def run(command, **_):
        called.append(command[2:])
        is_uv = command[2] == "uv"
        return SimpleNamespace(returncode=(0 if uv_works else 2) if is_uv else pip_status, stdout=LISTED, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["install.py", str(lock)])
    if pip_status == 0:
        tool.main()
    else:
        with pytest.raises(SystemExit) as end:
            tool.main()
        assert end.value.code == pip_status
    assert called[2][-2:] == ["--requirement", str(lock)] and "/wheels" in called[2]
    assert (called[-1] == ["pip", "install", "torch==3"]) == (not uv_works and pip_status == 0)
    assert len(called) == 3 + (0 if uv_works else 1 if pip_status else 2)
    assert len(capsys.readouterr().out.splitlines()) == 1
