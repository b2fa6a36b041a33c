"""Damaged files: what reads one says so on one line with exit status 2, or gives the right answer all the same."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from damages import DAMAGES, do_damage
from struck import Outcome
from workshop import Case, Workshop

from hylorada.files import discard

DIFFERS = 3  # exit status of `compare`, which then says what


@dataclass(frozen=True)
class Answer:
    """All by which a command answers."""

    status: int
    out: str
    left: dict[str, str]


def damaged(workshop: Workshop, every: int) -> Iterator[Case]:
    """Yield a case for each command, so many of the files that it reads, and every damage."""
    _stop_a_training(workshop)
    for number, (name, (command, files)) in enumerate(_readers(workshop).items()):
        workshop.clear(name)
        _lay_out(workshop, name)
        whole = _answer(workshop, workshop.do(command))
        if whole.status != 0:
            raise SystemExit(f"soak: {' '.join(command)} did not do")
        cases = [(file, damage) for file in files for damage in DAMAGES]
        for file, damage in cases[number % every :: every]:
            case = f"{file.relative_to(workshop.place)}: {damage}"
            yield f"{name} reads", case, partial(_found, workshop, name, command, file, damage, whole)


def _readers(workshop: Workshop) -> dict[str, tuple[list[str], list[Path]]]:
    """Return commands with the files that they read: what is fetched, tokens, records, adapters, states, pages."""
    made, commands = workshop.made, workshop.commands
    scale, data = ["--scale", str(made / "small.yaml")], ["--data", str(made / "data")]
    runs = sorted((made / "runs").glob("rslora*"))[0]
    adapter = ["--adapter", str(made / "adapter")]
    fetched = _files(made / "data" / "models") + _files(made / "data" / "corpora")
    return {
        "plan": (["run", *scale, *data, "--records", str(workshop.out), "--dry-run"], [made / "small.yaml"]),
        "tokens": (commands["tokens"], [workshop.out / path.relative_to(made) for path in fetched]),
        "run": (commands["run"], _files(made / "data" / "models") + _files(made / "data" / "tokens")),
        "table": (commands["table"], _files(runs)),
        "figure": (commands["figure"], _files(runs)),
        "compare": (["compare", "--records", str(made / "runs"), "--reference", str(made / "runs")], _files(runs)),
        "evaluate": (["evaluate", *scale, *data, *adapter, "--quiet"], _files(made / "adapter")),
        "resume": (
            commands["train"],
            [workshop.out / path.relative_to(made) for path in _files(made / ".adapter.work")],
        ),
    }


def _stop_a_training(workshop: Workshop) -> None:
    """Leave beside the made adapter the work of a training that was killed after a state was whole."""
    command = workshop.commands["train"]
    workshop.clear("train")
    events = workshop.do(command).events
    workshop.clear("train")
    workshop.do(command, events * 2 // 3)
    discard(workshop.made / ".adapter.work")
    (workshop.out / ".adapter.work").rename(workshop.made / ".adapter.work")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def _lay_out(workshop: Workshop, name: str) -> None:
    if name == "resume":
        shutil.copytree(workshop.made / ".adapter.work", workshop.out / ".adapter.work")


def _found(workshop: Workshop, name: str, command: list[str], file: Path, damage: str, whole: Answer) -> str:
    workshop.clear(name)
    _lay_out(workshop, name)
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    try:
        do_damage(file, damage)
        outcome = workshop.do(command)
    finally:
        discard(file)
        if file.parent.is_dir():
            file.write_bytes(content)
            os.utime(file, ns=times)
    if outcome.is_told or outcome.status == DIFFERS:
        return ""
    if outcome.status != 0:
        return f"status {outcome.status}: {(outcome.err.strip().splitlines() or [''])[-1]}"
    return "" if _answer(workshop, outcome) == whole else "done, and other than from the whole file"


def _answer(workshop: Workshop, outcome: Outcome) -> Answer:
    return Answer(outcome.status, outcome.out, workshop.left())
