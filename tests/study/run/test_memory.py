"""Out of memory: one line that names what to lower, whatever raised it; and what was done is kept."""

import json

import pytest
import torch
from small_runs import small_scale

from hylorada import HyLoRADAError
from hylorada.cli import main
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.run import score
from hylorada.study.run.memory import told_when_full, what_to_lower
from hylorada.training_step import TrainingStep

ERRORS = {
    "accelerator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "processor": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
    ),
    "other processor": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "library": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_every_kind_of_error_for_want_of_memory_is_one_line(kind):
    with pytest.raises(HyLoRADAError, match="^out of memory on .*: lower x$"), told_when_full("lower x"):
        raise ERRORS[kind]


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), told_when_full("lower x"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_what_the_failed_work_held_is_free_when_the_error_is_told():
    import weakref

    held = []

    def work() -> None:
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise ERRORS["accelerator"]

    with pytest.raises(HyLoRADAError) as told, told_when_full("lower x"):
        work()
    assert held[0]() is None and told.value is not None


def test_a_too_large_tensor_of_this_machine_is_told():
    with pytest.raises(HyLoRADAError, match="out of memory on this machine"), told_when_full("lower x"):
        torch.ones(2**50)


def test_the_advice_names_the_settings_and_what_they_are():
    settings = load_settings("full")
    trained = what_to_lower(plan(settings, "ablation")["rslora"][0].specification, jobs=4)
    for words in (
        "--jobs (now 4)",
        "batch_size (now 1;",
        "gradient_accumulation_steps, now 1",
        "evaluation_batch (now 4)",
    ):
        assert words in trained
    assert "block_tokens (now 512)" in trained and "gradient_checkpointing: true" in trained
    base = what_to_lower(plan(settings, "ablation")["base"][0].specification)
    assert "batch_size (now 1" not in base and "jobs" not in base and "evaluation_batch (now 4)" in base


def test_a_run_out_of_memory_is_told_and_goes_on_from_its_last_checkpoint(data, tmp_path, monkeypatch, capsys):
    scale = small_scale(tmp_path, train_tokens=256)
    (run,) = plan(load_settings(scale), "ablation")["rslora"]
    records = tmp_path / "runs"
    common = ["--scale", scale, "--data", str(data), "--quiet"]
    command = ["run", *common, "--records", str(records), "--runs", run.name]
    take = TrainingStep.take

    def full(self, step, batches):
        if step == 1:
            raise ERRORS["accelerator"]
        return take(self, step, batches)

    monkeypatch.setattr(TrainingStep, "take", full)
    assert main(command) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "lower batch_size (now 2;" in told and "is kept" in told
    assert (records / f".{run.name}.work" / "training_state" / "step-00000001").is_dir()
    assert main(["train", "--stage", "rslora", "--out", str(tmp_path / "adapter"), *common]) == 2
    assert "lower batch_size" in capsys.readouterr().err
    monkeypatch.setattr(TrainingStep, "take", take)
    assert main(command) == 0
    history = json.loads((run.folder(records) / "record.json").read_text())["training"]["history"]
    assert [row["step"] for row in history] == [1, 2]

    def too_large(*given, **how):
        raise ERRORS["other processor"]

    monkeypatch.setattr(score, "token_nll", too_large)
    assert main(["evaluate", *common]) == 2
    assert "evaluation_batch (now 4)" in capsys.readouterr().err
