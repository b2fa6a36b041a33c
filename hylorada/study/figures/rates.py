"""The figure of the learning rates: the whole grid of every method, its best rate, and whether the grid ends there."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hylorada.study.figures.style import COLOURS, PAGE, PALE, in_style
from hylorada.study.plan.rows import Row
from hylorada.study.records.records import Records
from hylorada.study.results.rates import best_rates, mean_rates, rates_table

ACROSS = 4  # panels in a row
RING = dict(linestyle="", marker="o", markersize=6, markeredgecolor=COLOURS["base"])
RINGS = {False: RING | {"markerfacecolor": COLOURS["landmarks"]}, True: RING | {"markerfacecolor": "white"}}
RIM = dict(linestyle="", marker="^", markersize=4, color=COLOURS["rslora"])
LONGEST = 27  # characters of a title in one line
HIGHEST = 1.5  # of the best perplexity: what lies above is marked at the rim


@in_style
def learning_rates(records: Records, rows: dict[str, Row]) -> Figure:
    """Validation perplexity against learning rate, a panel a method or part: dots are seeds, the line is their mean.

    The ring is its best rate, open where the grid ends there and a better one may lie beyond. Pale lines are
    the others. A triangle at the upper rim stands for a run above it, or one that diverged.
    """
    table, best = rates_table(records, rows), best_rates(records, rows)
    means = mean_rates(table)
    down = -(-len(best) // ACROSS)
    figure = Figure(figsize=(PAGE, 0.5 + 1.35 * down), layout="constrained")
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).flatten()
    lowest = best["perplexity"].min()
    rim = min(table["perplexity"].max(), HIGHEST * lowest)
    for axes, (arm, at_best) in zip(panels, best.iterrows(), strict=False):
        for _, other in means.groupby("arm", sort=False):
            axes.plot(other["rate"], other["perplexity"], color=PALE, linewidth=0.5, zorder=0)
        own = means[means["arm"] == arm]
        axes.plot(own["rate"], own["perplexity"], color=COLOURS["rslora"])
        _seeds(axes, table[table["arm"] == arm], rim)
        axes.plot(at_best["rate"], at_best["perplexity"], **RINGS[bool(at_best["on_edge"])], zorder=3)
        rate = _written(at_best["rate"]) + " (edge)" * at_best["on_edge"]
        found = rate if np.isfinite(at_best["perplexity"]) else "diverged"
        gap = " " if len(at_best["label"]) + len(found) <= LONGEST else "\n"
        axes.set_title(f"{at_best['label']}:{gap}{found}", fontsize=7.5)
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(table["rate"])), [_written(rate) for rate in sorted(set(table["rate"]))], fontsize=7)
    axes.minorticks_off()
    axes.set_ylim(lowest - 0.08 * (rim - lowest), rim + 0.08 * (rim - lowest))
    for axes in panels[-ACROSS:]:
        axes.tick_params(axis="x", rotation=90)
        axes.set_xlabel("learning rate")
    for axes in panels[len(best) :]:  # what is left of a panel is the rates of the one above
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    _key(figure)
    figure.supylabel("validation perplexity", fontsize=8)
    return figure


def _seeds(axes: Axes, table: pd.DataFrame, rim: float) -> None:
    inside = table["perplexity"] <= rim
    axes.plot(table["rate"][inside], table["perplexity"][inside], "o", color=COLOURS["rslora"], markersize=3, alpha=0.6)
    axes.plot(table["rate"][~inside], np.full((~inside).sum(), rim), **RIM)


def _key(figure: Figure) -> None:
    marks = {"best rate": RINGS[False], "best, at an edge of the grid": RINGS[True], "above, or diverged": RIM}
    lines = [Line2D([], [], label=label, **look) for label, look in marks.items()]
    others = Line2D([], [], color=PALE, linewidth=0.5, label="the others")
    figure.legend(handles=[*lines, others], loc="outside lower center", ncols=4)


def _written(rate: float) -> str:
    digits, power = f"{rate:.0e}".split("e")
    return f"{digits}e{int(power)}"
