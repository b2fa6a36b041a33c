"""Sentences of the paper about cost, from the records of `hylorada bench`. LaTeX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hylorada.study.readings import share_text
from hylorada.study.tables import fixed


def cost_sentence(table: pd.DataFrame) -> str:
    """Say what a step of the stack costs; table: of `hylorada.study.tables_cost.cost_table`."""
    row = table.set_index("method")
    ours, dora = (row.loc[name] for name in ("our HyLoRADA", "our DoRA"))
    plain, peft, whole = (
        row.loc[f"PEFT {name}"] for name in ("rsLoRA, adapter as base", "DoRA, adapter as base", "DoRA")
    )
    faster = "less" if dora["step"] < peft["step"] else "no less"
    return (
        f"A training step of the whole stack takes {fixed(ours['step'])} times as long as one of rsLoRA with "
        f"{fixed(ours['memory'])} times its memory. DoRA takes {fixed(dora['step'])} times, {faster} than the "
        f"{fixed(peft['step'])} of the PEFT library with the adapter in the base's type ({fixed(whole['step'])} as it "
        f"comes); PEFT's rsLoRA in that type takes {fixed(plain['step'])}. With the weights merged, inference of the "
        f"stack takes {fixed(ours['merged'])} times the base's; without, {fixed(ours['inference'])} times, and token "
        f"by token from a cache {fixed(ours['generation'])} times."
    )


def groups_sentence(benchmark: Mapping[str, Any]) -> str:
    """Say what attention in groups costs against whole attention at the longest measured length."""
    rows = {row["name"]: row for row in benchmark["sections"]["attention"]}
    longest = [name for name in rows if name.endswith("in groups")][-1]
    first = [name for name in rows if name.endswith("in groups")][0]
    tokens = [int(name.split()[0].replace(",", "")) for name in (first, longest)]
    growth = np.log(rows[longest]["milliseconds"] / rows[first]["milliseconds"]) / np.log(tokens[1] / tokens[0])
    memory = rows[longest]["peak_mib"] / rows[longest.replace("in groups", "full")]["peak_mib"]
    shape = "in proportion to length" if abs(growth - 1) < 0.15 else f"as length to the power {growth:.2f}"
    return (
        f"At {longest.split()[0].replace(',', chr(92) + ',')} tokens a layer's attention in groups takes "
        f"{share_text(rows[longest]['ratio']['median'])} of the time of whole attention, and {fixed(memory)} times its "
        f"memory; its time grows {shape}."
    )
