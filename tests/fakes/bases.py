"""Small random base models of three families, and adapters whose zeros do not hide mistakes.

They are not the tiny models of the study's sources, which stand for a real one (bfloat16, tied, a token a byte): here
every term of every formula must weigh, so weights are float32, untied and large, and biases are not zero.
"""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from hylorada import HyLoRADAConfig, HyLoRADAModel

VOCABULARY, CONTEXT = 97, 64


def gpt2() -> PreTrainedModel:
    """Two blocks with learned positions and fused, transposed projections."""
    torch.manual_seed(0)
    sizes = dict(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, vocab_size=VOCABULARY)
    no_dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return _varied(GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, bos_token_id=0, eos_token_id=0)))


def llama() -> PreTrainedModel:
    """Two blocks with rotary positions and two key-value heads for four query heads."""
    torch.manual_seed(0)
    return _varied(LlamaForCausalLM(LlamaConfig(**_llama_sizes(), bos_token_id=0, eos_token_id=0)))


def qwen2() -> PreTrainedModel:
    """Like `llama`, with biases on the query, key and value projections."""
    torch.manual_seed(0)
    return _varied(Qwen2ForCausalLM(Qwen2Config(**_llama_sizes(), bos_token_id=0, eos_token_id=0)))


def _llama_sizes() -> dict:
    return dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        vocab_size=VOCABULARY,
    )


def _varied(model: PreTrainedModel) -> PreTrainedModel:
    """Give biases values (they start at zero) and weights the size of trained ones, so that no term is idle."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1, generator=generator)
            elif parameter.ndim == 2:
                parameter.mul_(5)
    return model.eval()


FAMILIES = {"gpt2": gpt2, "llama": llama, "qwen2": qwen2}
families = pytest.mark.parametrize("family", FAMILIES)
attentions = pytest.mark.parametrize("family", ("gpt2", "llama"))  # Qwen2's attention is Llama's


def adapt(base: PreTrainedModel, config: HyLoRADAConfig, seed: int = 0) -> HyLoRADAModel:
    """A fresh adapter in evaluation mode; dropout would make two passes differ."""
    torch.manual_seed(seed)
    return HyLoRADAModel(base, config).eval()


def without_zeros(model: HyLoRADAModel) -> HyLoRADAModel:
    """Move every trained tensor off its start, as training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def tokens(batch: int = 2, length: int = 24, seed: int = 3) -> torch.Tensor:
    """Random token ids, (batch, length); none is 0."""
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))
