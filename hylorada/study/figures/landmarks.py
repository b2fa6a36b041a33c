"""Figures of what landmarks learn about place: which bucket a token is in, and what its place gives each landmark.

A record holds gates and boundaries but no landmark, which is as wide as the model; so the content's part in a token's
mix is left out, and a share is softmax(position_gates[bucket(p)]) alone.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hylorada.errors import HyLoRADAError
from hylorada.landmark_redesigns import LearnableBucketLandmark
from hylorada.landmarks import LandmarkLoRA, PositionGatedLandmark
from hylorada.positions import FixedBuckets
from hylorada.study.figures.style import COLOURS, DASHES, PAGE, SHADES, in_style, in_tokens
from hylorada.study.plan.record import Record
from hylorada.study.plan.rows import Row
from hylorada.study.plan.studies import PUBLISHED_POSITIONS
from hylorada.study.records.records import Records

LEARNED = "learned_buckets"
BY_PLACE = ("landmarks", LEARNED)  # the stages whose landmarks know positions
FULL_SHADE = 0.15  # of a token's weight; a fixed bucket has all of it
FRESH = 200  # random starts that a band is taken from


@in_style
def bucket_map(records: Records, rows: dict[str, Row]) -> Figure:
    """Which buckets the tokens of one window reach, by how they are cut, and how far training moved the boundaries.

    Top: a column is a token, its shades the weight of each bucket; the last panel is the mean over seeds. Below: each
    learned boundary against where it began; a thin line is a seed.
    """
    runs = _runs(records, LEARNED)
    adapter, length = runs[0].specification.adapter, runs[0].specification.block_tokens
    buckets, positions = adapter.num_position_buckets, torch.arange(length)
    trained = [by_place(run) for run in runs]
    start = _fresh(runs[0])
    moved = np.array([(part.boundaries - start.boundaries).numpy(force=True) for part in trained]) * start.max_positions
    maps = {
        "logarithmic": _fixed(buckets, length, "log", positions),
        "linear": _fixed(buckets, length, "linear", positions),
        f"linear over {PUBLISHED_POSITIONS:,}": _fixed(buckets, PUBLISHED_POSITIONS, "linear", positions),
        "learnable, start": _soft([start], positions),
        "learnable, trained": _soft(trained, positions),
    }
    figure = Figure(figsize=(PAGE, 3.3), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    panels = top.subplots(1, len(maps), sharey=True)
    for axes, (title, weights) in zip(panels, maps.items(), strict=True):
        place = dict(origin="lower", aspect="auto", extent=(0, length, -0.5, buckets - 0.5), interpolation="nearest")
        shades = axes.imshow(weights.T, cmap=SHADES, vmin=0, vmax=FULL_SHADE, **place)
        axes.set_title(f"{title}\n{_reached(weights)}", fontsize=7.5)
        axes.set_xticks([0, length // 2, length])
    panels[0].set_ylabel("bucket")
    panels[len(maps) // 2].set_xlabel("position (tokens)")
    bar = top.colorbar(shades, ax=panels, extend="max", pad=0.01, aspect=12, ticks=np.linspace(0, FULL_SHADE, 4))
    bar.set_label("weight of the bucket")
    _boundaries(below.subplots(), start.get_learned_boundaries().numpy(), moved)
    return figure


@in_style
def landmark_gates(records: Records, rows: dict[str, Row]) -> Figure:
    """The share of a token's mix that its place alone gives to each landmark, over positions; a line a landmark.

    All seeds are drawn; the dark line is the landmark whose share varies most. The band holds 95 % of the shares at
    random starts.
    """
    stages = [stage for stage in BY_PLACE if stage in records.stages]
    if not stages:
        raise HyLoRADAError(f"neither of {', '.join(BY_PLACE)} has a record, and gates are read from one; make it.")
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    panels = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        runs = _runs(records, stage)
        positions = torch.arange(runs[0].specification.block_tokens)
        place = 1 + positions.numpy()
        low, high = np.quantile(_fresh_shares(runs[0], positions), [0.025, 0.975], axis=(0, 2))
        axes.fill_between(place, 100 * low, 100 * high, color="0.9", linewidth=0)
        shares = 100 * np.concatenate([place_shares(by_place(run), positions) for run in runs], axis=1)
        most = np.ptp(shares, axis=0).argmax()
        _levels(axes, place, shares)
        axes.plot(place, shares[:, most], color=COLOURS["rslora"], linewidth=1.2, drawstyle="steps-mid")
        axes.axhline(100 * len(runs) / shares.shape[1], color=COLOURS["base"], linestyle=DASHES, linewidth=0.8)
        axes.set_title(f"{rows[stage].label}, {_seeds(len(runs))}")
        in_tokens(axes, "1 + position (tokens)")
        axes.set_xlim(0.9, 1.1 * len(place))
    panels[0].set_ylabel("share by place alone (%)")
    return figure


def by_place(record: Record) -> PositionGatedLandmark:
    """Rebuild from a record the part of its landmarks that acts by place.

    Raises:
        HyLoRADAError: the record has no landmarks that know positions.
    """
    learned = {name.removeprefix("landmark."): value for name, value in record.learned.items()}
    if "position_gates" not in learned:
        raise HyLoRADAError(f"{record.name} has no gates over positions; take a run whose landmarks know them.")
    part = _fresh(record)
    small = {name: torch.tensor(learned[name]) for name in ("position_gates", "boundaries") if name in learned}
    part.load_state_dict(small, strict=False)  # the vectors, as wide as the model, are in no record
    return part.requires_grad_(False)


def place_shares(part: PositionGatedLandmark, positions: torch.Tensor) -> np.ndarray:
    """(positions, landmarks) what place alone gives to each landmark, content left out; a row sums to 1."""
    with torch.no_grad():
        return part.gates_at(positions).softmax(dim=-1).numpy()


def _fresh(record: Record, draw: int = 0) -> PositionGatedLandmark:
    """Return landmarks of a record's sizes at a random start, one number wide."""
    adapter = record.specification.adapter
    sizes = (1, adapter.num_landmarks, adapter.num_position_buckets, adapter.max_positions)
    with torch.random.fork_rng(devices=[]):  # the reader's random numbers stay theirs
        torch.manual_seed(draw)
        if adapter.landmark_design == "learnable_bucket":
            return LearnableBucketLandmark(*sizes)
        return LandmarkLoRA(*sizes, bucket_spacing=adapter.bucket_spacing)


