"""Figures of the six stages: perplexity with every seed, loss by place in the window, and a study's rows likewise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hylorada.study.figures.style import (
    COLOURS,
    COLUMN,
    DASHES,
    MARKERS,
    PAGE,
    PALE,
    in_style,
    in_tokens,
    rows_down,
    seed_curves,
    stage_look,
)
from hylorada.study.plan.ablation import BASE
from hylorada.study.plan.rows import BITS_PER_BYTE, PERPLEXITY, Row
from hylorada.study.records.records import Records
from hylorada.study.results.effects import stage_means
from hylorada.study.results.levels import LEVELS, Level
from hylorada.study.results.statistics import bootstrap, has_interval, percentile_interval

FIRST_BIN = 8  # tokens; the bins after it grow by the square root of two
TALLEST = 8.6  # inches that a page has for rows


@in_style
def ablation(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity by stage: a dot a seed, a bar at their mean, and the interval of the stage's difference from the base.

    The interval is a crossed bootstrap over seeds and articles, paired with the base, 95 %; without a second seed there
    is none.
    """
    figure = Figure(figsize=(COLUMN, 2.2), layout="constrained")
    axes = figure.subplots()
    base = stage_means(records, BASE)
    base_perplexity = np.exp(base.mean)
    axes.axvline(base_perplexity, color=COLOURS[BASE], linestyle=DASHES, linewidth=0.8, zorder=0)
    for row, stage in enumerate(records.stages):
        means = stage_means(records, stage)
        look = dict(color=COLOURS[stage])
        if stage == BASE:
            axes.plot(base_perplexity, row, MARKERS[stage], markersize=5, **look)
            continue
        if has_interval(means - base):
            interval = percentile_interval(bootstrap(means - base))
            ends = base_perplexity * np.exp([interval.low, interval.high])
            axes.plot(ends, [row - 0.15] * 2, linewidth=1.2, solid_capstyle="butt", **look)
        axes.plot(np.exp(means.mean), row - 0.15, "|", markersize=7, markeredgewidth=1.6, **look)
        below = np.full(len(means.values), row + 0.2)
        axes.plot(np.exp(means.by_seed), below, MARKERS[stage], markersize=4, alpha=0.7, markeredgewidth=0, **look)
    rows_down(axes, [rows[stage].label for stage in records.stages])
    axes.set_xlabel("test perplexity (lower is better)")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    return figure


@in_style
def position_nll(records: Records, rows: dict[str, Row]) -> Figure:
    """Mean NLL by the number of tokens before a token in its window, and its difference from the untouched base.

    A thin line is a seed, the thick one their mean; bins are eight tokens, then wider by the square root of two.
    """
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    level, difference = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    edges = _edges(int(records.nll(BASE, None).context.max()))
    centres = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
    base = _by_position(records, BASE, edges)
    difference.axhline(0, color=COLOURS[BASE], linestyle=DASHES, linewidth=0.8)
    for stage in records.stages:
        curves = _by_position(records, stage, edges)
        seed_curves(level, centres, curves, **stage_look(stage))
        if stage != BASE:
            seed_curves(difference, centres, curves - base, **stage_look(stage))
    level.set_ylabel("NLL (nats per token)")
    difference.set_ylabel("difference from base (nats)")
    for axes in (level, difference):
        in_tokens(axes, "tokens before, in the window")
    figure.legend(*level.get_legend_handles_labels(), loc="outside right center", handlelength=2.4)
    return figure


@in_style
def study_rows(records: Records, rows: dict[str, Row]) -> Figure:
    """Perplexity by row of a study: a dot a seed, a tick at their mean, a line from the row that it is held against.

    With two seeds or more a bar gives the interval of the difference from that row, a crossed bootstrap, 95 %.
    """
    return _by_row(records, rows, LEVELS[PERPLEXITY])


@in_style
def study_rows_in_bits(records: Records, rows: dict[str, Row]) -> Figure:
    """The same in bits a byte, for rows that have tokenizers of their own."""
    return _by_row(records, rows, LEVELS[BITS_PER_BYTE])


def _by_row(records: Records, rows: dict[str, Row], kind: Level) -> Figure:
    height = min(0.24 * len(records.stages), TALLEST)
    figure = Figure(figsize=(PAGE / 1.4, 0.6 + height), layout="constrained")
    axes = figure.subplots()
    means = {name: stage_means(records, name, kind.means) for name in records.stages}
    for row, (name, level) in enumerate(means.items()):
        at, against = kind.of_mean(level.mean), rows[name].against
        if against is not None:
            start = kind.of_mean(means[against].mean)
            axes.plot([start, at], [row] * 2, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
            axes.plot(start, row, "|", color=PALE, markersize=7, zorder=0)
            if has_interval(level - means[against]):
                interval = percentile_interval(bootstrap(level - means[against]))
                ends = [kind.of_mean(means[against].mean + end) for end in (interval.low, interval.high)]
                axes.plot(ends, [row - 0.2] * 2, color="black", linewidth=1.2, solid_capstyle="butt")
        axes.plot(at, row, "|", color="black", markersize=9, markeredgewidth=1.6)
        marker = "X" if records.seeds(name) == [None] else "o"
        seeds = dict(color=COLOURS["rslora"], markersize=3.5, alpha=0.7, markeredgewidth=0)
        of_seeds = [kind.of_mean(mean) for mean in level.by_seed]
        axes.plot(of_seeds, np.full(len(of_seeds), row + 0.2), marker, **seeds)
    rows_down(axes, [rows[name].label for name in means])
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"{kind.head} (lower is better)")
    return figure


def _edges(last: int) -> np.ndarray:
    """Return rising bin edges from 1 to `last` + 1; a rest too short for a bin of its own joins the one before."""
    grid = np.round(FIRST_BIN * 2 ** (np.arange(64) / 2)).astype(int)
    return np.array([1, *grid[grid <= last + 1][:-1], last + 1])


def _by_position(records: Records, stage: str, edges: np.ndarray) -> np.ndarray:
    """(seeds, bins) mean NLL."""
    stores = [records.nll(stage, seed) for seed in records.seeds(stage)]
    return np.array([store.nll_by_position(edges, by="context")[0] for store in stores])
