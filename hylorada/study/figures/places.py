"""Figures by place: the same tokens in shifted windows, facts by depth, and the end of the text where it goes on."""

from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.errors import HyLoRADAError
from hylorada.retrieved import MEASURABLE, Place, Retrieval
from hylorada.study.figures.style import (
    COLOURS,
    DASHES,
    MARKERS,
    PAGE,
    PALE,
    in_decades,
    in_style,
    rows_down,
    seed_curves,
    stage_look,
)
from hylorada.study.plan.ablation import BASE
from hylorada.study.plan.record import Record
from hylorada.study.plan.rows import Row
from hylorada.study.records.records import Records
from hylorada.wilson import wilson

ENDS = {"median": "|", "90th percentile": "x", "99th percentile": ">"}  # over places: what `end_token` measures
TASKS = {"key_value": ("key–value", "pairs"), "passkey": ("passkey", "tokens")}  # and what their size counts


@in_style
def shifted_windows(records: Records, rows: dict[str, Row]) -> Figure:
    """Mean NLL of the same tokens in each part of the window, and its difference from the untouched base.

    A thin line is a seed, the thick one their mean.
    """
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    level, difference = figure.subplots(1, 2)
    base = _shifts(records, BASE)
    difference.axhline(0, color=COLOURS[BASE], linestyle=DASHES, linewidth=0.8)
    parts = base.shape[1]
    size = records.record(BASE, None).specification.evaluation.max_length / parts
    middles = size * (np.arange(parts) + 0.5)
    for stage in records.stages:
        curves = _shifts(records, stage)
        look = stage_look(stage) | {"label": rows[stage].label}
        seed_curves(level, middles, curves, **look)
        if stage != BASE:
            seed_curves(difference, middles, curves - base, **look)
    level.set_ylabel("NLL (nats per token)")
    difference.set_ylabel("difference from base (nats)")
    for axes in (level, difference):
        axes.set_xticks(size * np.arange(parts + 1))
        axes.set_xlabel("part of the window (tokens)")
    figure.legend(*level.get_legend_handles_labels(), loc="outside right center", handlelength=2.4)
    return figure


@in_style
def retrieval(records: Records, rows: dict[str, Row]) -> Figure:
    """Share of facts retrieved by their depth in the context, a column an arm, a row a task and size.

    A small dot is a seed; the bar is Wilson's 95 % interval of all seeds' hits together, dashed is chance. Where no
    interval of a task excludes chance, it says that the task cannot be measured here.
    """
    first = _measure(next(iter(records.by_run.values())), "retrieval")
    sizes = [(task, size) for task in TASKS for size in _sizes(first[task])]
    figure = Figure(figsize=(PAGE, 0.5 + 1.15 * len(sizes)), layout="constrained")
    panels = figure.subplots(len(sizes), len(records.stages), sharex=True, sharey=True, squeeze=False)
    for column, stage in enumerate(records.stages):
        runs = [records.record(stage, seed) for seed in records.seeds(stage)]
        panels[0, column].set_title(rows[stage].label)
        for axes, (task, size) in zip(panels[:, column], sizes, strict=True):
            retrieved = [_measure(run, "retrieval")[task] for run in runs]
            _by_depth(axes, stage, [[p for p in one.places if p.size == size] for one in retrieved])
            if all(one.verdict != MEASURABLE for one in retrieved):
                axes.text(0.5, 0.97, retrieved[0].verdict, ha="center", va="top", transform=axes.transAxes, fontsize=7)
    for axes, (task, size) in zip(panels[:, 0], sizes, strict=True):
        name, unit = TASKS[task]
        axes.set_ylabel(f"{name},\n{size:,} {unit}\nretrieved (%)")
    panels[0, 0].set_ylim(-5, 105)
    panels[0, 0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("depth of the fact in the context (share of it)", fontsize=8)
    return figure


@in_style
def end_token(records: Records, rows: dict[str, Row]) -> Figure:
    """The probability of the end of the text where the text goes on, by arm: mean, and three quantiles over places.

    At the right by how much it raises perplexity on text, the mean over seeds. A row of marks is a seed.
    """
    figure = Figure(figsize=(PAGE / 1.4, 0.9 + 0.32 * len(records.stages)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(records.stages):
        runs = [_measure(records.record(name, seed), "end_token") for seed in records.seeds(name)]
        for height, run in zip(row + _spread(len(runs)), runs, strict=True):
            axes.plot(list(run.quantiles.values()), [height] * len(ENDS), color=PALE, linewidth=0.8, zorder=0)
            for value, (label, marker) in zip(run.quantiles.values(), ENDS.items(), strict=True):
                axes.plot(value, height, marker, color=COLOURS["landmarks"], markersize=4, label=label)
            axes.plot(run.mean, height, "o", color=COLOURS["rslora"], markersize=4, label="mean")
        factors = [run.perplexity_factor for run in runs]
        cost = "infinite" if None in factors else f"+{100 * (np.mean(factors) - 1):.3g} %"
        axes.text(1.02, row, cost, transform=axes.get_yaxis_transform(), va="center")
    rows_down(axes, [rows[name].label for name in records.stages])
    axes.text(1.02, -0.65, "perplexity, with it", transform=axes.get_yaxis_transform(), va="bottom")
    in_decades(axes)
    axes.set_xlabel("probability of the end where the text goes on")
    legend = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=4, handletextpad=0.2)
    return figure


def _measure(record: Record, name: str) -> Any:
    measured = getattr(record.measures, name)
    if measured is None:
        raise HyLoRADAError(
            f"{record.name} was made without the measure {name!r}; name it under `measures` and make the run again."
        )
    return measured


def _shifts(records: Records, stage: str) -> np.ndarray:
    """(seeds, parts) mean NLL."""
    runs = [records.record(stage, seed) for seed in records.seeds(stage) or [None]]  # of none, `record` says so
    return np.array([_measure(run, "shifts").nll for run in runs])


def _spread(count: int) -> np.ndarray:
    """Heights of so many seeds in one row."""
    return np.linspace(-0.25, 0.25, count) if count > 1 else np.zeros(1)


def _sizes(retrieved: Retrieval) -> list[int]:
    return list(dict.fromkeys(place.size for place in retrieved.places))


def _by_depth(axes: Axes, stage: str, runs: list[list[Place]]) -> None:
    """Draw the places of one task and size; one list a seed."""
    look = dict(color=COLOURS[stage], marker=MARKERS[stage])
    places = sorted((place for run in runs for place in run), key=lambda place: place.depth)
    for place in places:
        share = 100 * place.hits / place.trials
        axes.plot(place.depth, share, markersize=2.5, alpha=0.6, markeredgewidth=0, **look)
    depths, shares = [], []
    for depth, group in groupby(places, key=lambda place: place.depth):
        together = list(group)
        hits, trials = sum(place.hits for place in together), sum(place.trials for place in together)
        low, high = wilson(hits, trials)
        axes.plot([depth, depth], [100 * low, 100 * high], color=COLOURS[stage], linewidth=0.9, solid_capstyle="butt")
        depths.append(depth)
        shares.append(100 * hits / trials)
    axes.plot(depths, shares, markersize=4, linewidth=0.9, **look)
    axes.axhline(100 * places[0].chance, color=COLOURS[BASE], linestyle=DASHES, linewidth=0.8, zorder=0)
