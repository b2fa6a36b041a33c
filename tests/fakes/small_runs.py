"""The smallest runs there are: the smoke scale, one seed of it in four steps, and the command that makes one."""

from pathlib import Path

import yaml

from hylorada.cli import main
from hylorada.study.checkout import project_root
from hylorada.study.plan.scales import load_settings

SMOKE = load_settings("smoke")


def small_scale(tmp_path: Path, **changes) -> str:
    """A scale of one seed and four steps as a file, with changes."""
    values = yaml.safe_load((project_root() / "config" / "smoke.yaml").read_text()) | {"studies": {}}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values | {"seeds": [0], "checkpoint_every": 1} | changes))
    return str(path)


def run_stage(scale: str, stage: str, data: Path, results: Path, *more: str) -> int:
    """Make the runs of a stage by the command line; more: its further options. Returns the exit status."""
    places = ["--data", str(data), "--records", str(results)]
    return main(["run", "--scale", scale, "--stage", stage, "--quiet", *places, *more])
