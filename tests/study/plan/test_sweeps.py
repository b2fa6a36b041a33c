"""A sweep trains each row at the rate of its name, whatever the scale has chosen from an earlier one."""

from dataclasses import replace

import pytest

from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings

CHOSEN = replace(
    load_settings("full"),
    tuned_rates={"hylorada": 3e-3, "rslora": 7e-4},
    part_rates={"magnitude": 9e-4, "position_bias": 9e-2, "landmark": 9e-3, "constant": 8e-3},
)
FIELD = {"magnitude": "magnitude_lr", "position_bias": "position_bias_lr", "landmark": "landmark_lr"}


def test_a_sweep_of_arms_has_one_rate_for_all_of_an_arm():
    for name, runs in plan(CHOSEN, "rates").items():
        rate, training = float(name.rpartition("_lr")[2]), runs[0].specification.training
        assert (training.learning_rate, training.landmark_lr, training.magnitude_lr) == (rate, rate, None), name
        assert training.position_bias_lr == CHOSEN.position_bias_lr


@pytest.mark.parametrize("part", [*FIELD, "constant"])
def test_a_sweep_of_a_part_leaves_a_and_b_at_theirs(part):
    swept = {name: runs for name, runs in plan(CHOSEN, "part_rates").items() if name.startswith(f"{part}_at_")}
    assert len(swept) == 4
    for name, runs in swept.items():
        training = runs[0].specification.training
        assert training.learning_rate == 7e-4
        assert getattr(training, FIELD.get(part, "landmark_lr")) == float(name.rpartition("_at_")[2])
