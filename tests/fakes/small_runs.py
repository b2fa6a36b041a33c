"""The smallest runs there are: the smoke scale, one seed of it in four steps, and the command that makes one."""

from pathlib import Path

import yaml
from repository import scale_file

from hylorada.cli import main
from hylorada.study.plan.scales import load_settings

SMOKE = load_settings("smoke")


def small_scale(tmp_path: Path, **changes) -> str:
    """A scale of one seed and four steps as a file, with changes."""
    path, few = tmp_path / "small.yaml", {"studies": {}, "train_lines": None, "seeds": [0], "checkpoint_every": 1}
    path.write_text(yaml.safe_dump(scale_file("smoke") | few | changes))
    return str(path)


def run_stage(scale: str, stage: str, data: Path, results: Path, *more: str) -> int:
    """Make the runs of a stage by the command line; more: its further options. Returns the exit status."""
    places = ["--data", str(data), "--records", str(results)]
    return main(["run", "--scale", scale, "--stage", stage, "--quiet", *places, *more])