def _fresh_shares(record: Record, positions: torch.Tensor) -> np.ndarray:
    """(starts, positions, landmarks) shares by place before any training."""
    return np.array([place_shares(_fresh(record, draw), positions) for draw in range(FRESH)])


def _runs(records: Records, stage: str) -> list[Record]:
    return [records.record(stage, seed) for seed in records.seeds(stage) or [0]]  # of none, `record` says so


def _fixed(buckets: int, length: int, spacing: str, positions: torch.Tensor) -> np.ndarray:
    """(positions, buckets) all of a token's weight in its one bucket."""
    return np.eye(buckets)[FixedBuckets(buckets, length, spacing)(positions).numpy()]


def _soft(parts: list[LearnableBucketLandmark], positions: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.stack([part.bucket_weights(positions) for part in parts]).mean(dim=0).numpy()


def _reached(weights: np.ndarray) -> str:
    """Say how many buckets have a token, or how many a token draws on: exp(entropy), as many as if weighted alike."""
    at_once = np.exp(-(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=1))
    reached = (weights > 0).any(axis=0).sum()
    if at_once.max() < 1.5:
        return f"reaches {reached} of {weights.shape[1]}"
    return f"{at_once.min():.0f} to {at_once.max():.0f} at once"


def _boundaries(axes: Axes, start: np.ndarray, moved: np.ndarray) -> None:
    axes.axhline(0, color=COLOURS["base"], linestyle=DASHES, linewidth=0.8)
    axes.plot(start, moved.T, color=COLOURS[LEARNED], linewidth=0.6, marker=".", markersize=3)
    axes.plot(start, moved.mean(axis=0), color=COLOURS["rslora"])
    axes.set_xlabel("where the boundary began (tokens)")
    axes.set_ylabel("moved (tokens)")
    axes.set_title(f"learned boundaries, {_seeds(len(moved))}")
    axes.margins(x=0.02)


def _levels(axes: Axes, place: np.ndarray, shares: np.ndarray) -> None:
    """Draw each column of `shares` (positions, lines) without the jumps from bucket to bucket, where it has any."""
    jumps = 1 + np.flatnonzero(np.diff(shares, axis=0).any(axis=1))
    look = dict(color=COLOURS["learned_buckets"], linewidth=0.6)
    if len(jumps) == len(place) - 1:  # soft buckets: no two tokens alike
        axes.plot(place, shares, **look)
        return
    first, end = np.array([0, *jumps]), np.array([*jumps, len(place)])
    left, right = place[first] - 0.5, place[end - 1] + 0.5
    for line in shares[first].T:
        axes.hlines(line, left, right, **look)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"
