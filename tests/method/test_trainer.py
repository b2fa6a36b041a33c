"""The trainer: what a step is, that it resumes bit for bit, and what it refuses."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from bases import adapt, llama, tokens
from short_training import FULL, ORDER, SHORT, order_of, sequences
from torch.nn import functional as F

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADATrainer, TrainingConfig
from hylorada.rates import share_of_rate
from hylorada.trainer import pad_right, parameter_groups


def train(config: TrainingConfig, **more) -> tuple[dict, list[dict]]:
    model = adapt(llama(), more.pop("adapter", FULL), seed=5)
    result = HyLoRADATrainer(model, config, more.pop("data", sequences()), progress=False, **more).train()
    return {k: v.detach().clone() for k, v in model.adapter_tensors().items()}, result.history


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_leaves_the_base_alone():
    model = adapt(llama(), FULL)
    config = replace(SHORT, num_epochs=12)
    history = HyLoRADATrainer(model, config, sequences(), progress=False).train().history
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    with model.disable_adapter() as base:
        assert torch.equal(base(tokens()).logits, llama()(tokens()).logits)


def test_a_step_is_the_slow_formula():
    """One step of AdamW on the mean over all targets of both micro-batches, whatever their lengths, clipped at 1."""
    data = [{"input_ids": tokens(1, n, seed=n)[0]} for n in (5, 16)]
    config = TrainingConfig(batch_size=1, gradient_accumulation_steps=2, warmup_ratio=0.0, seed=3)
    adapter = HyLoRADAConfig(lora_dropout=0.0, use_dora_magnitude=True)
    moved, history = train(config, adapter=adapter, data=data)
    model = adapt(llama(), adapter, seed=5)
    logits = [model(item["input_ids"][None]).logits[0, :-1] for item in data]
    targets = torch.cat([item["input_ids"][1:] for item in data])
    loss = F.cross_entropy(torch.cat(logits), targets)
    assert history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5) and history[0]["targets"] == 4 + 15
    loss.backward()
    parameters = model.trainable_parameters()
    total = torch.stack([p.grad.norm() for p in parameters]).norm()
    rates = {id(p): g["lr"] for g in parameter_groups(model, config) for p in g["params"]}
    for name, p in model.adapter_tensors().items():
        g = p.grad / max(1.0, total.item())
        step = p * (1 - rates[id(p)] * 0.01) - rates[id(p)] * g / (g.abs() + 1e-8)  # AdamW's first step
        settled = g.abs() > 1e-6  # below it Adam divides rounding by rounding
        torch.testing.assert_close(moved[name][settled], step[settled], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 6])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, stop_after):
    config = replace(SHORT, gradient_accumulation_steps=1, checkpoint_every=1)
    whole, history = train(replace(config, checkpoint_every=None))

    def stop(row: dict, total: int) -> None:
        if row["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, output_dir=tmp_path, on_step=stop)
    torch.manual_seed(99)  # nothing may hang on the random state of the new process
    resumed, joined = train(config, output_dir=tmp_path)
    assert same(resumed, whole)
    assert joined == history


def test_a_run_killed_between_two_checkpoints_redoes_the_steps_since(tmp_path):
    config = replace(SHORT, checkpoint_every=3)
    whole, history = train(replace(config, checkpoint_every=None))

    def stop(row: dict, total: int) -> None:
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, output_dir=tmp_path, on_step=stop)
    assert len(json.loads((tmp_path / "training_state" / "step-00000003" / "state.json").read_text())["history"]) == 3
    resumed, joined = train(config, output_dir=tmp_path)
    assert same(resumed, whole) and joined == history


def test_seeds_decide_the_run_and_nothing_else_does():
    first, history = train(SHORT)
    torch.manual_seed(1234)
    again, _ = train(SHORT)
    other, other_history = train(replace(SHORT, seed=2))
    assert same(first, again)
    assert not same(first, other) and other_history != history


@pytest.mark.parametrize("state_of_the_process", [0, 77])
def test_the_order_of_the_data_is_one_list_for_seed_and_epoch_on_any_device(state_of_the_process):
    torch.manual_seed(state_of_the_process)
    assert order_of(SHORT) == ORDER
    assert order_of(replace(SHORT, batch_size=1)) == ORDER, "the size of a batch cuts the order and does not change it"
    assert order_of(replace(SHORT, seed=2)) != ORDER


def test_the_callers_random_state_is_left_alone():
    python, numpy_state = random.getstate(), np.random.get_state()[1].copy()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model = adapt(llama(), FULL, seed=7)
    torch.set_rng_state(before)
    HyLoRADATrainer(model, SHORT, sequences(), progress=False).train()
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python and np.array_equal(np.random.get_state()[1], numpy_state)


def test_every_part_trains_at_its_own_rate():
    model = adapt(llama(), FULL)
    config = TrainingConfig(learning_rate=1e-4, position_bias_lr=1e-3, landmark_lr=1e-2)
    groups = {g["lr"]: g["params"] for g in parameter_groups(model, config)}
    assert {id(p) for p in groups[1e-3]} == {id(p) for p in model.position_bias.parameters()}
    assert {id(p) for p in groups[1e-2]} == {id(p) for p in model.landmark.parameters()}
    assert sum(len(params) for params in groups.values()) == len(model.trainable_parameters())


def test_the_rate_warms_up_falls_along_a_cosine_and_is_never_zero():
    shares = [share_of_rate("cosine", 0.03, step, 100) for step in range(100)]
    assert shares[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert shares[3:] == sorted(shares[3:], reverse=True) and 0 < shares[-1] < 0.01
    config = TrainingConfig(batch_size=1, warmup_ratio=0.5, learning_rate=1e-3)
    rates = [row["learning_rate"] for row in train(config, data=sequences(4))[1]]
    assert rates == pytest.approx([1e-3 * share_of_rate("cosine", 0.5, step, 4) for step in range(4)])
    constant = train(replace(config, lr_schedule="constant", warmup_ratio=0.0), data=sequences(4))[1]
    assert {row["learning_rate"] for row in constant} == {1e-3}


def test_clipping_bounds_the_step():
    free = replace(SHORT, max_grad_norm=None)
    assert not same(train(free)[0], train(replace(free, max_grad_norm=1e-3))[0])


def test_batches_of_unlike_lengths_are_padded_and_padding_is_no_target():
    items = [{"input_ids": [1, 2, 3], "labels": [1, -100, 3]}, {"input_ids": [4], "attention_mask": [1]}]
    batch = pad_right(items)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[1, -100, 3], [4, -100, -100]]


def test_mixed_precision_trains_a_float32_base_near_its_float32_run():
    exact, half = train(SHORT)[1], train(replace(SHORT, mixed_precision="bf16"))[1]
    assert [row["loss"] for row in half] == pytest.approx([row["loss"] for row in exact], rel=0.05)
    assert [row["loss"] for row in half] != [row["loss"] for row in exact]


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    env = os.environ | {"ACCELERATE_USE_CPU": "1"}
    command = [*launch, "--module", "two_processes", tmp_path]
    subprocess.run(command, check=True, env=env, capture_output=True, timeout=300)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second, "both processes must hold the same adapter and see the same loss"
    model, alone = train(SHORT, adapter=HyLoRADAConfig(lora_dropout=0.0), data=sequences(8))
    assert [row["loss"] for row in first[0]] == pytest.approx([row["loss"] for row in alone], rel=1e-5)
    assert first[1] == pytest.approx([tensor.norm().item() for tensor in model.values()], rel=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        dict(config=replace(SHORT, checkpoint_every=1, learning_rate=1e-3)),
        dict(adapter=replace(FULL, lora_alpha=64.0)),
        dict(data=sequences(7, 15)),
    ],
)
def test_state_of_other_settings_or_data_is_refused(tmp_path, other):
    config = replace(SHORT, checkpoint_every=1)
    train(config, output_dir=tmp_path)
    with pytest.raises(HyLoRADAError, match="other settings or data"):
        train(other.pop("config", config), output_dir=tmp_path, **other)


@pytest.mark.parametrize("warmup_ratio", [0.03, 0.9])
def test_the_shortest_training_is_one_step(warmup_ratio):
    history = train(TrainingConfig(batch_size=4, warmup_ratio=warmup_ratio), data=sequences(3))[1]
    assert len(history) == 1 and history[0]["learning_rate"] > 0


def test_seconds_go_on_after_a_resume(tmp_path):
    config = replace(SHORT, checkpoint_every=1)
    model = adapt(llama(), FULL, seed=5)
    HyLoRADATrainer(model, config, sequences(), tmp_path, progress=False).train()
    (state,) = tmp_path.glob("training_state/step-*/state.json")
    saved = json.loads(state.read_text())["seconds"]
    again = HyLoRADATrainer(model, config, sequences(), tmp_path, progress=False).train()
    assert again.seconds >= saved > 0 and len(again.history) == 8


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_either_side_moves_neither_loss_nor_targets(side):
    config = TrainingConfig(batch_size=1, max_grad_norm=None)
    adapter = replace(FULL, lora_dropout=0.0)
    ids, filler = tokens(1, 12)[0], torch.full((4,), 7)
    order = (filler, ids) if side == "left" else (ids, filler)
    mask = torch.cat([torch.ones_like(part) if part is ids else torch.zeros_like(part) for part in order])
    padded = [{"input_ids": torch.cat(order), "attention_mask": mask}]
    plain = train(config, adapter=adapter, data=[{"input_ids": ids}])
    got = train(config, adapter=adapter, data=padded)
    assert got[1][0]["targets"] == plain[1][0]["targets"] == 11
    assert got[1][0]["loss"] == pytest.approx(plain[1][0]["loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(HyLoRADAError, match=r"the loss became (nan|inf) at step 2; lower learning_rate"):
        train(replace(SHORT, landmark_lr=1e35))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(learning_rate=0.0), "no learning rate"),
        (dict(lr_schedule="cosin"), "did you mean 'cosine'"),
        (dict(mixed_precision="fp32"), "allowed: bf16, fp16, no"),
        (dict(warmup_ratio=1.0), "warmup_ratio=1.0"),
        (dict(max_grad_norm=0.0), "max_grad_norm=0.0"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(checkpoint_every=0), "checkpoint_every=0"),
    ],
)
def test_misused_training_settings_say_what_is_wrong(settings, message):
    with pytest.raises(HyLoRADAError, match=message):
        TrainingConfig(**settings)


def test_no_data_and_no_place_for_checkpoints_are_refused():
    model = adapt(llama(), FULL)
    with pytest.raises(HyLoRADAError, match="train_dataset is empty"):
        HyLoRADATrainer(model, SHORT, [])
    with pytest.raises(HyLoRADAError, match="output_dir is not"):
        HyLoRADATrainer(model, replace(SHORT, checkpoint_every=1), sequences())
    masked = [{"input_ids": [1, 2], "labels": [-100, -100]}]
    with pytest.raises(HyLoRADAError, match="no target"):
        HyLoRADATrainer(model, SHORT, masked, progress=False).train()
