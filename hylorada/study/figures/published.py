"""The figure of the figures published on one day, by what the models behind them did, over our own seeds."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hylorada.study.claims.catalogue import Catalogue
from hylorada.study.figures.style import COLOURS, PAGE, STYLE
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.records.records import Records
from hylorada.study.results.published_metrics import line_means, published_lines
from hylorada.study.results.statistics import prediction_interval

ROWS = {  # functional family -> the stage of the ablation that does the same as published, None where there is none
    "rsLoRA, no landmarks": "rslora",
    "rsLoRA + DoRA, no landmarks": "magnitude",
    "rsLoRA + DoRA + trained landmarks": "landmarks",
    "rsLoRA + trained landmarks": None,
}
PAPER, LATER = "o", "D"
NO_ROW = "0.35"  # grey of a family that our runs do not have


def published_numbers(catalogue: Catalogue, published: Records | None) -> Figure:
    """Published perplexity over that of the untouched base, a mark a figure, a row a functional family.

    Numbers of one row differ in name only, so their spread is that of single runs. published: the study `as_published`;
    with it each of our seeds is a tick below, by the same metric over our own base, and with two or more a band shows
    where 95 % of single runs fall.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE / 1.25, 2.1), layout="constrained")
        axes = figure.subplots()
        axes.axvline(1.0, color=COLOURS["base"], linestyle=(0, (4, 3)), linewidth=0.8, zorder=0)
        for height, (family, members) in enumerate(catalogue.families.items()):
            stage = ROWS[family]
            colour = NO_ROW if stage is None else COLOURS[stage]
            for name in members:
                ratio = catalogue[name].number / catalogue[catalogue.headlines.baseline].number
                later = name in catalogue.later
                marker, face = (LATER, "none") if later else (PAPER, colour)
                axes.plot(ratio, height - 0.12, marker, color=colour, markerfacecolor=face, markersize=5)
            if stage is not None and published is not None and AS_PUBLISHED_ROWS[stage] in published.stages:
                _own_seeds(axes, published, stage, height + 0.24, colour)
        axes.set_yticks(range(len(catalogue.families)), list(catalogue.families))
        axes.set_ylim(len(catalogue.families) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("perplexity over the untouched base's (lower is better)")
        handles = [
            mpl.lines.Line2D([], [], linestyle="", marker=PAPER, color=NO_ROW, label="in the documents"),
            mpl.lines.Line2D(
                [], [], linestyle="", marker=LATER, color=NO_ROW, markerfacecolor="none", label="later that day"
            ),
        ]
        if published is not None:
            handles.append(mpl.lines.Line2D([], [], linestyle="", marker="|", color=NO_ROW, label="our seeds"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, handletextpad=0.3)
    return figure


def _own_seeds(axes: mpl.axes.Axes, published: Records, stage: str, height: float, colour: str) -> None:
    base, own = (line_means(published_lines(published, AS_PUBLISHED_ROWS[name])).by_seed for name in ("base", stage))
    ratios = own / base
    if len(ratios) > 1:
        run = prediction_interval(np.log(ratios))
        band = np.exp([run.low, run.high])
        axes.plot(band, [height] * 2, color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
    axes.plot(ratios, np.full(len(ratios), height), "|", color=colour, markersize=7, markeredgewidth=1.2)
