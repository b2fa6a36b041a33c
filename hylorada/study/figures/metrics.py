"""Figures of one model on one text, read in several ways: six perplexities, the worst texts, the kinds of token."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.metrics import PERPLEXITIES
from hylorada.study.figures.style import COLOURS, DASHES, MARKERS, PAGE, PALETTE, in_decades, in_style, rows_down
from hylorada.study.plan.ablation import BASE, STAGES
from hylorada.study.plan.record import KindOfToken, Record, ScoredLines
from hylorada.study.plan.rows import Row
from hylorada.study.plan.specification import LinesText
from hylorada.study.records.records import Key, Records

BRIDGED = (BASE, "rslora")
KINDS = {
    "layout": ("layout", "s", PALETTE[0]),
    "word": ("words", "o", PALETTE[2]),
    "piece": ("pieces", "^", PALETTE[5]),
}
OfOneText = Record | ScoredLines  # what has results and views


@in_style
def metric_bridge(records: Records, rows: dict[str, Row]) -> Figure:
    """Six perplexities of one model on one text a panel, for base and rsLoRA, and how much five texts make of a mean.

    The main text and, where they were scored too, the published evaluation lines. Right: the share of the arithmetic
    mean's sum that each of the five worst texts has, stacked; the tick is their share were all texts alike.
    """
    texts = _texts(records)
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=5 / 72)  # inches: numbers of a panel apart from the next one's labels
    widths = [1] * len(texts) + [0.7]
    *panels, shares = figure.subplots(1, len(widths), gridspec_kw={"width_ratios": widths})
    for axes, (title, of) in zip(panels, texts.items(), strict=True):
        _six(axes, {stage: [of[stage, seed].results for seed in records.seeds(stage)] for stage in BRIDGED})
        axes.set_title(title)
        rows_down(
            axes, [metric.words for metric in PERPLEXITIES.values()] if axes is panels[0] else [""] * len(PERPLEXITIES)
        )
    _worst(shares, records, texts)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@in_style
def gain_by_kind(records: Records, rows: dict[str, Row]) -> Figure:
    """Where a stage's gain over the base comes from: layout, words, and pieces of characters.

    Left: the change of mean NLL over the tokens of a kind. Right: what that makes of the change over all tokens, with
    the whole change as a tick. A dot is a seed, the large one their mean.
    """
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    own, whole = figure.subplots(1, 2, sharey=True)
    base = records.record(BASE, None).views.kinds
    stages = [stage for stage in records.stages if stage != BASE]
    for row, stage in enumerate(stages):
        by_seed = [records.record(stage, seed).views.kinds for seed in records.seeds(stage)]
        for step, (kind, (label, marker, colour)) in enumerate(KINDS.items()):
            if not base[kind].tokens:
                continue
            change = np.array([kinds[kind].mean_nll - base[kind].mean_nll for kinds in by_seed])
            look = dict(marker=marker, color=colour, label=label if row == 0 else None)
            height = row + 0.22 * (step - 1)
            _dots(own, change, height, **look)
            _dots(whole, change * base[kind].token_share, height, **look)
        total = np.mean([_mean(kinds) for kinds in by_seed]) - _mean(base)
        whole.plot(total, row, "|", color=COLOURS[BASE], markersize=10, label="all tokens" if row == 0 else None)
    for axes, label in (
        (own, "change within the kind (nats per token)"),
        (whole, "its part of the change (nats per token)"),
    ):
        axes.axvline(0, color=COLOURS[BASE], linestyle=DASHES, linewidth=0.8, zorder=0)
        axes.set_xlabel(label)
    rows_down(own, [rows[stage].label for stage in stages])
    whole.tick_params(axis="y", length=0)
    figure.legend(*whole.get_legend_handles_labels(), loc="outside right center")
    return figure


def _texts(records: Records) -> dict[str, dict[Key, OfOneText]]:
    """Return results and views of the bridged runs by text: the main one, and the lines where all runs have them."""
    runs = {(stage, seed): records.record(stage, seed) for stage in BRIDGED for seed in records.seeds(stage)}
    if all(isinstance(run.specification.evaluation, LinesText) for run in runs.values()):
        return {"published lines": runs}
    texts = {"whole articles": runs}
    if all(run.measures.lines for run in runs.values()):
        texts["published lines"] = {key: run.measures.lines for key, run in runs.items()}
    return texts


def _six(axes: Axes, by_stage: dict[str, list[dict[str, float]]]) -> None:
    for row, name in enumerate(PERPLEXITIES):
        means = []
        for stage, results in by_stage.items():
            values = np.array([result[name] for result in results], dtype=float)  # NaN where no text is long enough
            height = row + (0.17 if stage != BASE else -0.17)
            look = dict(marker=MARKERS[stage], color=COLOURS[stage], label=STAGES[stage].label if row == 0 else None)
            _dots(axes, values, height, **look)
            means.append(np.exp(np.log(values).mean()))
        text = "none" if np.isnan(means).any() else " → ".join(f"{mean:#.3g}".rstrip(".") for mean in means)
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    in_decades(axes)
    axes.set_xlabel("perplexity")


def _worst(axes: Axes, records: Records, texts: dict[str, dict[Key, OfOneText]]) -> None:
    for row, of in enumerate(texts.values()):
        for stage, height in zip(BRIDGED, (row - 0.2, row + 0.2), strict=True):
            by_seed = [of[stage, seed] for seed in records.seeds(stage)]
            shares = 100 * np.array([[text.share for text in run.views.worst] for run in by_seed])
            ends = shares.mean(axis=0).cumsum()
            axes.barh(height, ends[-1], height=0.24, color=COLOURS[stage])
            axes.vlines(ends[:-1], height - 0.12, height + 0.12, color="white", linewidth=0.8)
            seeds = dict(color=COLOURS[stage], markersize=3, markeredgecolor="white", markeredgewidth=0.3)
            axes.plot(shares.sum(axis=1), np.full(len(shares), height), MARKERS[stage], **seeds)
        alike = 100 * shares.shape[1] / _text_count(by_seed[0])
        axes.vlines(alike, row - 0.42, row + 0.42, color=COLOURS["landmarks"], linewidth=1.4)
    rows_down(axes, [title.split()[-1] for title in texts])
    axes.set_title("five worst texts")
    axes.set_xlabel("share (%)")
    axes.set_xlim(left=0)


def _text_count(scored: OfOneText) -> float:
    """Number of texts: a text's share is its perplexity over their sum, and the mean is that sum over their number."""
    worst = scored.views.worst[0]
    return worst.perplexity / (worst.share * scored.results["arithmetic_perplexity"])


def _mean(kinds: dict[str, KindOfToken]) -> float:
    """Mean NLL over the tokens of all kinds."""
    return sum(kind.mean_nll * kind.token_share for kind in kinds.values() if kind.tokens)


def _dots(axes: Axes, values: np.ndarray, height: float, *, marker: str, color: str, label: str | None) -> None:
    """Draw small dots for seeds and a larger one at their mean."""
    look = dict(marker=marker, color=color, markeredgewidth=0, linestyle="")
    axes.plot(values, np.full(len(values), height), markersize=2.5, alpha=0.6, **look)
    axes.plot(values.mean(), height, markersize=5, label=label, **look)
