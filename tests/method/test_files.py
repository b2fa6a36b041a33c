"""Writing beside and renaming: whole or not at all, whatever happens on the way."""

import errno
import os
from pathlib import Path

import pytest
import torch

from hylorada import HyLoRADAError
from hylorada.checkpoint import write_adapter
from hylorada.files import check_output, discard_remains, make_folder, retire, write_json, written_beside
from hylorada.reading import read_json


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


def test_tensors_and_what_lies_beside_them_have_the_mode_of_new_files(tmp_path):
    """The library of the tensors would let their owner alone read them."""
    for umask, mode in ((0o022, 0o644), (0o027, 0o640), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            write_adapter(tmp_path / str(umask), {}, {}, {"a": torch.ones(2)})
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / str(umask)).iterdir()} == {mode}
        assert len(list((tmp_path / str(umask)).iterdir())) == 2


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_text('\ufeff{"é": 1}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"é": 1}


def test_an_error_of_another_place_is_not_told_of_the_one_that_is_written(tmp_path):
    with pytest.raises(IsADirectoryError), written_beside(tmp_path / "a"):
        Path("/").read_bytes()


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert os.read(reader, 100) == b'{\n  "a": 1\n}\n' and pipe.is_fifo()
    os.close(reader)
    write_json(Path("/dev/null"), {"a": 1})
    assert Path("/dev/null").is_char_device()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_no_folder_takes_the_place_of_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HyLoRADAError, match="a folder is wanted there"), written_beside(tmp_path / "pipe") as beside:
        beside.mkdir()
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_and_what_it_stands_for_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name, stands_for in (("there", "elsewhere/a.json"), ("dangling", "elsewhere/b.json")):
        (tmp_path / name).symlink_to(stands_for)
    write_json(tmp_path / "elsewhere" / "a.json", "old")
    for name in ("there", "dangling"):
        write_json(tmp_path / name, name)
        assert (tmp_path / name).is_symlink() and read_json(tmp_path / name) == name
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == ["a.json", "b.json"]


def test_a_folder_reached_by_a_link_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").touch()
    (tmp_path / "link").symlink_to("real")
    with written_beside(tmp_path / "link") as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert (tmp_path / "link").is_symlink() and [p.name for p in (tmp_path / "real").iterdir()] == ["new"]


def test_a_place_is_held_to_what_it_is_to_hold_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    check_output(tmp_path / "new" / "deep" / "file", folder=False)
    check_output(tmp_path / "file", folder=False)
    check_output(tmp_path / "folder", folder=True)
    check_output(Path("/dev/null"), folder=False)
    for name, folder, said in (
        ("folder", False, "is a folder; name a file"),
        ("file", True, "is no folder; name a folder"),
        ("file/below", False, "so below cannot lie in it"),
    ):
        with pytest.raises(HyLoRADAError, match=said):
            check_output(tmp_path / name, folder)


@pytest.mark.parametrize(
    ("place", "said"), [("file/below", "file is no folder; name a folder"), ("file/b/c", "so b cannot lie in it")]
)
def test_a_path_that_leads_through_a_file_is_one_clear_line(place, said, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(HyLoRADAError, match=said) as told, written_beside(tmp_path / place):
        raise AssertionError("nothing is to be done")
    assert "\n" not in str(told.value) and (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    for name, said in (("link", "could not be made .File exists."), ("x" * 300, "could not be made .File name too")):
        with pytest.raises(HyLoRADAError, match=said):
            make_folder(tmp_path / name)


def test_a_folder_that_is_killed_while_it_goes_is_gone_and_its_remains_go_next_time(tmp_path, monkeypatch):
    work = tmp_path / "work"
    for name in ("a", "b"):
        (work / name).mkdir(parents=True)

    def kill(path: Path) -> None:
        (path / "a").rmdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", kill)
        retire(work)
    assert not work.exists() and len(list(tmp_path.iterdir())) == 1
    discard_remains(work)
    assert list(tmp_path.iterdir()) == []
