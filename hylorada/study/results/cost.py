"""What each method costs, from the records of `hylorada bench`: a step, its memory, and inference once merged."""

from typing import Any

import pandas as pd

from hylorada.files import read_json
from hylorada.study.checkout import project_root

BESIDE = "our rsLoRA"  # what a training step is held to; inference is held to the base
MERGED = (", merged", ", weights merged")


def read_benchmark() -> dict[str, Any]:
    """Return what `hylorada bench` measured last on a processor."""
    return read_json(project_root() / "benchmarks" / "cpu.json")


def cost_table(benchmark: dict[str, Any]) -> pd.DataFrame:
    """Return one row a method: ratios within one run, NaN where the benchmark has none.

    step, memory: over those of rsLoRA, the first with its quartiles over rounds. inference, merged, generation: time
    over the untouched base's, the last token by token from a cache.
    """
    sections = benchmark["sections"]
    memory = {row["name"]: row["peak_mib"] for row in sections["training"]}
    inference, generation = (
        {row["name"]: row["ratio"]["median"] for row in sections[section]} for section in ("inference", "generation")
    )
    rows = []
    for row in sections["training"]:
        name = row["name"]
        merged = next((inference[name + end] for end in MERGED if name + end in inference), None)
        rows.append(
            {
                "method": name,
                "step": row["second_ratio"]["median"],
                "step_low": row["second_ratio"]["low"],
                "step_high": row["second_ratio"]["high"],
                "memory": memory[name] / memory[BESIDE],
                "inference": inference.get(name),
                "merged": merged,
                "generation": generation.get(name),
            }
        )
    return pd.DataFrame(rows)
