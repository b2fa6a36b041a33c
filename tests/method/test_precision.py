"""Training in half precision: gradients are those of float32, whatever a loss is divided by."""

from dataclasses import replace

import pytest
import torch
from bases import FAMILIES, adapt, families, llama, without_zeros
from short_training import FULL, SHORT, sequences
from torch.nn import functional as F

from hylorada import HyLoRADAError, HyLoRADATrainer, TrainingConfig
from hylorada.precision import Precision

QUIET = replace(FULL, lora_dropout=0.0)


def gradients(family: str, dtype: torch.dtype, mixed_precision: str = "no", scaled: bool = True) -> torch.Tensor:
    """All gradients of a loss that is divided by 65,536 targets, as the trainer takes them."""
    model = without_zeros(adapt(FAMILIES[family]().to(dtype), QUIET, seed=5))
    config = TrainingConfig(mixed_precision=mixed_precision)
    trainer = HyLoRADATrainer(model, config, sequences(4), progress=False)
    if not scaled:
        trainer.step.precision.scaler = torch.amp.GradScaler("cpu", enabled=False)
    trainer.step.add_gradients(0, list(trainer.train_batches.epoch(0)), 65_536)
    return torch.cat([p.grad.flatten() for p in model.trainable_parameters()])


@families
def test_float16_gradients_are_those_of_float32(family):
    exact = gradients(family, torch.float32)
    for half in (gradients(family, torch.float16), gradients(family, torch.float32, "fp16")):
        assert F.cosine_similarity(exact, half, dim=0) > 0.9999
        assert half.norm() / exact.norm() == pytest.approx(1.0, abs=0.01)
    unscaled = gradients(family, torch.float16, scaled=False)
    assert F.cosine_similarity(exact, unscaled, dim=0) < 0.999, "without a scale the case would show nothing"


def train(dtype: torch.dtype, config: TrainingConfig, **more) -> tuple[list[torch.Tensor], HyLoRADATrainer]:
    model = adapt(llama().to(dtype), FULL, seed=5)
    trainer = HyLoRADATrainer(model, config, sequences(), progress=False, **more)
    trainer.train()
    return [p.detach().clone() for p in model.trainable_parameters()], trainer


@pytest.mark.parametrize(("dtype", "mixed_precision"), [(torch.float16, "no"), (torch.float32, "fp16")], ids=str)
def test_float16_trains_near_float32_and_loses_no_step_to_an_overflow(dtype, mixed_precision):
    exact = train(torch.float32, SHORT)[1].history
    trainer = train(dtype, replace(SHORT, mixed_precision=mixed_precision))[1]
    assert trainer.step.precision.scaler.get_scale() < 2.0**16, "the case is of no use unless a step overflowed"
    assert [row["loss"] for row in trainer.history] == pytest.approx([row["loss"] for row in exact], rel=2e-3)


def test_the_scale_of_the_loss_is_part_of_the_state(tmp_path):
    config = replace(SHORT, mixed_precision="fp16", checkpoint_every=1)
    whole = train(torch.float32, replace(config, checkpoint_every=None))[0]

    def stop(row: dict, total: int) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(torch.float32, config, output_dir=tmp_path, on_step=stop)
    resumed, trainer = train(torch.float32, config, output_dir=tmp_path)
    assert trainer.step.precision.scaler.get_scale() < 2.0**16
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_gradients_without_end_stop_the_training():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer, precision = torch.optim.SGD([parameter]), Precision("fp16", torch.float32, torch.device("cpu"))
    with pytest.raises(HyLoRADAError, match="overflow float16 at any scale"):
        while True:
            precision.backward(parameter.sum())
            parameter.grad.fill_(torch.inf)
            precision.unscale(optimizer)
            assert not precision.step(optimizer)
    assert parameter.item() == 1.0


@pytest.mark.parametrize(("dtype", "other"), [(torch.float16, "bf16"), (torch.bfloat16, "fp16")], ids=str)
def test_mixing_two_kinds_of_half_is_refused(dtype, other):
    with pytest.raises(HyLoRADAError, match=f"mixed_precision='{other}' is for a float32 base"):
        train(dtype, replace(SHORT, mixed_precision=other))
