"""The figure of the learning rates: the whole grid of every method, its best rate, and whether the grid ends there."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.study.figure_scaling import means_over_seeds, series_table
from hylorada.study.figure_style import COLOURS, PAGE, PALE, in_style
from hylorada.study.records import Records
from hylorada.study.studies import Study

ACROSS = 4  # panels in a row
HIGHEST = 1.5  # of the best perplexity: what lies above is marked at the rim


@in_style
def learning_rates(records: Records, study: Study) -> Figure:
    """Validation perplexity against learning rate, a panel a method: dots are seeds, the line is their mean.

    The ring is the method's best rate, open where the grid ends there and a better one may lie beyond. Pale lines are
    the other methods. A triangle at the upper rim stands for a run above it, or one that diverged.
    """
    table = rates_table(records, study)
    means, best = means_over_seeds(table), best_rates(records, study)
    down = -(-len(best) // ACROSS)
    figure = Figure(figsize=(PAGE, 0.5 + 1.35 * down), layout="constrained")
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).flatten()
    lowest = best["perplexity"].min()
    rim = min(table["y"].max(), HIGHEST * lowest)
    for axes, (method, found) in zip(panels, best.iterrows(), strict=False):
        for _, other in means.groupby("series", sort=False):
            axes.plot(other["x"], other["y"], color=PALE, linewidth=0.5, zorder=0)
        own = means[means["series"] == method]
        axes.plot(own["x"], own["y"], color=COLOURS["rslora"])
        _seeds(axes, table[table["series"] == method], rim)
        fill = "white" if found["on_edge"] else COLOURS["landmarks"]
        ring = dict(markersize=6, markerfacecolor=fill, markeredgecolor=COLOURS["base"], zorder=3)
        axes.plot(found["rate"], found["perplexity"], "o", **ring)
        axes.set_title(f"{method}: {_written(found['rate'])}" + ", edge of the grid" * found["on_edge"], fontsize=7.5)
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(table["x"])), [_written(rate) for rate in sorted(set(table["x"]))], fontsize=7)
    axes.minorticks_off()
    axes.set_ylim(lowest - 0.08 * (rim - lowest), rim + 0.08 * (rim - lowest))
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(best))
        if place + ACROSS >= len(best):  # nothing below
            axes.tick_params(axis="x", labelbottom=True, rotation=90)
    figure.supxlabel("learning rate", fontsize=8)
    figure.supylabel("validation perplexity", fontsize=8)
    return figure


def rates_table(records: Records, study: Study) -> pd.DataFrame:
    """Return one line a run: row, method (`series`), seed, learning rate `x` and perplexity `y`, inf where it is NaN."""
    table = series_table(records, study, lambda record: record["specification"]["training"]["learning_rate"])
    return table.fillna({"y": np.inf}).sort_values("x", kind="stable")


def best_rates(records: Records, study: Study) -> pd.DataFrame:
    """Return one line a method: its best rate, the perplexity there, and whether the grid ends there (`on_edge`)."""
    means = means_over_seeds(rates_table(records, study))
    lines = {}
    for row in study.rows.values():
        method = row.label.rpartition(", ")[0]
        own = means[means["series"] == method].reset_index()
        if len(own):
            at = own["y"].idxmin()
            lines[method] = {
                "rate": own["x"][at],
                "perplexity": own["y"][at],
                "on_edge": bool(own["x"][at] in (own["x"].min(), own["x"].max())),
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def _seeds(axes: Axes, table: pd.DataFrame, rim: float) -> None:
    inside = table["y"] <= rim
    look = dict(color=COLOURS["rslora"], linestyle="", markeredgewidth=0)
    axes.plot(table["x"][inside], table["y"][inside], marker="o", markersize=3, alpha=0.6, **look)
    axes.plot(table["x"][~inside], np.full((~inside).sum(), rim), marker="^", markersize=4, **look)


def _written(rate: float) -> str:
    digits, power = f"{rate:.0e}".split("e")
    return f"{digits}e{int(power)}"
