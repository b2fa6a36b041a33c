"""What the campaigns work on: made inputs, commands that read them, and what an untouched command leaves.

Inputs lie in one folder, which a command only reads; all that it writes lies in another, which is emptied between two.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from small_runs import small_scale
from struck import Outcome, struck

from hylorada.cli import main
from hylorada.files import discard

Case = tuple[str, str, Callable[[], str]]  # campaign, case, and what returns what was found, "" where all is well
FEW = {"train_tokens": 256, "measures": {"lines": 4}}  # of the smallest scale
# In a record; its own digest is of all the others as well.
OF_THE_MOMENT = {"started", "finished", "seconds", "evaluation_seconds", "peak_memory_gib", "git", "sha256"}


@dataclass(frozen=True)
class Workshop:
    """place: a folder of its own."""

    place: Path

    @property
    def made(self) -> Path:
        """The inputs."""
        return self.place / "made"

    @property
    def out(self) -> Path:
        """What commands write to."""
        return self.place / "out"

    @cached_property
    def commands(self) -> dict[str, list[str]]:
        """Every verb that writes, by name."""
        scale = ["--scale", str(self.made / "small.yaml")]
        data, own = ["--data", str(self.made / "data")], ["--data", str(self.out / "data")]
        records = ["--records", str(self.made / "runs")]
        tables = ["--csv", str(self.out / "tables" / "first.csv")]
        return {
            "fetch": ["fetch", *scale, *own, "--quiet"],
            "tokens": ["tokens", *scale, *own],
            "train": ["train", *scale, *data, "--stage", "rslora", "--out", str(self.out / "adapter"), "--quiet"],
            "run": ["run", *scale, *data, "--stage", "rslora", "--records", str(self.out / "runs"), "--quiet"],
            "table": ["table", *scale, *records, "--out", str(self.out), *tables],
            "figure": ["figure", "position_nll", *scale, *records, "--out", str(self.out)],
            "claims": ["claims", *scale, *records, "--out", str(self.out), "--figures", str(self.out), *tables]
            + ["--json", str(self.out / "claims.json")],
        }

    def make_inputs(self) -> None:
        """Make data, the records of the smallest scale, an adapter, and a training that was stopped."""
        self.made.mkdir(parents=True)
        small_scale(self.made, **FEW)
        scale, data = ["--scale", str(self.made / "small.yaml")], ["--data", str(self.made / "data")]
        for command in (
            ["fetch", *scale, *data, "--quiet"],
            ["tokens", *scale, *data],
            ["run", *scale, *data, "--records", str(self.made / "runs"), "--quiet"],
            ["train", *scale, *data, "--stage", "rslora", "--out", str(self.made / "adapter"), "--quiet"],
            *(self.commands[verb] for verb in ("table", "figure", "claims")),  # what only a first one does is done
        ):
            if main(command) != 0:
                raise SystemExit(f"soak: {' '.join(command)} did not do")

    def clear(self, name: str) -> None:
        """Empty what commands write to, but for what one of this name needs there."""
        discard(self.out)
        self.out.mkdir()
        if name == "tokens":
            for kind in ("models", "corpora"):
                shutil.copytree(self.made / "data" / kind, self.out / "data" / kind)

    def do(self, command: Sequence[str], at: int | None = None, kind: str = "kill") -> Outcome:
        """Do a command in a process of its own that is struck at an event below `out`."""
        return struck(partial(main, list(command)), self.out, at, kind)

    def left(self) -> dict[str, str]:
        """Return what lies in `out`: the digest of each file by its path, without what is of the moment in records."""
        return {str(path.relative_to(self.out)): _digest(path) for path in self.out.rglob("*") if path.is_file()}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "record.json":
        content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    return sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in OF_THE_MOMENT}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
