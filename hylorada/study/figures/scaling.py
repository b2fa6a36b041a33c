"""Figures of how perplexity goes with one quantity: rank, length of context, adapted layers, size of the base."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.study.figures.style import COLOURS, COLUMN, MARKERS, MARKS, PALETTE, in_decades, in_style, in_tokens
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import Record
from hylorada.study.plan.rows import Row
from hylorada.study.records.records import Records

Reading = Callable[[Record], float]  # what a record says of itself
WIDE = 1.6  # times the lowest: from there on, y is logarithmic
PERPLEXITY = "perplexity (lower is better)"
LONGEST_BESIDE = 22  # letters of a label that still has room for another beside it


@in_style
def rank_scaling(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity against rank, a line a rule for the scale; a dot is a seed, the line goes through their means."""
    table = series_table(records, rows)
    figure, axes = _drawn(table, PERPLEXITY)
    in_tokens(axes, "rank")
    axes.set_xticks(sorted(set(table["x"])))
    return figure


@in_style
def context_scaling(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity against the length of training blocks and evaluation windows; every length scores the same tokens."""
    table = series_table(records, rows)
    figure, axes = _drawn(table, PERPLEXITY)
    in_tokens(axes, "length of blocks and windows (tokens)")
    axes.set_xticks(sorted(set(table["x"])))
    return figure


@in_style
def module_scaling(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity against the numbers that a set of adapted layers trains; a mark a set, filled at the mean of seeds."""
    table = series_table(records, rows, lambda record: record.trainable / 1e6)
    figure, axes = _drawn(table, PERPLEXITY)
    axes.set_xlabel("trained parameters (millions)")
    axes.set_xlim(left=0)
    for handle in figure.legends[0].get_lines():  # of one point a set there is no line
        handle.set_linestyle("")
    return figure


@in_style
def base_scaling(records: Records, rows: dict[str, Row]) -> Figure:
    """Bits per byte, which other tokenizers leave comparable, against the size of the base model; a line a stage."""
    table = series_table(records, rows, _base_millions, "bits_per_byte")
    figure, axes = _drawn(table, "bits per byte (lower is better)")
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(table["x"])), [f"{size:,.0f}" for size in sorted(set(table["x"]))])
    axes.minorticks_off()
    axes.set_xlim(table["x"].min() / 1.4, table["x"].max() * 1.4)  # also where there is one base
    axes.set_xlabel("parameters of the base model (millions)")
    return figure


def series_table(
    records: Records, rows: dict[str, Row], x: Reading | None = None, result: str = "perplexity"
) -> pd.DataFrame:
    """Return one line a run: row, series, seed, x and y, a result; x is that of the row, or what a record says."""
    return pd.DataFrame(
        {
            "row": name,
            "series": rows[name].series,
            "seed": seed,
            "x": rows[name].x if x is None else x(record),
            "y": record.results[result],
        }
        for (name, seed), record in records.by_run.items()
    )


def means_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of y over the seeds of each series and x, as of perplexities: exp of the mean of log y."""
    logarithms = table.assign(y=np.log(table["y"])).groupby(["series", "x"], sort=False, as_index=False)["y"].mean()
    return logarithms.assign(y=np.exp(logarithms["y"]))


def _base_millions(record: Record) -> float:
    return (record.total - record.trainable) / 1e6


def _looks(series: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return colours and marks: a stage has its own where all are stages, else they come in order."""
    of_stages = {stage.label: (COLOURS[name], MARKERS[name]) for name, stage in STAGES.items()}
    in_order = dict(zip(series, zip(PALETTE[1:], MARKS[1:], strict=True), strict=False))
    looks = of_stages if set(series) <= set(of_stages) else in_order
    return {name: looks[name][0] for name in series}, {name: looks[name][1] for name in series}


def _drawn(table: pd.DataFrame, y_label: str) -> tuple[Figure, Axes]:
    """Draw every seed as a dot and a line through the means of each series."""
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    colours, marks = _looks(list(dict.fromkeys(table["series"])))
    look = dict(x="x", y="y", hue="series", style="series", markers=marks, palette=colours, ax=axes)
    sns.scatterplot(table, s=9, linewidth=0.3, zorder=3, legend=False, **look)
    sns.lineplot(means_over_seeds(table), dashes=False, markeredgewidth=0, **look)
    drawn = [line for line in axes.lines if len(line.get_xdata())]  # the others are those of the key
    for line, width in zip(drawn, np.linspace(2.4, 1.0, len(drawn)), strict=True):
        line.set(linewidth=width, markersize=3 + width)  # a line that lies on another leaves its rim to be seen
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    if table["y"].max() > WIDE * table["y"].min():
        in_decades(axes, "y")
    handles, labels = axes.get_legend_handles_labels()
    across = 2 if max(map(len, labels)) <= LONGEST_BESIDE else 1
    figure.legend(handles, labels, loc="outside upper center", ncols=across)
    axes.get_legend().remove()
    return figure, axes
