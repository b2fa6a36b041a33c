"""Trackers get every step of a run, and nothing else changes."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hylorada import HyLoRADAError
from hylorada.tracking import tracked

SETTINGS = {"stage": "rslora", "training": {"learning_rate": 1e-3, "seed": None}}

# tensorboard's own imports
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_tensorboard_shows_loss_and_rate_of_every_step(tmp_path: Path):
    with tracked("tensorboard", tmp_path, "a-run", SETTINGS) as on_step:
        for step in (1, 2, 3):
            on_step({"step": step, "loss": 3.0 / step, "learning_rate": 1e-3, "targets": 7}, 3)
    events = EventAccumulator(str(tmp_path / "a-run")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 3.0), (2, 1.5), (3, 1.0)]
    assert len(events.Scalars("learning_rate")) == 3


def test_an_unknown_or_absent_tracker_is_told(tmp_path: Path, monkeypatch):
    with pytest.raises(HyLoRADAError, match="did you mean 'tensorboard'"), tracked("tensorbord", tmp_path, "x", {}):
        pass
    monkeypatch.setattr("hylorada.tracking.find_spec", lambda name: None)
    with pytest.raises(HyLoRADAError, match="pip install wandb"), tracked("wandb", tmp_path, "x", {}):
        pass
    assert not list(tmp_path.iterdir())
