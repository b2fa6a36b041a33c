"""The memory allocator of the command line's process: a matter of speed alone, for no number depends on it.

A training step takes large blocks of memory and gives them back, over and over. The C library returns each to the
kernel, which clears every page of it before it gives it out again. Two ways around that, by the environment variable
HYLORADA_ALLOCATOR:

    tcmalloc        gperftools' allocator, which keeps what it has. It must be there before the program is, so the
                    program starts itself once more, with the library in LD_PRELOAD; what it starts later inherits that.
    glibc-keeping   glibc, told by mallopt(3) to keep what it has.
    system          what is there, untouched.

Unset is the first of these that can be had; an allocator that somebody else has preloaded stays. Without glibc (macOS,
musl, Windows) there is only `system`. Nothing happens on import: `hylorada.cli` asks, where it is the program.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hylorada.errors import HyLoRADAError, near

LOG = logging.getLogger(__name__)
VARIABLE = "HYLORADA_ALLOCATOR"
TCMALLOC, KEEPING, SYSTEM = "tcmalloc", "glibc-keeping", "system"
LIBRARY = "libtcmalloc_minimal.so.4"
STARTED_AGAIN = "HYLORADA_STARTED_AGAIN"  # holds the process that did, so that no child takes itself for it
PRELOADED = (TCMALLOC, "jemalloc", "mimalloc")  # as their libraries are called
KEEP = (  # options of mallopt by their numbers in malloc.h
    (-4, 0),  # M_MMAP_MAX: no block is a mapping of its own, which would end with the block
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: the top of the heap is not given back
    (-2, 2**28),  # M_TOP_PAD: it grows by this many bytes, untouched until they are used
)
_kept = False  # whether mallopt took all of these in this process


def use_best() -> None:
    """Have this process use the allocator of HYLORADA_ALLOCATOR; may start the program again, and then not return.

    To be called by a program alone, before it loads torch. What was asked for and cannot be had is told as a warning.

    Raises:
        HyLoRADAError: the variable holds another word.
    """
    wanted, there = os.environ.get(VARIABLE) or None, in_use()
    started_again = os.environ.pop(STARTED_AGAIN, None) == str(os.getpid())
    if wanted not in (None, TCMALLOC, KEEPING, SYSTEM):
        raise HyLoRADAError(f"{VARIABLE}={wanted} is not known; {near(wanted, (TCMALLOC, KEEPING, SYSTEM))}")
    if wanted == SYSTEM:
        return
    if there != SYSTEM or not has_glibc():
        if wanted not in (None, there):
            LOG.warning("%s=%s has no effect: this process is bound to the allocator %s", VARIABLE, wanted, there)
        return
    if wanted != KEEPING:
        hindrance = _try_tcmalloc(started_again)
        if wanted == TCMALLOC or started_again:
            LOG.warning("no %s, so %s in its place: %s", TCMALLOC, KEEPING, hindrance)
    keep_memory()


def in_use() -> str:
    """Return what allocates in this process now: by the libraries it has mapped, and by what mallopt took."""
    mapped = _mapped()
    return next((name for name in PRELOADED if f"/lib{name}" in mapped), KEEPING if _kept else SYSTEM)


def has_glibc() -> bool:
    """Whether the C library of this process is glibc, and /proc there to tell."""
    return re.search(r"/libc(\.so\.6|-2\.\d+\.so)$", _mapped(), flags=re.MULTILINE) is not None


def find_tcmalloc() -> Path | None:
    """Return the library of this environment, else that of the system, or None."""
    for folder in _library_folders():
        path = Path(folder, LIBRARY)
        if path.is_file() and not re.search("[ :]", str(path)):  # LD_PRELOAD is split there
            return path
    return None


def keep_memory() -> None:
    """Have glibc keep what this process has given back."""
    import ctypes

    global _kept
    mallopt = ctypes.CDLL(None).mallopt
    _kept = all(mallopt(option, value) for option, value in KEEP)


def _mapped() -> str:
    """Return the mappings of this process, a line each; nothing where the system does not tell them."""
    try:
        return Path("/proc/self/maps").read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""


def _library_folders() -> Iterator[str]:
    from sysconfig import get_config_var

    yield os.path.join(sys.prefix, "lib")
    yield from filter(os.path.isabs, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    for root in ("/usr/local", "/usr", "/"):
        for folder in (f"lib/{get_config_var('MULTIARCH')}", "lib64", "lib"):
            yield os.path.join(root, folder)


def _try_tcmalloc(started_again: bool) -> str:
    """Start the program again with tcmalloc; return only where that cannot be, with what is in the way."""
    library = find_tcmalloc()
    if library is None:
        return f"there is no {LIBRARY}; tools/get_allocator.py gets it"
    if started_again:
        _preload_no_more(str(library))
        return f"{library} cannot be loaded; move it away"
    if not _can_start_again():
        return "what comes through a pipe, is watched by a debugger or called by another program runs once"
    _start_again(library)


def _can_start_again() -> bool:
    """Whether the command of this process says all that it does, and nobody would miss the process it is now."""
    from_a_file = sys.argv[0] == "-c" or os.path.isfile(sys.argv[0])
    monitoring = getattr(sys, "monitoring", None)  # what debuggers use since Python 3.12
    watched = sys.gettrace() or (monitoring and monitoring.get_tool(monitoring.DEBUGGER_ID))
    called = "torch" in sys.modules or not sys.executable  # by a program that has loaded much, or holds Python in it
    return from_a_file and not watched and not called


def _start_again(library: Path) -> NoReturn:
    """Put this program, begun anew with a library preloaded, into the place of this process."""
    preloaded = ":".join(filter(None, (str(library), os.environ.get("LD_PRELOAD"))))
    environment = os.environ | {"LD_PRELOAD": preloaded, STARTED_AGAIN: str(os.getpid())}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _preload_no_more(library: str) -> None:
    """Spare what this process starts the loader's complaint about a library."""
    left = [path for path in re.split("[ :]+", os.environ.pop("LD_PRELOAD", "")) if path not in ("", library)]
    if left:
        os.environ["LD_PRELOAD"] = ":".join(left)
