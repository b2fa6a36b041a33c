"""TRL, lm-evaluation-harness and pipelines on a HyLoRADAModel: the numbers are those of the formula, and ours."""

import json
import math

import lm_eval
import pytest
import torch
from accelerate.state import AcceleratorState
from bases import adapt, without_zeros
from datasets import Dataset
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows
from torch import Tensor
from transformers import PreTrainedModel, pipeline
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, run_full_evaluation
from hylorada.evaluation import score_windows
from hylorada.study.sources.tiny import byte_tokenizer, gpt2_config, llama_config, random_model

# TRL still asks for activation checkpointing, which it switches on, by a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")
CONTEXT, END = 64, 256
FOX = "The quick brown fox jumps over the lazy dog, and over it again, until evening falls."
TEXTS = [FOX, "Short.", "wave " * 29 + "end"]
ALL_PARTS = HyLoRADAConfig(use_dora_magnitude=True, lora_dropout=0.0)
TOKENIZER = byte_tokenizer(CONTEXT)


@pytest.fixture(autouse=True, scope="module")
def forget_the_device():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def stay_offline(tmp_path, monkeypatch):
    """Tell nobody of the run, and keep no data outside."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def base_of(family: str) -> PreTrainedModel:
    """One token a byte, tied weights."""
    config = {"llama": llama_config, "gpt2": gpt2_config}[family](32, 2, 4, CONTEXT)
    return random_model(config, seed=0)[0].float().eval()


def options(folder, **changes) -> dict:
    fixed = dict(output_dir=str(folder), use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, save_strategy="no")
    return fixed | dict(max_steps=1, logging_steps=1, learning_rate=1e-2, max_length=CONTEXT) | changes


def log_likelihood(model, ids: list[int], first: int = 1) -> Tensor:
    """Of the tokens from `first` on, summed, by the formula."""
    logits = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    return sum(logits[t - 1, ids[t]] for t in range(first, len(ids)))


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama", ALL_PARTS),
        ("gpt2", ALL_PARTS),
        ("llama", HyLoRADAConfig(train_embeddings=True, train_norms=True, lora_dropout=0.0)),
    ],
)
def test_sft_trains_all_parts_on_the_loss_of_the_formula_and_saves_the_adapter(family, config, tmp_path):
    texts = [FOX[:length] for length in (10, 20, 30, 40)]
    ids = [TOKENIZER(text).input_ids + [END] for text in texts]
    model = without_zeros(adapt(base_of(family), config))
    loss = -sum(log_likelihood(model, line) for line in ids) / sum(len(line) - 1 for line in ids)
    loss.backward()
    tensors = model.adapter_tensors()
    reached = {name for name, tensor in tensors.items() if tensor.grad is not None and tensor.grad.any()}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    model.zero_grad()
    arguments = SFTConfig(**options(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2))
    data = Dataset.from_dict({"text": texts})
    trainer = SFTTrainer(model, arguments, train_dataset=data, processing_class=TOKENIZER)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    moved = {name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])}
    assert moved >= reached and {name.split(".")[0] for name in reached} == {"base_model", "position_bias", "landmark"}
    trainer.save_model(str(tmp_path / "adapter"))
    again = HyLoRADAModel.from_pretrained(base_of(family), tmp_path / "adapter").eval()
    whole = torch.tensor(ids[3:])
    assert torch.equal(again(whole).logits, model.eval()(whole).logits)


def test_dpo_measures_the_adapter_against_its_base_by_the_formula(tmp_path):
    """With its dropout off, as DPO wants it: a dropout that stayed on would move every reward."""
    pairs = {"prompt": ["The fox "] * 2, "chosen": ["jumps"] * 2, "rejected": ["is asleep"] * 2}
    base_of("llama").save_pretrained(tmp_path / "base")
    base = type(base_of("llama")).from_pretrained(tmp_path / "base")
    model = without_zeros(adapt(base, HyLoRADAConfig(use_dora_magnitude=True, lora_dropout=0.5)))
    wanted, prompt = {}, TOKENIZER(pairs["prompt"][0]).input_ids
    for which in ("chosen", "rejected"):
        ids = prompt + TOKENIZER(pairs[which][0]).input_ids + [END]
        with torch.no_grad():
            of_model, of_base = (log_likelihood(m, ids, len(prompt)) for m in (model, base_of("llama")))
        wanted[which] = (of_model - of_base).item()
    arguments = DPOConfig(**options(tmp_path, beta=0.1, per_device_train_batch_size=2))
    data = Dataset.from_dict(pairs)
    trainer = DPOTrainer(model, args=arguments, train_dataset=data, processing_class=TOKENIZER)
    trainer.train()
    row = trainer.state.log_history[0]
    for which, reward in wanted.items():
        assert row[f"rewards/{which}"] == pytest.approx(0.1 * reward, rel=1e-4)
    margin = 0.1 * (wanted["chosen"] - wanted["rejected"])
    assert row["loss"] == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-4)


@pytest.mark.parametrize("trainer", [SFTTrainer, DPOTrainer])
def test_trl_is_refused_a_base_with_an_adapter_in_it(trainer, tmp_path):
    model = adapt(base_of("llama"), ALL_PARTS)
    arguments = {SFTTrainer: SFTConfig, DPOTrainer: DPOConfig}[trainer](**options(tmp_path))
    data = {SFTTrainer: {"text": ["ab"]}, DPOTrainer: {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}}[trainer]
    data = Dataset.from_dict(data)
    with pytest.raises(HyLoRADAError, match="give the HyLoRADAModel itself"):
        trainer(model.base_model, args=arguments, train_dataset=data, processing_class=TOKENIZER)


def harness(model, folder, texts: list[str], length: int) -> dict[str, float]:
    """Word and byte perplexity and bits a byte, as lm-evaluation-harness has them, by a task from two local files."""
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    metrics = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    task = {
        "task": "local_texts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "texts.jsonl")}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in metrics],
    }
    (folder / "task.yaml").write_text(json.dumps(task))  # JSON is YAML
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    lm = HFLM(pretrained=model, tokenizer=TOKENIZER, max_length=length, batch_size=4)
    found = lm_eval.simple_evaluate(lm, tasks=["local_texts"], task_manager=manager, bootstrap_iters=0)["results"]
    return {metric: found["local_texts"][f"{metric},none"] for metric in metrics}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_harness_gives_the_numbers_of_a_full_evaluation(family, tmp_path):
    model = without_zeros(adapt(base_of(family), ALL_PARTS))
    there = harness(model, tmp_path, TEXTS, length=32)
    ours = dict(max_length=33, add_bos=True, progress=False)
    here = run_full_evaluation(model, TEXTS, TOKENIZER, full_last_window=True, **ours)
    at_the_stride = run_full_evaluation(model, TEXTS, TOKENIZER, **ours)
    assert math.log(there["word_perplexity"]) == pytest.approx(math.log(here["word_perplexity"]), rel=1e-6)
    for metric in ("byte_perplexity", "bits_per_byte"):
        assert there[metric] == pytest.approx(here[metric], rel=1e-5)
    assert abs(there["byte_perplexity"] / at_the_stride["byte_perplexity"] - 1) > 1e-3


def test_windows_are_those_of_the_harness_with_a_full_last_one():
    """Each as (the tokens that are seen, how many of the last are scored); the BOS is -1."""
    for length in (1, 2, 5, 8):
        for count in range(1, 4 * length + 2):
            ids = list(range(count))
            rolling = get_rolling_token_windows(ids, prefix_token=-1, max_seq_len=length, context_len=1)
            theirs = [([*context, targets[-1]], len(targets)) for context, targets in rolling]
            windows = score_windows(count + 1, length + 1, length, full_last=True)
            assert [([-1, *ids][begin:end], end - first) for begin, end, first in windows] == theirs


def test_a_pipeline_generates_what_the_model_generates():
    model = without_zeros(adapt(base_of("llama"), ALL_PARTS))
    generate = pipeline("text-generation", model=model, tokenizer=TOKENIZER, device="cpu")
    found = generate(["The fox", "A longer line of text"], max_new_tokens=8, do_sample=False, batch_size=2)
    for text, answer in zip(["The fox", "A longer line of text"], found, strict=True):
        ids = torch.tensor([TOKENIZER(text).input_ids])
        options = dict(attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=END)
        wanted = model.generate(ids, **options)
        assert answer[0]["generated_text"] == TOKENIZER.decode(wanted[0], skip_special_tokens=True)
