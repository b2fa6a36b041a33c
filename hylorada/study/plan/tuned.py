"""The studies that are trained at the rates that the sweeps have chosen for each arm and part."""

from hylorada.study.plan.ablation import STAGES, stage_row
from hylorada.study.plan.rows import Row, Study
from hylorada.study.plan.sweeps import CONSTANT

TUNED_STUDIES: dict[str, Study] = {
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
