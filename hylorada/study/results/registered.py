"""The plan beside what it can find: for each study its budget, and the smallest effect that so many seeds detect."""

import math

import pandas as pd

from hylorada.study.plan.registered import Plan, PlannedStudy
from hylorada.study.plan.runs import plan
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.power import smallest_detectable

FEWEST_SEEDS = 3  # the t test of two finds next to nothing, and its number says no more than that


def plan_table(registered: Plan, settings: Settings) -> pd.DataFrame:
    """Return one row a planned study that the scale runs: seeds, steps, tokens of a step, new runs and their tokens.

    detects: the smallest effect, in percent, that so many seeds find with the plan's power, from the spread that it
    measured or assumed; within a primary family at the error that Holm allows the first of its effects. A run that two
    studies share counts in the first.
    """
    counted: set[str] = set()
    rows = []
    for one in registered.studies:
        if one.study not in settings.tables:
            continue
        planned = plan(settings, one.study)
        own = [run for runs in planned.values() for run in runs if run.name not in counted]
        counted |= {run.name for run in own}
        compared = sum(row.against is not None for row in settings.rows(one.study).values())
        rows.append(
            {
                "study": one.study,
                "title": STUDIES[one.study].title,
                "family": one.family if registered.is_primary(one.study) else "",
                "effects": compared,
                "seeds": one.seeds,
                "steps": one.steps,
                "step_tokens": one.step_tokens,
                "runs": len(own),
                "tokens": sum(run.specification.trained_tokens or 0 for run in own),
                "sd": math.nan if one.sd is None else one.sd,
                "sd_is": one.sd_is or "",
                "detects": _detects(registered, one, compared),
            }
        )
    return pd.DataFrame(rows).astype({"steps": "Int64", "step_tokens": "Int64"})


def _detects(registered: Plan, one: PlannedStudy, effects: int) -> float:
    if one.sd is None or one.seeds < FEWEST_SEEDS:
        return math.nan
    error = registered.error / effects if registered.is_primary(one.study) else registered.error
    return smallest_detectable(one.sd, one.seeds, error, registered.power)
