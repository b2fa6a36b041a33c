"""The studies that ask what parts give at rates of their own: the sweep of those rates, and what is trained at them."""

from dataclasses import replace

from hylorada.config import HyLoRADAConfig
from hylorada.study.plan.ablation import DORA, RSLORA, STAGES, stage_row
from hylorada.study.plan.published import LANDMARKS_ALONE
from hylorada.study.plan.rows import Row, Study

CONSTANT = replace(RSLORA, landmark_enabled=True, landmark_design="constant")
SWEPT_PARTS: dict[str, tuple[str, HyLoRADAConfig, tuple[float, ...]]] = {  # each part alone on rsLoRA
    "magnitude": ("gated magnitude", DORA, (2e-4, 1e-3, 5e-3, 2e-2)),
    "position_bias": ("position bias", replace(RSLORA, position_bias_enabled=True), (1e-3, 5e-3, 2e-2, 1e-1)),
    "landmark": ("landmarks", LANDMARKS_ALONE, (5e-4, 2e-3, 1e-2, 5e-2)),
    "constant": ("one constant vector", CONSTANT, (5e-4, 2e-3, 1e-2, 5e-2)),
}
TUNED_STUDIES: dict[str, Study] = {
    "part_rates": Study(
        title="Learning rates of parts",
        question="At which rate of its own is each part at its best, on validation articles, beside A and B at theirs?",
        rows={
            f"{part}_at_{rate:.0e}": Row(
                label=f"{label}, {rate:.0e}",
                series=label,
                x=rate,
                adapter=adapter,
                changes={"part_rates": {part: rate}, "evaluation_split": "validation"},
                arm="rslora",
            )
            for part, (label, adapter, rates) in SWEPT_PARTS.items()
            for rate in rates
        },
        varies=("position_bias_lr", "landmark_lr", "magnitude_lr"),
    ),
    "ablation_tuned": Study(
        title="The six stages at tuned rates",
        question="What does each stage add when every arm and every part trains at the rate that is best for it?",
        rows=STAGES,
    ),
    "horizon": Study(
        title="Longer training",
        question="Do the whole stack and one constant vector gain on rsLoRA when training goes on?",
        rows={
            "rslora": stage_row("rslora", "rsLoRA"),
            "landmarks": stage_row("landmarks", "whole stack", "rslora"),
            "constant_vector": Row(label="rsLoRA + one constant vector", adapter=CONSTANT, against="rslora"),
        },
        shows=("steps",),
    ),
}
