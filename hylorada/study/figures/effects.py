"""The whole family of effects on one axis: what was published, what was measured, what is of interest, what could be.

Below zero is better, as everywhere. The axis is linear where effects are small and logarithmic beyond.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.study.claims.catalogue import load_catalogue
from hylorada.study.figures.style import COLOURS, PAGE, PALE, in_style, rows_down
from hylorada.study.plan.ablation import BASE, STAGES
from hylorada.study.plan.budget import is_cut_short
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.registered import read_plan
from hylorada.study.plan.rows import Row
from hylorada.study.records.records import Records
from hylorada.study.results.effects import is_adjusted, stage_means
from hylorada.study.results.protocols import steps_by_lines
from hylorada.study.results.published_metrics import line_ratio, published_lines
from hylorada.study.results.statistics import Effect, family_of_effects, percent
from hylorada.study.results.tables import study_table

STACK, FIRST, WHOLE = "landmarks", "rslora", "stack"  # the best published stage, the first, and the one on the other
Study = tuple[Records, dict[str, Row]]
SHIFT = 0.2  # of a row's height between two of its marks
LINEAR = 1.0  # percent: up to here the axis is linear
TICKS = (-20, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 20)


@dataclass(frozen=True)
class Mark:
    """How the effects of one procedure look. at: their place in the row, 0 its middle."""

    words: str
    colour: str
    marker: str
    at: float


MARKS = {
    "published": Mark("published", "black", "D", -1.5),
    "as_published": Mark("by the published procedure", COLOURS["landmarks"], "v", -0.5),
    "ablation": Mark("corrected, common rates", COLOURS["rslora"], "o", 0.5),
    "ablation_tuned": Mark("corrected, own rates", COLOURS["position_bias"], "s", 1.5),
    "controls": Mark("controls", COLOURS["magnitude"], "^", 0.5),
}


def family(records: Records, rows: Mapping[str, Row], beside: Mapping[str, Study]) -> pd.DataFrame:
    """Return one line a mark: row, label, by (of MARKS), effect, low, high (percent), resolved, ceiling (percent).

    A published effect has no interval; a measured one without any is left out, as is the published procedure where it
    stops before its last step. ceiling: NaN where none was measured.
    """
    claimed = _claimed()
    lines = [{"row": row, "by": "published", "effect": value} for row, (_, value) in claimed.items()]
    for name, (own, its_rows) in {"ablation": (records, dict(rows)), **beside}.items():
        if name == "as_published":
            lines += [] if is_cut_short(own.asked) else _by_lines(own)
        else:
            lines += _corrected(name, own, its_rows)
    table = pd.DataFrame(lines, columns=["row", "by", "effect", "low", "high", "resolved", "ceiling"])
    table.insert(1, "label", [claimed[row][0] if row in claimed else row for row in table["row"]])
    order = {row: place for place, row in enumerate(dict.fromkeys([*claimed, *table["row"]]))}
    table = table[(table["by"] == "published") | table["low"].notna()]
    return table.sort_values("row", key=lambda row: row.map(order), kind="stable").reset_index(drop=True)


@in_style
def effects(records: Records, rows: dict[str, Row], beside: Mapping[str, Study]) -> Figure:
    """Each effect as a mark with its interval, filled where it is resolved, beside the published one.

    Shaded: the margins of the plan, within which nothing is of interest. A pale bar reaches from zero to the most that
    training could take off by a part, to first order.
    """
    table = family(records, rows, beside)
    names = list(dict.fromkeys(table["row"]))
    shown = [name for name in MARKS if name in set(table["by"])]
    figure = Figure(figsize=(PAGE, 0.75 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    for margin, shade in zip(sorted(read_plan().margins, reverse=True), ("0.94", "0.88"), strict=False):
        axes.axvspan(-margin, margin, color=shade, linewidth=0, zorder=0)
    axes.axvline(0, color=COLOURS[BASE], linewidth=0.8, zorder=1)
    for _, one in table.iterrows():
        _draw(axes, one, names.index(one["row"]))
    rows_down(axes, [table[table["row"] == name]["label"].iloc[0] for name in names])
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=1.5)
    ends = table[["effect", "low", "high"]].min().min(), table[["effect", "low", "high"]].max().max()
    axes.set_xlim(1.4 * min(ends[0], -2.0), 1.4 * max(ends[1], 2.0))
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color="white", linewidth=1.0, zorder=0.5)
    axes.set_xticks([tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_xlabel("change of perplexity (%), below zero is better")
    handles = [_key(MARKS[name], filled=name != "published") for name in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handletextpad=0.3, columnspacing=1.2)
    return figure


def _claimed() -> dict[str, tuple[str, float]]:
    """Return label and published change of each stage, and of the whole stack against its first stage."""
    claims = load_catalogue()
    rows = {
        stage: (f"{STAGES[stage].in_words}, on {STAGES[STAGES[stage].against].in_words}", -claims[name].number)
        for stage, name in claims.headlines.steps.items()
    }
    of_stack = (100 - claims[claims.headlines.stack].number) / (100 + rows[FIRST][1])  # both are of the untouched base
    return rows | {WHOLE: (f"whole stack, on {STAGES[FIRST].in_words}", 100 * (of_stack - 1))}


def _corrected(name: str, records: Records, rows: dict[str, Row]) -> list[dict[str, object]]:
    """Return the effects of a study, and of the whole stack where it has both stages; controls go by their labels."""
    lines, adjusted = [], is_adjusted(records, name)
    for _, one in study_table(records, rows, adjusted=adjusted).iterrows():
        if one["against"]:
            row = one["label"] if name == "controls" else one["stage"]
            ends = {"effect": one["effect"], "low": one["effect_low"], "high": one["effect_high"]}
            reach = {"resolved": bool(one["resolved"]), "ceiling": one.get("ceiling", np.nan)}
            lines.append({"row": row, "by": name} | ends | reach)
    if {STACK, FIRST} <= set(rows):
        difference = stage_means(records, STACK) - stage_means(records, FIRST)
        whole = _line(WHOLE, name, family_of_effects({WHOLE: difference})[WHOLE])
        lines.append(whole | {"resolved": whole["resolved"] and adjusted})
    return lines


def _by_lines(published: Records) -> list[dict[str, object]]:
    """Return the steps, and the whole stack against its first stage, by the published metric."""
    pair = [published_lines(published, AS_PUBLISHED_ROWS[stage]) for stage in (STACK, FIRST)]
    found = steps_by_lines(published, AS_PUBLISHED_ROWS) | family_of_effects({WHOLE: line_ratio(*pair)})
    return [_line(row, "as_published", effect) for row, effect in found.items()]


def _line(row: str, by: str, effect: Effect) -> dict[str, object]:
    ends = (effect.interval.low, effect.interval.high) if effect.interval else (np.nan, np.nan)
    found = {"effect": percent(effect.mean), "low": percent(ends[0]), "high": percent(ends[1])}
    return {"row": row, "by": by, **found, "resolved": effect.is_resolved}


def _draw(axes: Axes, one: pd.Series, row: int) -> None:
    mark = MARKS[one["by"]]
    height = row + SHIFT * mark.at
    if pd.notna(one["ceiling"]):
        axes.plot([-one["ceiling"], 0], [height] * 2, color=PALE, linewidth=5, alpha=0.5, solid_capstyle="butt")
    if pd.notna(one["low"]):
        axes.plot([one["low"], one["high"]], [height] * 2, color=mark.colour, linewidth=1.2, solid_capstyle="butt")
    face = mark.colour if one["resolved"] is True else "white"
    axes.plot(one["effect"], height, mark.marker, color=mark.colour, markerfacecolor=face, markersize=4.5)


def _key(mark: Mark, filled: bool) -> mpl.lines.Line2D:
    face = mark.colour if filled else "white"
    look = dict(marker=mark.marker, color=mark.colour, markerfacecolor=face, markersize=4.5, label=mark.words)
    return mpl.lines.Line2D([], [], linestyle="", **look)
