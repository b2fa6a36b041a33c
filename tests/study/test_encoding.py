"""Text is UTF-8 whatever the locale, in what is read, written, and said."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from repository import ROOT

from hylorada.study.plan.digest import code_digest
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings

SOURCES = [*sorted((ROOT / "hylorada").rglob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]
OWN_ENCODING = ("tokenize", "archive", "bz2", "os", "Image")  # of what reads bytes, or sources as they say
TELL = """
from hylorada.study.plan.digest import code_digest
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
print(code_digest("hylorada.cli"), *all_runs(load_settings("smoke")))
"""


def by_locale(source: str) -> Iterator[str]:
    """Yield the calls that read or write text in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        places = [ast.unparse(argument) for argument in node.args]
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        modes = [words.get("mode", ""), *places[-1:]] if name == "open" else []
        reads = (
            (name == "read_text" and not places)
            or (name == "write_text" and len(places) < 2)
            or (name == "open" and owner not in OWN_ENCODING and not any("b'" in mode for mode in modes))
            or (name in ("run", "Popen", "check_output") and words.keys() & {"text", "universal_newlines"})
        )
        if reads:
            yield f"line {node.lineno}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_text_is_read_or_written_by_the_locale(path):
    assert list(by_locale(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "path.read_text(errors='replace')",
        "path.write_text(text)",
        "open(path)",
        "path.open('w')",
        "subprocess.run(command, text=True)",
    ],
)
def test_the_rule_finds_what_goes_by_the_locale(source):
    assert list(by_locale(source))


def test_a_run_has_one_identity_in_every_locale():
    """Settings, code and the shipped texts are read alike in a locale that knows ASCII alone."""
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    told = subprocess.run([sys.executable, "-c", TELL], cwd=ROOT, env=env, capture_output=True, check=True)
    assert told.stdout.decode().split() == [code_digest("hylorada.cli"), *all_runs(load_settings("smoke"))]


def test_what_the_command_line_says_into_a_file_is_utf_8():
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    arguments = "['run', '--scale', 'gr\\xf6\\udcff']"  # the last sign is half of one
    program = f"import sys; from hylorada.cli import main; sys.argv[1:] = {arguments}; sys.exit(main())"
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True)
    assert told.returncode == 2 and "scale 'grö\\udcff' is not there" in told.stderr.decode()
