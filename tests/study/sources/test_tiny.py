"""The tiny random models of the registry: the same each time, with a token a byte."""

import json

import pytest
from fetched import digest

from hylorada.study.sources import fetch


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
def test_a_tiny_model_is_the_same_each_time_and_its_tokenizer_round_trips(name, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch.fetch_model(name, tmp_path, progress=False)
    again = fetch.fetch_model(name, tmp_path / "again", progress=False)
    assert digest(folder / "model.safetensors") == digest(again / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and model.config.max_position_embeddings == 256
    made = json.loads((folder / "source.json").read_text())
    assert made["parameters"] == model.num_parameters() and made["tied_embeddings"] is True
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Naïve 東京 – “quotes”\n\n  don't , a\tb\x00\x7f é "
    ids = tokenizer(text).input_ids
    assert ids == list(text.encode())  # one token a byte, and the id is the byte
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == model.config.vocab_size == 257
    assert tokenizer.eos_token_id == model.config.eos_token_id == 256
    logits = model(torch.tensor([ids])).logits.float()
    assert logits.isfinite().all() and logits.std() > 0.1


def test_the_tiny_llama_groups_its_heads(tmp_path):
    config = json.loads((fetch.fetch_model("tiny-llama", tmp_path, progress=False) / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
