"""The figure of what attention costs by length: whole, and in the groups that S²-Attn trains with."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.errors import HyLoRADAError
from hylorada.study.figures.style import COLOURS, MARKERS, PAGE, PALE, in_style, in_tokens

LOOKS = {"full": "rslora", "in groups": "landmarks"}  # whose colour and mark
GROWTH = {"in proportion to length": 1, "to its square": 2}  # powers of the reference lines


@in_style
def s2_cost(benchmark: dict[str, Any]) -> Figure:
    """Time and peak memory of one layer's attention, forward and backward, by length; whole, and in groups.

    Grey lines grow in proportion to length and to its square, from the first point.
    """
    table = attention_table(benchmark)
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    units = {"milliseconds": "time (ms)", "peak_mib": "peak memory (MiB)"}
    panels = figure.subplots(1, len(units))
    for axes, (column, label) in zip(panels, units.items(), strict=True):
        _references(axes, table, column)
        for kind, own in table.groupby("kind", sort=False):
            look = dict(color=COLOURS[LOOKS[kind]], marker=MARKERS[LOOKS[kind]], markersize=4)
            axes.plot(own["tokens"], own[column], label=f"attention {kind}", **look)
        in_tokens(axes, "length (tokens)")
        axes.set_xticks(sorted(set(table["tokens"])))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
        axes.set_ylabel(label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def attention_table(benchmark: dict[str, Any]) -> pd.DataFrame:
    """Return one line a measurement: tokens, kind ("full" or "in groups"), milliseconds, peak_mib.

    Raises:
        HyLoRADAError: the benchmark did not measure attention.
    """
    rows = benchmark["sections"].get("attention")
    if not rows:
        raise HyLoRADAError("this benchmark has no section `attention`; run `hylorada bench` without --only.")
    table = pd.DataFrame(rows)[["name", "milliseconds", "peak_mib"]]
    table[["tokens", "kind"]] = table.pop("name").str.split(" tokens, ", expand=True).to_numpy()
    return table.assign(tokens=table["tokens"].str.replace(",", "").astype(int))


def _references(axes: Axes, table: pd.DataFrame, column: str) -> None:
    tokens = np.array(sorted(set(table["tokens"])), dtype=float)
    start = table[column][table["tokens"] == tokens[0]].min()
    for (label, power), dashes in zip(GROWTH.items(), [(0, (4, 3)), (0, (1, 2))], strict=True):
        grown = start * (tokens / tokens[0]) ** power
        axes.plot(tokens, grown, color=PALE, linestyle=dashes, linewidth=1, label=label, zorder=0)
    axes.set_ylim(start / 1.6, 1.6 * table[column].max())
