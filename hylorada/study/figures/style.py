"""The look of every figure: widths, one palette that survives grey print, and how a figure is written."""

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from hylorada.files import written_beside
from hylorada.study.plan.ablation import STAGES

COLUMN, PAGE = 3.2, 6.7  # widths in inches of the paper's column and text, so that nothing is scaled in print
PALETTE = ("#000000", "#332288", "#a01f5f", "#2a9150", "#d9742b", "#6fb7dd")  # each lighter than the last, in grey too
MARKS = "XosD^v"  # and each colour has its mark
COLOURS = dict(zip(STAGES, PALETTE, strict=True))
MARKERS = dict(zip(STAGES, MARKS, strict=True))
PALE = "0.65"  # what stands behind: references, other curves
DASHES = (0, (4, 3))
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", COLOURS["learned_buckets"], COLOURS["rslora"]])
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
Takes = ParamSpec("Takes")


def in_style(draw: Callable[Takes, Figure]) -> Callable[Takes, Figure]:
    """Draw under STYLE, and leave the reader's settings as they were."""

    @wraps(draw)
    def drawn(*arguments: Takes.args, **named: Takes.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **named)

    return drawn


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `<stem>.pdf` and `<stem>.png`, laid out alike; equal figures give equal bytes, for no date is written."""
    for _ in range(2):  # the first layout sets the ticks, whose labels the second makes room for
        with mpl.rc_context(STYLE):
            figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ending, undated in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        target, drawn = stem.with_name(stem.name + ending), BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(drawn, format=ending[1:], metadata=undated)  # not to the disk: a full one is a fault there
        with written_beside(target) as beside:
            beside.write_bytes(drawn.getbuffer())


def seed_curves(
    axes: Axes, x: np.ndarray, curves: np.ndarray, *, label: str, colour: str, marker: str, every: int = 1
) -> None:
    """Draw a thin line for each row of `curves` (seeds, points) and a thick one at their mean; no marker is dashed.

    every: points from one marker to the next.
    """
    if len(curves) > 1:
        axes.plot(x, curves.T, color=colour, linewidth=0.5, alpha=0.45)
    dashes = "solid" if marker else DASHES
    look = dict(color=colour, linestyle=dashes, marker=marker, markersize=3.5, markevery=every, label=label)
    axes.plot(x, curves.mean(axis=0), **look)


def stage_look(stage: str) -> dict[str, str]:
    """Return how `seed_curves` draws a stage; the untouched base is the dashed line."""
    untouched = STAGES[stage].adapter is None
    return {"label": STAGES[stage].label, "colour": COLOURS[stage], "marker": "" if untouched else MARKERS[stage]}


def rows_down(axes: Axes, labels: list[str], margin: float = 0.6) -> None:
    """Name the rows of a dot figure, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 1 + margin, -margin)
    axes.tick_params(axis="y", length=0)


def in_tokens(axes: Axes, label: str) -> None:
    """Make x a logarithmic axis of token counts or places, written as whole numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(label)


def in_decades(axes: Axes, side: Literal["x", "y"] = "x") -> None:
    """Make an axis, once all is drawn, logarithmic with as many numbers as fit its range."""
    axes.set(**{f"{side}scale": "log"})
    axis = axes.xaxis if side == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high < 30 * low else (1, 3) if high < 3000 * low else (1,)
    many = high > 1e5 * low  # then powers of ten, few enough to stand side by side
    axis.set_major_locator(mpl.ticker.LogLocator(subs=steps, numticks=4 if many else None))
    written = mpl.ticker.LogFormatterMathtext() if many else mpl.ticker.StrMethodFormatter("{x:g}")
    axis.set_major_formatter(written)
    axis.set_minor_locator(mpl.ticker.NullLocator())
