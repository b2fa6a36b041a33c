"""Batches as loaders give them, and the evaluation that ends each epoch: its values, the best adapter, exact resume."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from bases import adapt, llama, tokens
from short_training import FULL, SHORT, sequences
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import BatchEncoding

from hylorada import HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.tracking import tracked
from hylorada.trainer import pad_right

HELD_OUT = [{"input_ids": row} for length in (5, 9, 16) for row in tokens(2, length, seed=50 + length)]
THREE = replace(SHORT, num_epochs=3)  # of four steps
WILD = replace(THREE, learning_rate=0.3)  # so that the first epoch is the best


def train(config: TrainingConfig, **more) -> tuple[HyLoRADAModel, list[dict]]:
    model = adapt(llama(), FULL, seed=5)
    more = more if "train_dataloader" in more else {"train_dataset": sequences()} | more
    return model, HyLoRADATrainer(model, config, progress=False, **more).train().history


def trained(model: HyLoRADAModel) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.adapter_tensors().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def slow_loss(model: HyLoRADAModel) -> float:
    """The mean over all targets of all held-out texts, one text at a time."""
    with torch.no_grad():
        logits = torch.cat([model(item["input_ids"][None]).logits[0, :-1] for item in HELD_OUT])
    return F.cross_entropy(logits, torch.cat([item["input_ids"][1:] for item in HELD_OUT])).item()


def loader(seed: int | None = None, workers: int = 0) -> DataLoader:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(sequences(), 2, shuffle=True, generator=generator, collate_fn=pad_right, num_workers=workers)


@pytest.mark.parametrize("evaluation", ["eval_dataset", "eval_dataloader"])
def test_each_epoch_ends_with_the_mean_over_all_held_out_targets(evaluation):
    data = HELD_OUT if evaluation == "eval_dataset" else DataLoader(HELD_OUT, 4, collate_fn=pad_right)
    model, history = train(replace(WILD, load_best_model_at_end=False), **{evaluation: data})
    scored = [row for row in history if "eval_loss" in row]
    assert [(row["epoch"], row["step"]) for row in scored] == [(1, 4), (2, 8), (3, 12)]
    assert scored[-1]["eval_loss"] == pytest.approx(slow_loss(model), rel=1e-6)
    assert [row["eval_perplexity"] for row in scored] == [math.exp(row["eval_loss"]) for row in scored]


def test_evaluation_moves_no_step():
    alone = train(replace(THREE, load_best_model_at_end=False))[0]
    watched = train(replace(THREE, load_best_model_at_end=False), eval_dataset=HELD_OUT)[0]
    assert same(trained(alone), trained(watched))


def test_the_best_adapter_is_kept_on_disk_and_given_back_at_the_end(tmp_path):
    model, history = train(WILD, train_dataloader=loader(), eval_dataset=HELD_OUT, output_dir=tmp_path)
    losses = [row["eval_loss"] for row in history if "eval_loss" in row]
    assert losses[-1] > losses[0] == min(losses), "the case is of no use unless it gets worse"
    assert slow_loss(model) == pytest.approx(losses[0], rel=1e-6)
    kept = HyLoRADAModel.from_pretrained(llama(), tmp_path / "best_adapter").eval()
    assert slow_loss(kept) == pytest.approx(losses[0], rel=1e-6)


def test_perplexity_goes_to_the_callback_the_log_and_the_tracker(tmp_path, caplog, monkeypatch):
    pytest.importorskip("tensorboard")
    shown = []
    monkeypatch.setattr("accelerate.Accelerator.log", lambda self, values, step: shown.append((step, values)))
    with tracked("tensorboard", tmp_path, "run", {}) as on_step, caplog.at_level(logging.INFO, "hylorada"):
        history = train(SHORT, eval_dataset=HELD_OUT, on_step=on_step)[1]
    assert [set(values) for _, values in shown[2:4]] == [
        {"loss", "learning_rate"},
        {"loss", "learning_rate", "eval_loss", "eval_perplexity"},
    ]
    assert shown[3][1]["eval_loss"] == history[3]["eval_loss"]
    assert f"after step 4: eval_loss {history[3]['eval_loss']:.4f}" in caplog.text


def test_the_bar_shows_loss_and_perplexity(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    model = adapt(llama(), FULL, seed=5)
    HyLoRADATrainer(model, replace(SHORT, num_epochs=1), sequences(), eval_dataset=HELD_OUT).train()
    assert "eval_perplexity=" in capsys.readouterr().err


@pytest.mark.parametrize(("seed", "stop_after"), [(None, 3), (3, 4), (3, 6)])
def test_a_loader_resumes_bit_for_bit_with_its_evaluations_and_its_best(tmp_path, seed, stop_after):
    config = replace(WILD, checkpoint_every=1)
    more = {"eval_dataset": HELD_OUT}
    whole, history = train(replace(config, checkpoint_every=None), train_dataloader=loader(seed), **more)

    def stop(row: dict, total: int) -> None:
        if row["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, train_dataloader=loader(seed), output_dir=tmp_path, on_step=stop, **more)
    torch.manual_seed(99)  # nothing may hang on the random state of the new process
    resumed, joined = train(config, train_dataloader=loader(seed), output_dir=tmp_path, **more)
    assert same(trained(resumed), trained(whole)) and joined == history


def test_a_loaders_batches_are_taken_as_they_come():
    in_order = DataLoader(sequences(), 2, collate_fn=pad_right)
    seen = [{name: values.clone() for name, values in batch.items()} for batch in in_order]
    from_loader, from_list = (train(SHORT, train_dataloader=batches) for batches in (in_order, seen))
    assert same(trained(from_loader[0]), trained(from_list[0]))
    plain = [{"input_ids": batch["input_ids"], "text": ["not read"] * len(batch["input_ids"])} for batch in seen]
    assert train(SHORT, train_dataloader=plain)[1] == from_list[1]


def test_a_collate_of_ones_own_may_leave_out_labels_and_add_what_is_not_read():
    def own(items: list[dict]) -> BatchEncoding:
        batch = pad_right(items)
        return BatchEncoding({name: batch[name] for name in ("input_ids", "attention_mask")} | {"lengths": [1, 2]})

    more = {"train_dataset": [{"input_ids": row["input_ids"]} for row in HELD_OUT], "eval_dataset": HELD_OUT}
    assert train(SHORT, collate=own, **more)[1] == train(SHORT, **more)[1]


def test_a_batch_size_that_a_loader_overrules_is_told(caplog):
    HyLoRADATrainer(adapt(llama(), FULL), replace(SHORT, batch_size=1), train_dataloader=loader())
    assert "gives batches of 2; batch_size=1 is not used" in caplog.text


def test_other_data_for_evaluation_or_from_a_loader_are_refused_on_resume(tmp_path):
    config = replace(SHORT, checkpoint_every=1)
    train(config, train_dataloader=loader(), eval_dataset=HELD_OUT, output_dir=tmp_path)
    shorter = DataLoader(sequences(7, 15), 2, collate_fn=pad_right)
    for more in (dict(train_dataloader=loader()), dict(train_dataloader=shorter, eval_dataset=HELD_OUT)):
        with pytest.raises(HyLoRADAError, match="other settings or data"):
            train(config, output_dir=tmp_path, **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "nothing to train on; give train_dataset or train_dataloader"),
        (dict(train_dataset=sequences(), train_dataloader=loader()), "both given"),
        (dict(config=loader()), r"config is a DataLoader; make it with TrainingConfig"),
        (dict(train_dataset=sequences(), eval_dataset=[]), "eval_dataset is empty"),
    ],
    ids=["nothing", "both", "no config", "empty"],
)
def test_what_is_no_training_is_refused(more, message):
    with pytest.raises(HyLoRADAError, match=message):
        HyLoRADATrainer(adapt(llama(), FULL), **more)


def test_data_for_evaluation_without_a_target_are_refused_where_they_are_scored():
    with pytest.raises(HyLoRADAError, match="over 0 targets"):
        train(SHORT, eval_dataset=[{"input_ids": [1]}])
