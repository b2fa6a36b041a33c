"""transformers' Trainer drives a HyLoRADAModel: the formula's loss, checkpoints that are adapters, exact resume."""

import inspect
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from bases import FAMILIES, adapt, families, llama, tokens, without_zeros
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.checkpoint import SEAL
from hylorada.study.sources.tiny import gpt2_config, llama_config, random_model

pytestmark = pytest.mark.filterwarnings("ignore:Detected kernel version:UserWarning")
ALL_PARTS = HyLoRADAConfig(use_dora_magnitude=True, lora_dropout=0.1)
STATE = {"optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin"}
ADAPTER = {"hylorada_config.json", "hylorada.safetensors", "model.safetensors.index.json"}


@pytest.fixture(autouse=True, scope="module")
def forget_the_device():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def rows(number: int = 12, shortest: int = 9) -> list[dict[str, list[int]]]:
    """Sequences of different lengths, with a prompt that is no target."""
    ids = [tokens(1, shortest + 2 * k, seed=k)[0].tolist() for k in range(number)]
    return [{"input_ids": line, "labels": [-100] * 3 + line[3:]} for line in ids]


def padded(side: str, rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """One batch: ids with zeros, a mask, and labels with what is no target, on one side."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        missing = longest - len(row["input_ids"])
        values = row["input_ids"], [1] * len(row["input_ids"]), row["labels"]
        for column, value, filler in zip(batch.values(), values, (0, 0, -100), strict=True):
            column.append([filler] * missing + value if side == "left" else value + [filler] * missing)
    return {name: torch.tensor(column) for name, column in batch.items()}


def trainer(model, folder: Path, data=None, side: str = "right", **options) -> Trainer:
    defaults = dict(report_to=[], use_cpu=True, disable_tqdm=True, logging_steps=1, save_strategy="no", seed=1)
    options = {**defaults, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **options}
    data = Dataset.from_list(rows()) if data is None else data
    arguments = TrainingArguments(str(folder), **options)
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data, data_collator=partial(padded, side))


def nll_by_the_formula(model, row: dict[str, list[int]]) -> Tensor:
    """The summed loss of one sequence alone, from its logits, without any shortcut."""
    logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(dim=-1)
    targets = row["labels"][1:]
    return -sum(logits[t, target] for t, target in enumerate(targets) if target != -100)


def targets_of(data: list[dict[str, list[int]]]) -> int:
    return sum(target != -100 for row in data for target in row["labels"][1:])


@families
def test_a_step_follows_the_mean_over_all_targets_of_its_micro_batches(family, tmp_path):
    """Trainer counts the targets by `loss_type`; a miscount of one a row is 5 % of loss and gradient here."""
    data = rows(4)
    model = without_zeros(adapt(FAMILIES[family](), HyLoRADAConfig(use_dora_magnitude=True, lora_dropout=0.0)))
    loss = sum(nll_by_the_formula(model, row) for row in data) / targets_of(data)
    loss.backward()
    wanted = {name: tensor.grad for name, tensor in model.adapter_tensors().items() if tensor.grad is not None}
    before = {name: tensor.detach().clone() for name, tensor in model.adapter_tensors().items()}
    model.zero_grad()
    run = trainer(model, tmp_path, data, max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=0.0)
    run.train()
    assert run.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert len(wanted) > 10
    for name, tensor in model.adapter_tensors().items():
        if name in wanted:
            torch.testing.assert_close(before[name] - tensor, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


@families
def test_evaluation_gives_the_loss_of_the_formula(family, tmp_path):
    data = rows(4)
    model = without_zeros(adapt(FAMILIES[family](), HyLoRADAConfig()))
    wanted = sum(nll_by_the_formula(model, row) for row in data) / targets_of(data)
    found = trainer(model, tmp_path, data, per_device_eval_batch_size=4).evaluate()["eval_loss"]
    assert found == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_neutral_adapter_has_the_losses_of_its_base_under_trainer(side, tmp_path):
    neutral = HyLoRADAConfig(use_dora_magnitude=True, landmark_enabled=False)
    found = []
    for model in (llama(), adapt(llama(), neutral)):
        run = trainer(model, tmp_path, side=side, max_steps=2, learning_rate=0.0)
        run.train()
        found.append([row["loss"] for row in run.state.log_history[:2]] + [run.evaluate()["eval_loss"]])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_smoothed_loss_is_the_formulas(tmp_path):
    """(1-a)·NLL + a·mean of -log p over the vocabulary; Trainer shifts labels where it knows the class by its name."""
    data, model = rows(4), without_zeros(adapt(llama(), HyLoRADAConfig(use_dora_magnitude=True)))
    even = 0.0
    for row in data:
        log_p = model(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(dim=-1)
        even -= sum(log_p[t].mean() for t, target in enumerate(row["labels"][1:]) if target != -100)
    nll = sum(nll_by_the_formula(model, row) for row in data)
    wanted = ((0.9 * nll + 0.1 * even) / targets_of(data)).item()
    run = trainer(model, tmp_path, data, per_device_eval_batch_size=4, label_smoothing_factor=0.1)
    assert run.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)
    assert repr(model).startswith("HyLoRADAModel(\n  (base_model): LlamaForCausalLM(")


@families
def test_trainer_keeps_the_columns_that_the_base_takes(family, tmp_path):
    base = FAMILIES[family]()
    wanted = [name for name in inspect.signature(base.forward).parameters]
    model = adapt(base, HyLoRADAConfig())
    assert list(inspect.signature(model.forward).parameters) == wanted
    line = dict.fromkeys(["input_ids", "labels", "token_type_ids", "title"], [1, 2, 3])
    kept = trainer(model, tmp_path)._remove_unused_columns(Dataset.from_list([line])).column_names
    assert set(kept) == {"input_ids", "labels"} | ({"token_type_ids"} & set(wanted))
    ids = tokens()
    position = wanted.index("attention_mask")  # second or third, by family
    given = [ids, *[None] * (position - 1), torch.ones_like(ids)]
    assert torch.equal(model(*given).logits, model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
    for wrong in (lambda: model(ids, input_ids=ids), lambda: model(*[None] * 20)):
        with pytest.raises(TypeError, match="multiple values"):
            wrong()


def tied(family: str) -> PreTrainedModel:
    config = {"llama": llama_config, "gpt2": gpt2_config}[family](32, 2, 4, 64)
    return random_model(config, seed=0)[0].float().eval()


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama", ALL_PARTS),
        ("gpt2", ALL_PARTS),
        ("llama", HyLoRADAConfig(train_embeddings=True, train_norms=True, landmark_design="learnable_bucket")),
    ],
)
def test_checkpoints_are_adapters_and_a_resumed_run_ends_with_the_same_bits(family, config, tmp_path):
    """On tied bases, whose tensors Trainer by itself cannot write; every checkpoint is also the best one once."""
    options = dict(max_steps=4, save_strategy="steps", save_steps=2, learning_rate=1e-2)
    whole = adapt(tied(family), config)
    trainer(whole, tmp_path / "whole", **options).train()
    for step in (2, 4):
        folder = tmp_path / "whole" / f"checkpoint-{step}"
        assert {path.name for path in folder.iterdir()} == STATE | ADAPTER
        assert load_file(folder / "hylorada.safetensors").keys() - {SEAL} == whole.adapter_tensors().keys()
    resumed = adapt(tied(family), config, seed=1)
    run = trainer(resumed, tmp_path / "resumed", **options)
    run.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    again = HyLoRADAModel.from_pretrained(tied(family), tmp_path / "whole" / "checkpoint-4")
    for name, tensor in whole.adapter_tensors().items():
        assert torch.equal(tensor, resumed.adapter_tensors()[name]), name
        assert torch.equal(tensor, again.adapter_tensors()[name]), name
    run.save_model(str(tmp_path / "resumed"))  # where checkpoints are, which stay
    assert (tmp_path / "resumed" / "checkpoint-4").is_dir()
    last = HyLoRADAModel.from_pretrained(tied(family), tmp_path / "resumed")
    assert torch.equal(last.eval()(tokens()).logits, again.eval()(tokens()).logits)


def test_the_best_adapter_is_loaded_at_the_end_without_a_warning(tmp_path, caplog):
    model = adapt(llama(), ALL_PARTS)
    options = dict(max_steps=6, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1)
    run = trainer(model, tmp_path, learning_rate=0.5, load_best_model_at_end=True, **options)  # it overshoots
    run.train()
    losses = {row["step"]: row["eval_loss"] for row in run.state.log_history if "eval_loss" in row}
    best = min(losses, key=losses.get)
    assert best < 6 and run.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert run.evaluate()["eval_loss"] == pytest.approx(losses[best], abs=0)
    assert "missing keys" not in caplog.text and "unexpected keys" not in caplog.text


def test_a_checkpoint_of_another_adapter_is_refused(tmp_path):
    options = dict(max_steps=2, save_strategy="steps", save_steps=1)
    trainer(adapt(llama(), ALL_PARTS), tmp_path, **options).train()
    for other in (HyLoRADAConfig(), HyLoRADAConfig(lora_rank=4, use_dora_magnitude=True)):
        run = trainer(adapt(llama(), other), tmp_path, **options)
        with pytest.raises(HyLoRADAError, match="other settings"):
            run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_no_training_goes_on_from_a_checkpoint_with_a_flipped_bit(tmp_path):
    options = dict(max_steps=1, save_strategy="steps", save_steps=1)
    trainer(adapt(llama(), ALL_PARTS), tmp_path, **options).train()
    path = tmp_path / "checkpoint-1" / "hylorada.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(HyLoRADAError, match="the checkpoint is damaged"):
        trainer(adapt(llama(), ALL_PARTS), tmp_path, **options).train(resume_from_checkpoint=str(path.parent))
    with pytest.raises(HyLoRADAError, match="is damaged: its tensors are not those that were saved"):
        HyLoRADAModel.from_pretrained(llama(), path.parent)


@families
def test_recomputed_activations_change_no_number(family, tmp_path):
    found = []
    for recomputes in (False, True):
        model = adapt(FAMILIES[family](), ALL_PARTS)
        trainer(model, tmp_path, max_steps=2, learning_rate=1e-2, activation_checkpointing=recomputes).train()
        assert model.is_activation_checkpointing is recomputes is model.base_model.is_activation_checkpointing
        found.append(model.adapter_tensors())
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_no_training_goes_on_from_a_checkpoint_of_other_settings_or_of_another_base(tmp_path):
    """Their tensors have the same names and shapes: the checkpoint says whose they are."""
    settings = dict(position_bias_enabled=False, landmark_enabled=False)
    model = HyLoRADAModel(llama(), HyLoRADAConfig(lora_alpha=16.0, **settings))
    trainer(model, tmp_path, save_strategy="steps", save_steps=1, max_steps=1).train()
    merged = model.merge_and_unload()
    for base, alpha in ((llama(), 32.0), (merged, 16.0)):
        other = HyLoRADAModel(base, HyLoRADAConfig(lora_alpha=alpha, **settings))
        with pytest.raises(HyLoRADAError, match="other settings, or on another base"):
            trainer(other, tmp_path, max_steps=2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
