"""The allocator: which one is taken, what a program keeps that starts itself again for it, and what is left alone."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hylorada import HyLoRADAError, allocator, cli
from hylorada.allocator import KEEPING, LIBRARY, STARTED_AGAIN, SYSTEM, TCMALLOC, VARIABLE
from hylorada.verbs import runs

needs_glibc = pytest.mark.skipif(not allocator.has_glibc(), reason="there is no glibc")
needs_tcmalloc = pytest.mark.skipif(
    not allocator.has_glibc() or allocator.find_tcmalloc() is None,
    reason="there is no tcmalloc; python tools/get_allocator.py gets it",
)
REFUSED = ["run", "--jobs", "0"]  # a verb that asks for an allocator, and then has nothing to load
AS_MODULE = [sys.executable, "-m", "hylorada"]
MAIN = "import sys; from hylorada.cli import main; sys.exit(main())"
WITNESS = """
import atexit, os
def tell():
    from hylorada.allocator import in_use
    with open(os.environ["WITNESS"], "a") as stream:
        print(os.getpid(), in_use(), os.environ.get("LD_PRELOAD", "-"), file=stream)
atexit.register(tell)
"""


class Program:
    """A command in a process of its own, and what it was when it ended: process, allocator, LD_PRELOAD."""

    def __init__(self, folder: Path, command: list[str], told: str = "", **environment: str):
        (folder / "sitecustomize.py").write_text(WITNESS)
        path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
        env = os.environ | {"PYTHONPATH": path, "WITNESS": str(folder / "witness")}
        env = {name: value for name, value in env.items() if name not in (VARIABLE, "LD_PRELOAD")} | environment
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            self.out, self.err = process.communicate(told)
        self.status, self.pid = process.returncode, process.pid
        self.ends = [line.split() for line in (folder / "witness").read_text().splitlines()]


def with_library(path: Path) -> list[str]:
    """The command line, told that the library is at a place."""
    patch = f"import hylorada.allocator as a, pathlib; a.find_tcmalloc = lambda: pathlib.Path({str(path)!r}); "
    return [sys.executable, "-c", patch + MAIN]


@pytest.mark.parametrize(
    ("wanted", "there", "library", "can", "done", "told"),
    [
        (None, SYSTEM, True, True, "again", False),
        (None, SYSTEM, True, False, "kept", False),
        (None, SYSTEM, False, True, "kept", False),
        (None, TCMALLOC, True, True, None, False),
        (None, "jemalloc", True, True, None, False),  # somebody's choice
        ("", SYSTEM, True, True, "again", False),
        (TCMALLOC, SYSTEM, True, True, "again", False),
        (TCMALLOC, SYSTEM, True, False, "kept", True),
        (TCMALLOC, SYSTEM, False, True, "kept", True),
        (TCMALLOC, TCMALLOC, True, True, None, False),
        (TCMALLOC, "jemalloc", True, True, None, True),
        (KEEPING, SYSTEM, True, True, "kept", False),
        (KEEPING, TCMALLOC, True, True, None, True),
        (SYSTEM, SYSTEM, True, True, None, False),
        (SYSTEM, TCMALLOC, True, True, None, False),
    ],
)
def test_what_is_taken(wanted, there, library, can, done, told, monkeypatch, caplog):
    did = []
    monkeypatch.delenv(VARIABLE, raising=False)
    if wanted is not None:
        monkeypatch.setenv(VARIABLE, wanted)

    def again(library):
        did.append("again")
        raise InterruptedError  # the real one does not come back either

    monkeypatch.setattr(allocator, "in_use", lambda: there)
    monkeypatch.setattr(allocator, "has_glibc", lambda: True)
    monkeypatch.setattr(allocator, "find_tcmalloc", lambda: Path(LIBRARY) if library else None)
    monkeypatch.setattr(allocator, "_can_start_again", lambda: can)
    monkeypatch.setattr(allocator, "_start_again", again)
    monkeypatch.setattr(allocator, "keep_memory", lambda: did.append("kept"))
    with caplog.at_level(logging.WARNING):
        try:
            allocator.use_best()
        except InterruptedError:
            pass
    assert did == ([done] if done else [])
    assert len(caplog.records) == told


@pytest.mark.parametrize(("wanted", "told"), [(None, 0), (SYSTEM, 0), (TCMALLOC, 1), (KEEPING, 1)])
def test_without_glibc_nothing_is_done(wanted, told, monkeypatch, caplog):
    monkeypatch.setattr(allocator, "_mapped", lambda: "")
    monkeypatch.setattr(allocator, "_kept", False)
    monkeypatch.delenv(VARIABLE, raising=False)
    if wanted is not None:
        monkeypatch.setenv(VARIABLE, wanted)
    with caplog.at_level(logging.WARNING):
        allocator.use_best()
    assert allocator.in_use() == SYSTEM and len(caplog.records) == told


@pytest.mark.parametrize(
    ("mapped", "glibc", "name"),
    [
        ("7f0-7f1 r-xp 0 08:01 5    /usr/lib/x86_64-linux-gnu/libc.so.6\n7f2-7f3 r--p 0 0:0 0", True, SYSTEM),
        ("7f0-7f1 r-xp 0 08:01 5    /lib/x86_64-linux-gnu/libc-2.31.so\n", True, SYSTEM),
        ("7f0-7f1 r-xp 0 08:01 5    /lib/ld-musl-x86_64.so.1\n", False, SYSTEM),
        (
            "7f0-7f1 r-xp 0 0:0 5    /usr/lib/libtcmalloc.so.4.5.9\n7f0-7f1 r-xp 0 0:0 5    /lib/libc.so.6\n",
            True,
            TCMALLOC,
        ),
        (
            "7f0-7f1 r-xp 0 0:0 5    /usr/lib/libjemalloc.so.2\n7f0-7f1 r-xp 0 0:0 5    /lib/libc.so.6\n",
            True,
            "jemalloc",
        ),
    ],
)
def test_what_is_mapped_is_what_is_in_use(mapped, glibc, name, monkeypatch):
    monkeypatch.setattr(allocator, "_mapped", lambda: mapped)
    monkeypatch.setattr(allocator, "_kept", False)
    assert (allocator.has_glibc(), allocator.in_use()) == (glibc, name)


def test_the_library_of_the_environment_comes_first_and_what_cannot_be_named_is_passed_over(tmp_path, monkeypatch):
    own, other, blank = tmp_path / "own", tmp_path / "other", tmp_path / "with blank"
    for folder in (own / "lib", other, blank / "lib"):
        folder.mkdir(parents=True)
        (folder / LIBRARY).touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:{other}")
    monkeypatch.setattr(sys, "prefix", str(own))
    assert allocator.find_tcmalloc() == own / "lib" / LIBRARY
    monkeypatch.setattr(sys, "prefix", str(blank))
    assert allocator.find_tcmalloc() == other / LIBRARY


def test_only_the_program_asks_and_only_for_verbs_that_load_a_model(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "use_best", lambda: asked.append(True))
    assert cli.main(REFUSED) == 2 and not asked
    monkeypatch.setattr(sys, "argv", ["hylorada", *REFUSED])
    assert cli.main() == 2 and asked == [True]
    monkeypatch.setattr(sys, "argv", ["hylorada", "fetch", "--list"])
    assert cli.main() == 0 and asked == [True]
    assert set(cli.LOADS_A_MODEL) < set(cli.parser()._subparsers._group_actions[0].choices)


def test_an_import_of_the_library_leaves_the_process_as_it_is(tmp_path):
    program = Program(tmp_path, [sys.executable, "-c", "import hylorada.cli; hylorada.HyLoRADAUnified"])
    assert (program.status, program.ends) == (0, [[str(program.pid), SYSTEM, "-"]])


@needs_tcmalloc
@pytest.mark.parametrize(
    "command",
    [AS_MODULE, [str(Path(sys.executable).with_name("hylorada"))], [sys.executable, "-X", "utf8", "-c", MAIN]],
    ids=["module", "script", "text"],
)
def test_the_program_starts_once_more_with_tcmalloc_and_ends_as_it_would_have(command, tmp_path):
    if not Path(command[0]).exists():
        pytest.skip("the package is not installed here")
    program = Program(tmp_path, [*command, *REFUSED])
    assert (program.status, program.err) == (2, "hylorada: --jobs 0 is too small; use 1 or more.\n")
    assert program.ends == [[str(program.pid), TCMALLOC, str(allocator.find_tcmalloc())]]


ECHO = "from hylorada.allocator import *; use_best(); import os, sys; print(in_use(), sys.stdin.read(), sys.argv[1:]); "


@needs_tcmalloc
def test_what_comes_in_what_goes_out_and_what_is_started_later_survive(tmp_path):
    children = (
        f"print({STARTED_AGAIN!r} in os.environ); import multiprocessing as m, subprocess as s; "
        "pool = m.get_context('spawn').Pool(1); print(pool.apply(in_use)); pool.terminate(); pool.join(); "
        "print(s.check_output(['git', '--version']) != b''); "
    )
    command = [sys.executable, "-c", f"{ECHO}{children}sys.exit(7)", "one word", "*"]
    program = Program(tmp_path, command, told="line\n", LD_PRELOAD="libm.so.6")
    assert program.out.split("\n") == [f"{TCMALLOC} line", " ['one word', '*']", "False", TCMALLOC, "True", ""]
    assert (program.status, program.err) == (7, "")
    assert all(end[2].endswith(f"{LIBRARY}:libm.so.6") for end in program.ends)


@needs_glibc
def test_a_program_from_a_pipe_runs_once_and_keeps_memory(tmp_path):
    text = "from hylorada.allocator import *; use_best(); print(in_use())"
    program = Program(tmp_path, [sys.executable, "-"], told=text)
    assert (program.status, program.out, program.err) == (0, f"{KEEPING}\n", "")


def test_under_a_debugger_or_with_torch_loaded_nothing_starts_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", [__file__])
    monkeypatch.delitem(sys.modules, "torch")
    assert sys.gettrace() or allocator._can_start_again()
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    assert not allocator._can_start_again()
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setitem(sys.modules, "torch", logging)
    assert not allocator._can_start_again()


@needs_glibc
def test_a_library_that_cannot_be_loaded_is_tried_once_and_told(tmp_path):
    broken = tmp_path / LIBRARY
    broken.write_text("no library")
    program = Program(tmp_path, [*with_library(broken), *REFUSED], LD_PRELOAD="libm.so.6")
    assert program.status == 2 and program.ends == [[str(program.pid), KEEPING, "libm.so.6"]]
    loader, *ours = program.err.splitlines()
    assert "cannot be preloaded" in loader
    assert ours == [
        f"no tcmalloc, so glibc-keeping in its place: {broken} cannot be loaded; move it away",
        "hylorada: --jobs 0 is too small; use 1 or more.",
    ]


@needs_glibc
@pytest.mark.parametrize("wanted", [SYSTEM, KEEPING])
def test_the_variable_is_heard(wanted, tmp_path):
    program = Program(tmp_path, [*AS_MODULE, *REFUSED], **{VARIABLE: wanted})
    assert program.status == 2 and program.ends == [[str(program.pid), wanted, "-"]]


def test_another_word_is_refused_on_one_line(tmp_path, monkeypatch):
    program = Program(tmp_path, [*AS_MODULE, *REFUSED], **{VARIABLE: "tcmaloc"})
    assert program.status == 2 and program.err == (
        "hylorada: HYLORADA_ALLOCATOR=tcmaloc is not known; did you mean 'tcmalloc'? "
        "allowed: glibc-keeping, system, tcmalloc\n"
    )
    monkeypatch.setenv(VARIABLE, "jemalloc")
    with pytest.raises(HyLoRADAError, match="HYLORADA_ALLOCATOR=jemalloc is not known"):
        allocator.use_best()


@needs_glibc
def test_memory_that_is_kept_costs_no_second_page_fault(tmp_path):
    """A large block, touched, given back, and taken again."""
    text = (
        "import resource; from hylorada.allocator import keep_memory; keep_memory(); bytearray(2**26); "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; bytearray(2**26); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert int(Program(tmp_path, [sys.executable, "-c", text]).out) < 16  # of 16,384 pages, or of 32 huge ones


@pytest.mark.parametrize(("parents", "kept"), [(KEEPING, ["kept"]), (TCMALLOC, []), (SYSTEM, [])])
def test_a_worker_keeps_memory_where_its_parent_does(parents, kept, monkeypatch):
    did = []
    monkeypatch.setattr(allocator, "keep_memory", lambda: did.append("kept"))
    monkeypatch.setattr(runs, "_make", lambda *_, **__: did.append("made"))
    monkeypatch.setattr(runs, "log_to_stderr", lambda quiet: None)
    runs._make_beside_others(cli.parser().parse_args(["run"]), parents, None)
    assert did == [*kept, "made"]
