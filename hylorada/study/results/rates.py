"""The learning rate of each arm: the best of one grid on validation articles, and what a scale's file says of it."""

import numpy as np
import pandas as pd

from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.budget import planned_steps
from hylorada.study.plan.protocol import GIVEN
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.rows import Row
from hylorada.study.plan.runs import plan
from hylorada.study.plan.settings import Settings
from hylorada.study.records.records import Records

SWEEPS = ("rates", "part_rates")  # studies that choose rates
SAME_MODEL = {"hylorada": "landmarks"}  # methods that are a stage under another name


def rates_table(records: Records, rows: dict[str, Row]) -> pd.DataFrame:
    """Return one line a run of the sweep: row, arm, label, seed, rate and perplexity, inf where a run diverged."""
    table = pd.DataFrame(
        {
            "row": name,
            "arm": swept(rows[name]),
            "label": rows[name].series,
            "seed": seed,
            "rate": rows[name].x,
            "perplexity": record.results["perplexity"],
        }
        for (name, seed), record in records.by_run.items()
    )
    return table.fillna({"perplexity": np.inf}).sort_values("rate", kind="stable")


def swept(row: Row) -> str | None:
    """Return what a row of a sweep gives another rate: one part of it alone, or its arm."""
    return next(iter(row.changes.get("part_rates", {})), row.arm)


def mean_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of each arm and rate, as of perplexities: exp of the mean of the logarithms."""
    logarithms = table.assign(perplexity=np.log(table["perplexity"]))
    means = logarithms.groupby(["arm", "label", "rate"], sort=False, as_index=False)["perplexity"].mean()
    return means.assign(perplexity=np.exp(means["perplexity"]))


def best_rates(records: Records, rows: dict[str, Row]) -> pd.DataFrame:
    """Return one line an arm, in the order of the rows: label, rate, perplexity there, and whether the grid ends there.

    A best rate on an edge (`on_edge`) is no optimum: the grid has to go on on that side.
    """
    means = mean_rates(rates_table(records, rows))
    lines = {}
    for arm in dict.fromkeys(map(swept, rows.values())):
        own = means[means["arm"] == arm]
        if own.empty:
            continue
        best = own.loc[own["perplexity"].idxmin()]
        on_edge = best["rate"] in (own["rate"].min(), own["rate"].max())
        line = {"label": best["label"], "rate": float(best["rate"]), "perplexity": float(best["perplexity"])}
        lines[arm] = line | {"on_edge": bool(on_edge)}
    return pd.DataFrame.from_dict(lines, orient="index")


def part_rates(best: pd.DataFrame) -> dict[str, float]:
    """Return the setting `part_rates` that a sweep of parts gives."""
    return {part: float(rate) for part, rate in best["rate"].items()}


def tuned_rates(best: pd.DataFrame) -> dict[str, float]:
    """Return the setting `tuned_rates` that a sweep gives; a stage that is a method under another name is named too."""
    rates = {arm: float(rate) for arm, rate in best["rate"].items()}
    rates |= {stage: rates[method] for method, stage in SAME_MODEL.items() if method in rates}
    return dict(sorted(rates.items(), key=lambda item: (item[0] not in STAGES, item[0])))


def longer_runs(settings: Settings, sweep: str) -> tuple[int, dict[str, int]] | None:
    """Return the steps of a sweep, and of the studies that its rates are for and that train longer; None where none is.

    Runs on all their text have no steps before they are made, and are left out, as are those whose rates a published
    protocol fixes.
    """
    steps = {study: _steps(settings, study) for study in settings.tables if study == sweep or study not in SWEEPS}
    longer = {study: most for study, most in steps.items() if most > steps[sweep]}
    return (steps[sweep], longer) if longer else None


def _steps(settings: Settings, study: str) -> int:
    asked = [run.specification for runs in plan(settings, study).values() for run in runs]
    free = [one for one in asked if PROTOCOLS[one.protocol.name].learning_rate == GIVEN]
    return max((planned_steps(one) or 0 for one in free), default=0)
