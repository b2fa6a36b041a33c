"""A model and a text of the user's own go through the whole study by a scale's file alone."""

import json
from pathlib import Path

import pytest
import torch
from repository import ROOT
from small_runs import small_scale
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from hylorada.cli import main
from hylorada.study.plan.runs import plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.sources.tiny import VOCABULARY, byte_tokenizer

CONTEXT = 256
SIZES = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
ENDS = dict(bos_token_id=256, eos_token_id=256, max_position_embeddings=CONTEXT, initializer_range=0.1)


def gpt_neox() -> PreTrainedModel:
    """Rotary positions on a part of each head, fused projections, an output layer of its own, no tied weights."""
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, **ENDS))


def qwen2() -> PreTrainedModel:
    """Grouped heads and biases on three projections."""
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, **ENDS, num_key_value_heads=2))


SHORT = dict(test_tokens_per_article=100, dtype="float32")  # bfloat16 would round four steps off
OWN = {"gpt_neox": (gpt_neox, ["query_key_value", "dense"]), "qwen2": (qwen2, ["q_proj", "v_proj", "down_proj"])}


def write_texts(folder: Path) -> None:
    folder.mkdir()
    samples = sorted((ROOT / "data" / "sample").glob("*.txt"))
    for part, paths in {"train": samples[:8], "validation": samples[8:10], "test": samples[10:]}.items():
        rows = [{"text": path.read_text(), "other": 1} for path in paths]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("family", OWN)
def test_every_stage_runs_on_a_local_model_and_text(family, tmp_path):
    make, targets = OWN[family]
    torch.manual_seed(0)
    make().save_pretrained(tmp_path / "mine")
    byte_tokenizer(CONTEXT).save_pretrained(tmp_path / "mine")
    write_texts(tmp_path / "texts")
    own = dict(base=f"local:{tmp_path / 'mine'}", corpus=f"local:{tmp_path / 'texts'}", target_modules=targets)
    scale = small_scale(tmp_path, **own, **SHORT)
    common = ["--scale", scale, "--data", str(tmp_path / "data")]
    assert main(["fetch", *common, "--quiet"]) == 0 and main(["tokens", *common]) == 0
    assert main(["run", *common, "--records", str(tmp_path / "runs"), "--quiet"]) == 0
    runs = plan(load_settings(scale), "ablation")
    records = [json.loads((run.folder(tmp_path / "runs") / "record.json").read_text()) for (run,) in runs.values()]
    by_stage = dict(zip(runs, records, strict=True))
    assert any(by_stage["position_bias"]["learned"]["position_bias.bias"]), "positions reach the table"
    assert by_stage["landmarks"]["parameters"]["landmark"] > 0
    assert len({record["results"]["mean_nll"] for record in records}) == len(runs), "each stage is a model of its own"
