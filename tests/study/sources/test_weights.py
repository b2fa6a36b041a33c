"""Weights: a GGUF file becomes dense tied weights, and what is pickled or incomplete is refused."""

import json
import shutil
from pathlib import Path

import pytest
from fetched import nothing_left

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


def write_gguf(path, layers=1):
    """A minute Llama in a GGUF file: q8_0 and f32 tensors, eight byte tokens, tied embeddings."""
    import gguf
    import numpy as np

    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "ab", "c", "d", "e", "f", "<|end|>"])
    writer.add_token_types([1] * 7 + [3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(7)
    writer.add_eos_token_id(7)
    shapes = {"token_embd": (8, 32), "output_norm": (32,)}
    for layer in range(layers):
        block = {"attn_norm": (32,), "ffn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32)}
        block |= {"attn_output": (32, 32), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    values = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        if value.ndim == 2:
            packed = gguf.quantize(value, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            values[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_a_gguf_model_becomes_dense_tied_bfloat16_weights(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from hylorada.study.sources import weights

    values = write_gguf(tmp_path / "tiny.gguf")
    parameters = sum(value.size for value in values.values())
    (tmp_path / "out").mkdir()
    facts = weights.from_gguf(tmp_path / "tiny.gguf", tmp_path / "out", parameters, 64, progress=False)
    assert facts == {"parameters": parameters, "context": 64, "tied_embeddings": True, "model_type": "llama"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, torch.tensor(values["token_embd"]).bfloat16())
    assert torch.equal(model.model.layers[0].mlp.down_proj.weight, torch.tensor(values["blk.0.ffn_down"]).bfloat16())


def test_a_gguf_model_with_missing_weights_or_another_size_is_refused(tmp_path):
    from hylorada.study.sources import weights

    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(HyLoRADAError, match="pinned is {'parameters': 1, 'context': 64"):
        weights.from_gguf(tmp_path / "tiny.gguf", tmp_path, 1, 64, progress=False)
    write_gguf(tmp_path / "hollow.gguf", layers=0)
    with pytest.raises(HyLoRADAError, match="do not fit their config.*missing_keys"):
        weights.from_gguf(tmp_path / "hollow.gguf", tmp_path, 1, 64, progress=False)
