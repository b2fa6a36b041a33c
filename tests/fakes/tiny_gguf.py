"""A quantised model of a few kilobytes, as a file of llama.cpp's form."""

import gguf
import numpy as np


def write_gguf(path, layers=1, untied=False):
    """A minute Llama in a GGUF file: q8_0 and f32 tensors, eight byte tokens, tied embeddings or an output layer."""
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
    shapes = {"token_embd": (8, 32), "output_norm": (32,)} | ({"output": (8, 32)} if untied else {})
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
