"""The command line: `hylorada <verb>`. A rule of the Snakefile calls the verb of its name; others are for users.

Exit status: 0 done; 1 a fault of ours, with a traceback; 2 bad input or a missing thing, on one line; 3 `compare` found
a difference; 130 interrupted.
"""

import errno
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from hylorada.allocator import use_best
from hylorada.errors import HyLoRADAError
from hylorada.files import check_output
from hylorada.verbs.common import log_to_stderr
from hylorada.verbs.parser import parser

LOADS_A_MODEL = ("train", "evaluate", "run", "export", "bench")  # verbs whose time the memory allocator decides upon
KINDS = {  # what stands where a file or a folder of the other kind is asked for
    FileExistsError: "a file, and a folder is wanted there",
    NotADirectoryError: "not in a folder",
    IsADirectoryError: "a folder, and a file is wanted there",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on a disk, in a quota, in a file
QUOTES = "\"'"
BASE_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # our own line tells what is wrong
    "TOKENIZERS_PARALLELISM": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status.

    arguments: None stands for those of the process, which then is ours, its memory allocator too.
    """
    if arguments is None:
        for stream in (sys.stdout, sys.stderr):
            encoding = stream.encoding if stream.isatty() else "utf-8"  # a log is a file of text like any other
            stream.reconfigure(encoding=encoding, errors="backslashreplace")  # a sign that it lacks stops nothing
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    for name, value in BASE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    log_to_stderr(options.quiet)
    try:
        _check_given(given)
        _check_outputs({name: getattr(options, name) for name in options.writes}, options.writes)
        if arguments is None and options.verb in LOADS_A_MODEL:
            use_best()
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read our lines, such as `head`, has seen enough
        _let_go_of_output()
        return 0
    except ModuleNotFoundError as error:
        if (package := _package_with(error.name)) is None:
            raise
        print(f"hylorada: {options.verb} needs {error.name}; pip install {package}.", file=sys.stderr)
        return 2
    except HyLoRADAError as error:
        print(f"hylorada: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        print(f"hylorada: {error.filename} is {KINDS[type(error)]}; name another place.", file=sys.stderr)
        return 2
    except OSError as error:  # of a place that may not be read or written
        if error.strerror is None or (error.filename is None and error.errno not in FULL):
            raise
        place, advice = error.filename or "what was to be written", "make room" if error.errno in FULL else "allow it"
        print(f"hylorada: {place}: {error.strerror}; {advice}, or name another place.", file=sys.stderr)
        if error.filename is None:
            _let_go_of_output()
        return 2
    except KeyboardInterrupt:
        print("hylorada: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130


def _let_go_of_output() -> None:
    """Have what was not yet written to standard output go nowhere, so that the end of the process writes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_given(arguments: Sequence[str]) -> None:
    """Raise HyLoRADAError for an empty word, which would stand for this folder, or for no choice at all."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise HyLoRADAError(f"nothing is given{' for ' + (word or before).rstrip('=')}; name something.")


def _check_outputs(given: Mapping[str, Path | None], writes: Mapping[str, bool]) -> None:
    """Raise HyLoRADAError for a place that cannot be written, or a file that two options name.

    writes: of each option, whether it names a folder.
    """
    files: dict[Path, str] = {}
    for name, path in given.items():
        if path is None:
            continue
        check_output(path, writes[name])
        is_plain = path.is_file() or not path.exists()  # a device takes whatever comes
        if not writes[name] and is_plain and files.setdefault(path.resolve(), name) != name:
            raise HyLoRADAError(f"--{files[path.resolve()]} and --{name} are one file, {path}; name two.")


def _package_with(module: str | None) -> str | None:
    """Return what to install for a module: this package with an extra, else its own name; None for a part of this one.

    A checkout that is only on the path, and not installed, has no extras to name.
    """
    wanted = (module or "").partition(".")[0]
    try:
        requirements = requires("hylorada") or []
    except PackageNotFoundError:
        return None if wanted == "hylorada" else wanted
    for requirement in requirements:
        name, _, extra = requirement.partition("; extra == ")
        if re.split(r"[^\w.-]", name)[0].replace("-", "_") == wanted and extra:
            return f"'hylorada[{extra.strip(QUOTES)}]'"
    return None
