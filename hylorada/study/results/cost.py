"""What each method costs, from the records of `hylorada bench`: a step, its memory, and inference once merged."""

from pathlib import Path
from typing import Any

import pandas as pd

from hylorada.reading import hold, read_json
from hylorada.study.checkout import project_root

BESIDE = "our rsLoRA"  # what a training step is held to; inference is held to the base
SECTIONS = ("training", "inference", "generation")  # what the paper reads of it
MERGED = (", merged", ", weights merged")


def read_benchmark(path: Path | None = None) -> dict[str, Any]:
    """Return what `hylorada bench` measured last on a processor.

    Raises:
        HyLoRADAError: there is no such record, or it is none.
    """
    path = project_root() / "benchmarks" / "cpu.json" if path is None else path
    record = read_json(path, setting=dict, machine=dict, sections=dict, started=str, finished=str)
    hold(record["setting"], path, model=str, dtype=str, tokens=int, rounds=int)
    hold(record["machine"], path, threads=int, cores=int, processor=str, device=str, versions=dict)
    hold(record["sections"], path, **dict.fromkeys(SECTIONS, list))
    for row in (row for rows in record["sections"].values() for row in rows):
        hold(row, path, name=str)
    return record


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
