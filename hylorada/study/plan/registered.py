"""The plan that was written before the runs, `paper/plan.yaml`: read, and held against a scale. Needs no torch."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from hylorada.errors import HyLoRADAError, near
from hylorada.study.checkout import project_root
from hylorada.study.plan.budget import planned_steps
from hylorada.study.plan.runs import all_runs, plan
from hylorada.study.plan.scales import read_mapping
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.typed import read

PLAN = Path("paper") / "plan.yaml"


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What was measured before the plan. percent: effects, a number a seed or a rate. sd: of seeds, None where one."""

    what: str
    percent: list[float]
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class PlannedStudy:
    """What one study is to run, and why so much of it.

    family: of the effects that are adjusted together, None where they are estimates alone. steps, step_tokens: of each
    run, None where its rows differ. sd: of a paired effect between seeds, percent of perplexity, measured or assumed.
    """

    study: str
    seeds: int
    would_change_our_mind: str
    family: str | None = None
    steps: int | None = None
    step_tokens: int | None = None
    sd: float | None = None
    sd_is: Literal["measured", "assumed"] | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A registered plan. margins: smallest effects of interest, percent of perplexity, the stricter first.

    Raises:
        HyLoRADAError: a study or family that is not known or named twice, or a number out of its range.
    """

    scale: str
    written: str
    most_training_tokens: int
    margins: list[float]
    error: float
    power: float
    chosen_on: Literal["validation"]
    reported_on: Literal["test"]
    primary: list[str]
    pilots: list[Pilot]
    equivalence: str
    studies: list[PlannedStudy]

    def is_primary(self, study: str) -> bool:
        """Tell whether the effects of a study are of a primary family: adjusted together, and told as verdicts."""
        return any(one.study == study and one.family in self.primary for one in self.studies)

    def __post_init__(self) -> None:
        names = [planned.study for planned in self.studies]
        for name in names:
            if name not in STUDIES or names.count(name) > 1:
                raise HyLoRADAError(f"plan, studies: {name!r} is given twice or not known; {near(name, STUDIES)}")
        families = {planned.family for planned in self.studies}
        if missing := [name for name in self.primary if name not in families]:
            raise HyLoRADAError(f"plan, primary: {', '.join(missing)} is the family of no study.")
        if not self.margins or sorted(self.margins) != self.margins or self.margins[0] <= 0:
            raise HyLoRADAError(f"plan, margins: {self.margins} must rise from above zero.")
        if not (0 < self.error < 1 and 0 < self.power < 1):
            raise HyLoRADAError(f"plan: error {self.error} and power {self.power} are chances; use 0 to 1.")
        if wrong := [planned.study for planned in self.studies if planned.seeds < 1 or (planned.sd or 1) <= 0]:
            raise HyLoRADAError(f"plan, studies: {', '.join(wrong)} has no seed, or a spread that is not positive.")


def read_plan(path: Path | None = None) -> Plan:
    """Read the plan (HyLoRADAError: it is absent, no YAML, or not a whole plan)."""
    path = project_root() / PLAN if path is None else path
    values: dict[str, Any] = read_mapping(path)
    return read(Plan, values | {"written": str(values.get("written"))}, "plan")


@cache
def plan_digest(scale: str) -> str | None:
    """Return the SHA-256 of the plan's file where it is the plan of that scale, else None."""
    path = project_root() / PLAN
    return sha256(path.read_bytes()).hexdigest() if path.is_file() and read_plan(path).scale == scale else None


def departures(registered: Plan, settings: Settings) -> list[str]:
    """Say, a line each, in what the settings of a scale depart from its plan."""
    told = []
    planned = {one.study: one for one in registered.studies}
    told += [f"{name} was planned and is not run" for name in planned if name not in settings.tables]
    told += [f"{name} is run and was not planned" for name in settings.tables if name not in planned]
    for name, one in planned.items():
        if name in settings.tables:
            here = _budget(settings, name)
            told += [
                f"{name}: {words} {here[fact]} in place of {getattr(one, fact)}"
                for fact, words in (("seeds", "seeds"), ("steps", "steps"), ("step_tokens", "tokens of a step"))
                if getattr(one, fact) is not None and here[fact] != getattr(one, fact)
            ]
    tokens = training_tokens(settings)
    if tokens > registered.most_training_tokens:
        told.append(f"{tokens:,} tokens of training, more than {registered.most_training_tokens:,}")
    return told


def training_tokens(settings: Settings) -> int:
    """Return the tokens, padding counted, that all runs of a scale train on (0 for those on all their text)."""
    return sum(run.specification.trained_tokens or 0 for run in all_runs(settings).values())


def _budget(settings: Settings, study: str) -> dict[str, Any]:
    """Return seeds, steps and tokens of a step of a study; None where its rows differ in them."""
    asked = [runs[0].specification for runs in plan(settings, study).values()]
    trained = [one for one in asked if one.training is not None]
    facts = {
        "seeds": {len(settings.for_study(study).seeds)},
        "steps": {planned_steps(one) for one in trained},
        "step_tokens": {
            one.training.batch_size * one.training.gradient_accumulation_steps * one.block_tokens for one in trained
        },
    }
    return {name: next(iter(values)) if len(values) == 1 else None for name, values in facts.items()}
