"""The figure of learning: how far each stage's training loss lies from that of the first, step by step."""

import numpy as np
from matplotlib.figure import Figure

from hylorada.errors import HyLoRADAError
from hylorada.study.figures.style import COLOURS, COLUMN, DASHES, in_style, seed_curves, stage_look
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.rows import Row
from hylorada.study.records.records import Records

FIRST = "rslora"  # what the others are held against: equal seeds train on equal blocks in equal order
WINDOWS = 8  # to a training: over so long a part of it each point is a mean
MARKERS = 8  # on a line


@in_style
def learning_curves(records: Records, rows: dict[str, Row]) -> Figure:
    """Training loss of each stage less rsLoRA's at the same seed, by step, as a running mean over the window stated.

    A thin line is a seed, the thick one their mean.
    """
    figure = Figure(figsize=(COLUMN, 2.8), layout="constrained")
    axes = figure.subplots()
    losses = {stage: _losses(records, stage) for stage in records.stages if STAGES[stage].adapter is not None}
    first = losses.pop(FIRST)  # (seeds, steps)
    window = max(1, first.shape[1] // WINDOWS)
    at = np.arange(first.shape[1] - window + 1) + (window + 1) / 2  # the middle of each window, in steps from 1
    axes.axhline(0, color=COLOURS[FIRST], linestyle=DASHES, linewidth=0.8, label=STAGES[FIRST].label)
    for stage, own in losses.items():
        if own.shape != first.shape:
            raise HyLoRADAError(f"the runs of {stage!r} and {FIRST!r} have other seeds or steps; run both alike.")
        seed_curves(axes, at, _smooth(own - first, window), **stage_look(stage), every=max(1, len(at) // MARKERS))
    over = f", mean over {window} steps" if window > 1 else ""
    axes.set_ylabel("training loss less rsLoRA's\n(nats per token)")
    axes.set_xlabel(f"step{over}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=2.0)
    return figure


def _losses(records: Records, stage: str) -> np.ndarray:
    """(seeds, steps) training loss of each step, as many steps as the shortest run has."""
    seeds = [[row["loss"] for row in records.record(stage, seed).training.history] for seed in records.seeds(stage)]
    return np.array([losses[: min(map(len, seeds))] for losses in seeds])


def _smooth(curves: np.ndarray, window: int) -> np.ndarray:
    """(seeds, steps - window + 1) means over `window` steps in a row."""
    return np.lib.stride_tricks.sliding_window_view(curves, window, axis=1).mean(axis=2)
