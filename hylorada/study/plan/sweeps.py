"""The sweeps of learning rates, on validation articles: of every arm as a whole, and of each part beside A and B."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.methods import METHODS, method_config
from hylorada.study.plan.ablation import DORA, RSLORA, STAGES
from hylorada.study.plan.published import LANDMARKS_ALONE
from hylorada.study.plan.rows import Row, Study

RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)  # for every arm; it goes on where a best rate is an edge
ARMS = {name: (method.label, method_config(name)) for name, method in METHODS.items()} | {
    name: (STAGES[name].in_words, STAGES[name].adapter)  # stages that are no method
    for name in ("magnitude", "position_bias", "learned_buckets")
}
CONSTANT = replace(RSLORA, landmark_enabled=True, landmark_design="constant")
PARTS: dict[str, tuple[str, HyLoRADAConfig, tuple[float, ...]]] = {  # that can have a rate of their own; each on rsLoRA
    "magnitude": ("gated magnitude", DORA, (2e-4, 1e-3, 5e-3, 2e-2)),
    "position_bias": ("position bias", replace(RSLORA, position_bias_enabled=True), (1e-3, 5e-3, 2e-2, 1e-1)),
    "landmark": ("landmarks", LANDMARKS_ALONE, (5e-4, 2e-3, 1e-2, 5e-2)),
    "constant": ("one constant vector", CONSTANT, (5e-4, 2e-3, 1e-2, 5e-2)),
}


def _at_each(name: str, label: str, adapter: HyLoRADAConfig, arm: str, rates: Mapping[float, Any]) -> dict[str, Row]:
    """Return a row at each rate. name: of a row but for its rate. rates: with what each of them changes."""
    return {
        f"{name}{rate:.0e}": Row(
            label=f"{label}, {rate:.0e}",
            series=label,
            x=rate,
            adapter=adapter,
            changes={"evaluation_split": "validation", **changes},
            arm=arm,
        )
        for rate, changes in rates.items()
    }


def _of_arm(rates: Sequence[float]) -> dict[float, Any]:
    """Return what gives an arm one rate for all of it, whatever the scale has chosen before."""
    return {r: {"learning_rate": r, "landmark_lr": r, "tuned_rates": {}, "part_rates": {}} for r in rates}


SWEEPS: dict[str, Study] = {
    "part_rates": Study(
        title="Learning rates of parts",
        question="At which rate of its own is each part at its best, on validation articles, beside A and B at theirs?",
        rows={
            name: row
            for part, (label, adapter, rates) in PARTS.items()
            for name, row in _at_each(
                f"{part}_at_", label, adapter, "rslora", {rate: {"part_rates": {part: rate}} for rate in rates}
            ).items()
        },
        varies=("position_bias_lr", "landmark_lr", "magnitude_lr"),
    ),
    "rates": Study(
        title="Learning rates",
        question="At which rate is each arm at its best, on validation articles?",
        rows={
            name: row
            for arm, (label, adapter) in ARMS.items()
            for name, row in _at_each(f"{arm}_lr", label, adapter, arm, _of_arm(RATES)).items()
        },
        varies=("learning_rate", "landmark_lr"),
    ),
}
