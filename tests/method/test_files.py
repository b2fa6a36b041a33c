"""Writing beside and renaming: whole or not at all, whatever happens on the way."""

import errno
import os
from pathlib import Path

import pytest

from hylorada import HyLoRADAError
from hylorada.files import read_json, write_json, written_beside


def test_what_fails_half_way_leaves_the_old_and_nothing_beside(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"good": 1})
    with pytest.raises(RuntimeError), written_beside(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"good": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    with pytest.raises(HyLoRADAError, match="No space left on device; it is as it was"), written_beside(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_takes_the_place_of_a_filled_one(tmp_path):
    for text in ("old", "new"):
        with written_beside(tmp_path / "folder") as beside:
            beside.mkdir()
            (beside / text).write_text(text)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(HyLoRADAError, match="it is as it was"), written_beside(target) as beside:
        beside.mkdir()
    assert [p.name for p in target.iterdir()] == ["old"] and [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_remains_of_killed_processes_go_and_what_they_had_moved_away_comes_back(tmp_path):
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    (tmp_path / f".folder.{gone}.part").mkdir()
    (tmp_path / f".folder.{gone}.old").mkdir()
    (tmp_path / f".folder.{gone}.old" / "good").touch()
    (tmp_path / f".folder.{os.getppid()}.part").mkdir()  # of a process that lives
    with pytest.raises(RuntimeError), written_beside(tmp_path / "folder"):
        raise RuntimeError
    assert {p.name for p in tmp_path.iterdir()} == {"folder", f".folder.{os.getppid()}.part"}
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["good"]
