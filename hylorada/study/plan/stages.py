"""The ablation as rows of data: six cumulative stages, each row one change to the row it builds on."""

from dataclasses import dataclass, replace

from hylorada.config import HyLoRADAConfig


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the ablation table.

    adapter: what is trained, None for the untouched base model. on: the row it changes. not_neutral: why a fresh
    adapter moves the logits, empty when it does not. stays: the parts that cannot merge into the weights.
    """

    label: str
    adapter: HyLoRADAConfig | None
    on: str | None
    adds: str
    source: str
    not_neutral: str = ""
    stays: tuple[str, ...] = ()


RSLORA = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)
DORA = replace(RSLORA, use_dora_magnitude=True)
BIAS = replace(DORA, position_bias_enabled=True)
LANDMARKS = replace(BIAS, landmark_enabled=True)
LEARNED = replace(LANDMARKS, landmark_design="learnable_bucket")
SMALL_LANDMARKS = "landmarks start near zero, not at zero, so that their gates learn from the first step"

STAGES = {
    "base": Stage(label="base model", adapter=None, on=None, adds="nothing", source="the pretrained weights"),
    "rslora": Stage(
        label="rsLoRA",
        adapter=RSLORA,
        on="base",
        adds="rank-stabilised low-rank update, orthonormal A",
        source="arXiv:2106.09685, arXiv:2312.03732",
    ),
    "magnitude": Stage(
        label="+ gated magnitude",
        adapter=DORA,
        on="rslora",
        adds="gated, blended row magnitudes",
        source="arXiv:2402.09353",
    ),
    "position_bias": Stage(
        label="+ position bias",
        adapter=BIAS,
        on="magnitude",
        adds="shared scale by position bucket",
        source="this paper",
        stays=("position_bias",),
    ),
    "landmarks": Stage(
        label="+ landmarks",
        adapter=LANDMARKS,
        on="position_bias",
        adds="position-adaptive landmarks, fixed buckets",
        source="this paper",
        not_neutral=SMALL_LANDMARKS,
        stays=("position_bias", "landmark"),
    ),
    "learned_buckets": Stage(
        label="+ learnable buckets",
        adapter=LEARNED,
        on="landmarks",
        adds="learned instead of fixed bucket boundaries",
        source="this paper",
        not_neutral=SMALL_LANDMARKS,
        stays=("position_bias", "landmark"),
    ),
}
