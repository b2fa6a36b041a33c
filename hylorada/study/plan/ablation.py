"""The ablation: six cumulative stages, each one change to the one before it; and rows of other studies made of them."""

from dataclasses import replace

from hylorada.config import HyLoRADAConfig
from hylorada.methods import METHODS, method_config
from hylorada.study.plan.rows import Row, Study

RSLORA = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)
DORA = replace(RSLORA, use_dora_magnitude=True)
BIAS = replace(DORA, position_bias_enabled=True)
LANDMARKS = replace(BIAS, landmark_enabled=True)
LEARNED = replace(LANDMARKS, landmark_design="learnable_bucket")
SMALL_LANDMARKS = "landmarks start near zero, not at zero, so that their gates learn from the first step"
BASE = "base"  # the row that trains nothing

STAGES = {
    BASE: Row(label="base model", adapter=None, adds="nothing", source="the pretrained weights"),
    "rslora": Row(
        label="rsLoRA",
        adapter=RSLORA,
        against=BASE,
        adds="rank-stabilised low-rank update, orthonormal A",
        source="arXiv:2106.09685, arXiv:2312.03732",
    ),
    "magnitude": Row(
        label="+ gated magnitude",
        short="gated magnitude",
        adapter=DORA,
        against="rslora",
        adds="gated, blended row magnitudes",
        source="arXiv:2402.09353",
    ),
    "position_bias": Row(
        label="+ position bias",
        short="position bias",
        adapter=BIAS,
        against="magnitude",
        adds="shared scale by position bucket",
        source="this paper",
        stays=("position_bias",),
    ),
    "landmarks": Row(
        label="+ landmarks",
        short="landmarks",
        adapter=LANDMARKS,
        against="position_bias",
        adds="position-adaptive landmarks, fixed buckets",
        source="this paper",
        not_neutral=SMALL_LANDMARKS,
        stays=("position_bias", "landmark"),
    ),
    "learned_buckets": Row(
        label="+ learnable buckets",
        short="learnable buckets",
        adapter=LEARNED,
        against="landmarks",
        adds="learned instead of fixed bucket boundaries",
        source="this paper",
        not_neutral=SMALL_LANDMARKS,
        stays=("position_bias", "landmark"),
    ),
}
ABLATION = Study(
    title="The six stages",
    question="What does each stage add to the one that it builds on?",
    rows=STAGES,
    by_row=True,
)
UNTOUCHED = Row(label=STAGES[BASE].label, adapter=None)


def stage_row(name: str, label: str | None = None, against: str | None = None) -> Row:
    """Return a stage as a row of another study, by default under its own label."""
    stage = STAGES[name]
    return Row(label=label or stage.label, short="" if label else stage.short, adapter=stage.adapter, against=against)


def method_row(name: str, against: str | None = "rslora", **changes: object) -> Row:
    """Return a method of the comparison as a row. changes: settings of the scale that it replaces."""
    return Row(label=METHODS[name].label, adapter=method_config(name), changes=changes, against=against, arm=name)


def arm_of(name: str, row: Row) -> str:
    """Return the arm of the sweep whose learning rate a row takes: its own, or that of the nearest stage.

    A row without one of its own is the low-rank update alone, `rslora`, or a variant of the stack, `landmarks`.
    """
    if row.arm or name in STAGES or row.adapter is None:
        return row.arm or name
    beside = ("use_dora_magnitude", "position_bias_enabled", "landmark_enabled")
    return "landmarks" if any(getattr(row.adapter, part) for part in beside) else "rslora"
