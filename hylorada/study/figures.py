"""The figures of the paper: records in, `Figure` out. Every seed is shown; colours survive grey print."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.files import written_beside
from hylorada.study.records import Records
from hylorada.study.stages import STAGES
from hylorada.study.statistics import bootstrap, percentile_interval
from hylorada.study.studies import Row
from hylorada.study.tables import BASE, stage_means

COLUMN, PAGE = 3.2, 6.7  # widths in inches of the paper's column and text, so that nothing is scaled in print
COLOURS = {  # each clearly lighter than the one before it, also in grey
    "base": "#000000",
    "rslora": "#332288",
    "magnitude": "#a01f5f",
    "position_bias": "#2a9150",
    "landmarks": "#d9742b",
    "learned_buckets": "#6fb7dd",
}
MARKERS = dict(zip(STAGES, "XosD^v", strict=True))
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
FIRST_BIN = 8  # tokens; the bins after it grow by the square root of two


def ablation(records: Records) -> Figure:
    """Perplexity by stage: a dot a seed, a bar at their mean, and the interval of the stage's difference from the base.

    The interval is a crossed bootstrap over seeds and articles, paired with the base, 95 %; without a second seed there
    is none.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.2), layout="constrained")
        axes = figure.subplots()
        base = stage_means(records, BASE)
        base_perplexity = np.exp(base.mean)
        axes.axvline(base_perplexity, color=COLOURS[BASE], linestyle=(0, (4, 3)), linewidth=0.8, zorder=0)
        for row, stage in enumerate(records.stages):
            means = stage_means(records, stage)
            if stage == BASE:
                axes.plot(base_perplexity, row, MARKERS[stage], color=COLOURS[stage], markersize=5)
                continue
            if len(means.values) > 1:
                interval = percentile_interval(bootstrap(means - base))
                ends = base_perplexity * np.exp([interval.low, interval.high])
                axes.plot(ends, [row - 0.15] * 2, color=COLOURS[stage], linewidth=1.2, solid_capstyle="butt")
            axes.plot(np.exp(means.mean), row - 0.15, "|", color=COLOURS[stage], markersize=7, markeredgewidth=1.6)
            below = np.full(len(means.values), row + 0.2)
            axes.plot(
                np.exp(means.by_seed),
                below,
                MARKERS[stage],
                color=COLOURS[stage],
                markersize=4,
                alpha=0.7,
                markeredgewidth=0,
            )
        axes.set_yticks(range(len(records.stages)), [STAGES[stage].label for stage in records.stages])
        axes.set_ylim(len(records.stages) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("test perplexity (lower is better)")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    return figure


def position_nll(records: Records) -> Figure:
    """Mean NLL by the number of tokens before a token in its window, and its difference from the untouched base.

    A thin line is a seed, the thick one their mean; bins are eight tokens, then wider by the square root of two.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
        level, difference = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
        edges = _edges(int(records.nll(BASE, None).context.max()))
        centres = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
        base = _by_position(records, BASE, edges)
        difference.axhline(0, color=COLOURS[BASE], linestyle=(0, (4, 3)), linewidth=0.8)
        for stage in records.stages:
            curves = _by_position(records, stage, edges)
            _curves(level, stage, centres, curves)
            if stage != BASE:
                _curves(difference, stage, centres, curves - base)
        level.set_ylabel("NLL (nats per token)")
        difference.set_ylabel("difference from base (nats)")
        for axes in (level, difference):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
            axes.set_xlabel("tokens before, in the window")
        handles, labels = level.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, handlelength=2.4)
    return figure


def study_rows(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity by row of a study: a dot a seed, a tick at their mean, a line from the row that it is held against.

    With two seeds or more a bar gives the interval of the difference from that row, a crossed bootstrap, 95 %.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE / 1.4, 0.6 + 0.24 * len(records.stages)), layout="constrained")
        axes = figure.subplots()
        means = {name: stage_means(records, name) for name in records.stages}
        for height, (name, found) in enumerate(means.items()):
            at, against = np.exp(found.mean), rows[name].against
            if against is not None:
                start = np.exp(means[against].mean)
                axes.plot([start, at], [height] * 2, color="0.65", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
                axes.plot(start, height, "|", color="0.65", markersize=7, zorder=0)
                if len(found.values) > 1:
                    interval = percentile_interval(bootstrap(found - means[against]))
                    ends = start * np.exp([interval.low, interval.high])
                    axes.plot(ends, [height - 0.2] * 2, color="black", linewidth=1.2, solid_capstyle="butt")
            axes.plot(at, height, "|", color="black", markersize=9, markeredgewidth=1.6)
            marker = "X" if records.seeds(name) == [None] else "o"
            dots = np.full(len(found.values), height + 0.2)
            seeds = dict(color=COLOURS["rslora"], markersize=3.5, alpha=0.7, markeredgewidth=0)
            axes.plot(np.exp(found.by_seed), dots, marker, **seeds)
        axes.set_yticks(range(len(means)), [rows[name].label for name in means])
        axes.set_ylim(len(means) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("perplexity (lower is better); from a grey tick: the row it is held against")
    return figure


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `<stem>.pdf` and `<stem>.png`; equal figures give equal bytes, for no date is written."""
    for ending, undated in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        target = stem.with_name(stem.name + ending)
        with mpl.rc_context(STYLE), written_beside(target) as beside:
            figure.savefig(beside, format=ending[1:], metadata=undated)


FIGURES: dict[str, Callable[[Records], Figure]] = {"ablation": ablation, "position_nll": position_nll}


def _edges(last: int) -> np.ndarray:
    """Return rising bin edges from 1 to `last` + 1; a rest too short for a bin of its own joins the one before."""
    grid = np.round(FIRST_BIN * 2 ** (np.arange(64) / 2)).astype(int)
    return np.array([1, *grid[grid <= last + 1][:-1], last + 1])


def _by_position(records: Records, stage: str, edges: np.ndarray) -> np.ndarray:
    """(seeds, bins) mean NLL."""
    stores = [records.nll(stage, seed) for seed in records.seeds(stage)]
    return np.array([store.nll_by_position(edges, by="context")[0] for store in stores])


def _curves(axes: Axes, stage: str, x: np.ndarray, curves: np.ndarray) -> None:
    colour = COLOURS[stage]
    if len(curves) > 1:
        axes.plot(x, curves.T, color=colour, linewidth=0.5, alpha=0.45)
    dashed = (0, (4, 3)) if stage == BASE else "solid"
    marker = "" if stage == BASE else MARKERS[stage]
    axes.plot(
        x, curves.mean(axis=0), color=colour, linestyle=dashed, marker=marker, markersize=3.5, label=STAGES[stage].label
    )
