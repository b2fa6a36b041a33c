"""The ratios that were set as goals, each a row, and what a record says of them."""

from dataclasses import dataclass
from typing import Any

from hylorada.bench.against import BEFORE
from hylorada.bench.competitors import BASE, OURS, THEIRS
from hylorada.bench.products import MACHINE

MEASURED = {"ratio": "time", "second_ratio": "time", "memory_ratio": "peak memory", "of_machine": "speed at products"}


@dataclass(frozen=True)
class Goal:
    """What a ratio of a table is to be: at most `bound`, or at least where `rises`."""

    section: str
    name: str  # of the row
    against: str
    column: str
    bound: float
    rises: bool = False


GOALS = (
    Goal("training", OURS["lora"], THEIRS["lora"], "ratio", 0.65),
    Goal("training", OURS["dora"], OURS["rslora"], "second_ratio", 1.10),
    Goal("training", OURS["dora"], THEIRS["dora"], "ratio", 0.8),
    Goal("training", OURS["hylorada"], OURS["rslora"], "second_ratio", 1.15),
    Goal("training", OURS["dora"], OURS["rslora"], "memory_ratio", 1.10),
    Goal("training", OURS["hylorada"], OURS["rslora"], "memory_ratio", 1.10),
    Goal("training", OURS["rslora"], MACHINE, "of_machine", 0.25, rises=True),
    Goal("inference", f"{OURS['rslora']}, merged", BASE, "ratio", 1.0),
    Goal("generation", OURS["rslora"], BASE, "ratio", 1.30),
    Goal("generation", OURS["dora"], BASE, "ratio", 1.35),
    Goal("generation", OURS["hylorada"], BASE, "ratio", 1.50),
    Goal("before", "a training step of rsLoRA", BEFORE, "ratio", 0.70),
    Goal("before", "a training step of HyLoRADA", BEFORE, "ratio", 0.70),
    Goal("before", "a training step of HyLoRADA", BEFORE, "memory_ratio", 1.0),
    Goal("before", "a training step of HyLoRADA, compiled pieces", BEFORE, "ratio", 0.60),
    Goal("before", "a scored window of HyLoRADA", BEFORE, "ratio", 0.58),
    Goal("before", "a scored window of HyLoRADA, compiled pieces", BEFORE, "ratio", 0.45),
)


def goals(record: dict[str, Any]) -> list[dict[str, str]]:
    """Hold a record to GOALS, by the median and, failing that, by the better quartile."""
    held = []
    for goal in GOALS:
        row = next((row for row in record["sections"].get(goal.section, []) if row["name"] == goal.name), {})
        if goal.column in row:
            value = row[goal.column]  # memory is one number without a spread
            median, low, high = (
                [value[name] for name in ("median", "low", "high")] if type(value) is dict else [value] * 3
            )
            sign, best = (-1, high) if goal.rises else (1, low)
            held.append(
                {
                    "goal": f"{MEASURED[goal.column]} of {goal.name} over {goal.against}",
                    "bound": f"{'at least' if goal.rises else 'at most'} {goal.bound:.2f}",
                    "measured": f"{median:.3f}",
                    "reached": "yes"
                    if sign * median <= sign * goal.bound
                    else "within the spread"
                    if sign * best <= sign * goal.bound
                    else "no",
                }
            )
    return held
