"""What each method costs, from the records of `hylorada bench`: a step, its memory, and inference once merged."""

from pathlib import Path
from typing import Any

import pandas as pd

from hylorada.files import read_json
from hylorada.study.sources import project_root
from hylorada.study.tables import FOOT, escape, fixed, span, write_table

HEAD = r"""\begin{tabular}{@{}lrcrrrr@{}}
\toprule
 & \multicolumn{3}{c}{training} & \multicolumn{3}{c}{inference}\\
method & step & quartiles & memory & adapter & merged & cached\\
\midrule
"""
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


def write_cost(benchmark: dict[str, Any], tex: Path, csv: Path) -> pd.DataFrame:
    """Write the table as LaTeX and CSV."""
    table = cost_table(benchmark)
    numbers = ["memory", "inference", "merged", "generation"]
    lines = [
        " & ".join(
            [escape(row["method"]), fixed(row["step"]), span(row["step_low"], row["step_high"])]
            + ["" if pd.isna(row[name]) else fixed(row[name]) for name in numbers]
        )
        + "\\\\\n"
        for _, row in table.iterrows()
    ]
    return write_table(table, HEAD + "".join(lines) + FOOT, tex, csv)
