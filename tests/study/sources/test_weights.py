"""Weights: a GGUF file becomes dense tied weights, and what is pickled or incomplete is refused."""

import json
import shutil
from pathlib import Path

import pytest
from fetched import nothing_left
from tiny_gguf import write_gguf

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import fetch


def test_pickled_or_incomplete_local_models_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    origin = fetch.fetch_model("tiny-llama", tmp_path, progress=False)

    def refused(change, complaint):
        folder = Path(shutil.copytree(origin, tmp_path / "copy"))
        change(folder)
        with pytest.raises(HyLoRADAError, match=complaint) as told:
            fetch.fetch_model(f"local:{folder}", tmp_path / "data", progress=False)
        assert "\n" not in str(told.value) and len(str(told.value)) < 700
        assert nothing_left(tmp_path / "data")
        shutil.rmtree(folder)

    def drop_a_layer(folder):
        tensors = load_file(folder / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    refused(lambda folder: (folder / "config.json").unlink(), "holds no config.json")
    refused(lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled weights")
    refused(lambda folder: (folder / "model.safetensors").unlink(), "no weights")
    refused(drop_a_layer, "model.layers.1.mlp.up_proj.weight")

    def set_in_config(**values):
        def change(folder):
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | values))

        return change

    refused(set_in_config(vocab_size=300), r"do not fit their config: {'mismatched_keys'.*embed_tokens.weight")
    for method in ("gptq", "bitsandbytes", "awq", "fp8"):
        refused(set_in_config(quantization_config={"quant_method": method}), rf"are quantised \({method}\); give those")
    refused(set_in_config(dtype="float99"), "config.json cannot be used .AttributeError.: .*float99")
    refused(set_in_config(vocab_size="257"), "config.json cannot be used .*'vocab_size' expected int, got str")
    refused(set_in_config(model_type="unheard_of"), "config.json cannot be used .* model type `unheard_of`")
    refused(set_in_config(hidden_act="unheard_of"), "the model in .* could not be loaded .KeyError.: 'unheard_of'")
    refused(lambda folder: (folder / "config.json").write_text("[]"), "config.json holds no settings by name")
    refused(lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0"}'), "no readable tokenizer")


def test_a_gguf_model_becomes_dense_tied_bfloat16_weights(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from hylorada.study.sources import weights

    values = write_gguf(tmp_path / "tiny.gguf")
    parameters = sum(value.size for value in values.values())
    expected = {"parameters": parameters, "context": 64, "tied_embeddings": True}
    (tmp_path / "out").mkdir()
    facts = weights.from_gguf(tmp_path / "tiny.gguf", tmp_path / "out", expected, progress=False)
    assert facts == expected | {"model_type": "llama"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, torch.tensor(values["token_embd"]).bfloat16())
    assert torch.equal(model.model.layers[0].mlp.down_proj.weight, torch.tensor(values["blk.0.ffn_down"]).bfloat16())


def test_a_gguf_model_with_missing_weights_or_another_size_is_refused(tmp_path):
    from hylorada.study.sources import weights

    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(HyLoRADAError, match="pinned is {'parameters': 1, 'context': 64"):
        weights.from_gguf(tmp_path / "tiny.gguf", tmp_path, {"parameters": 1, "context": 64}, progress=False)
    write_gguf(tmp_path / "hollow.gguf", layers=0)
    with pytest.raises(HyLoRADAError, match="do not fit their config.*missing_keys"):
        weights.from_gguf(tmp_path / "hollow.gguf", tmp_path, {"parameters": 1, "context": 64}, progress=False)
