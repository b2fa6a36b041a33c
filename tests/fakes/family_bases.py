"""Tiny random models of the decoder families of transformers, two blocks each, for one test over all of them."""

from typing import Any

import torch
from bases import CONTEXT, VOCABULARY
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SIZES = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=VOCABULARY,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
LLAMA = SIZES | dict(intermediate_size=48, num_key_value_heads=2, max_position_embeddings=CONTEXT)
EXPERTS = LLAMA | dict(num_local_experts=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
GEMMA = LLAMA | dict(head_dim=8)
WINDOWED = GEMMA | dict(sliding_window=16)
LATENT = EXPERTS | dict(
    num_key_value_heads=4,
    kv_lora_rank=16,
    q_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=4,
    v_head_dim=8,
    n_routed_experts=4,
    n_shared_experts=1,
    n_group=2,
    topk_group=1,
    first_k_dense_replace=1,
)
STATE_SPACE = dict(
    hidden_size=32, num_hidden_layers=2, vocab_size=VOCABULARY, state_size=4, bos_token_id=1, eos_token_id=2
)
ENCODER = SIZES | dict(
    intermediate_size=48,
    max_position_embeddings=CONTEXT,
    is_decoder=True,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
FAMILIES = (  # by `model_type`
    *("llama", "gpt2", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gemma3", "smollm3"),
    *("olmo", "olmo2", "olmo3", "phi", "phi3", "gpt_neox", "gpt_neo", "gptj", "gpt_bigcode", "codegen", "opt", "xglm"),
    *("bloom", "mpt", "falcon", "starcoder2", "stablelm", "persimmon", "nemotron", "seed_oss", "biogpt"),
    *("glm", "glm4", "granite", "cohere", "cohere2", "lfm2", "mamba"),
    *(
        "mixtral",
        "qwen2_moe",
        "qwen3_moe",
        "olmoe",
        "granitemoe",
        "gpt_oss",
        "llama4_text",
        "deepseek_v2",
        "deepseek_v3",
    ),
)
OWN = {  # by `model_type`: what its configuration wants, which is that of `LLAMA` for those not named
    "gpt2": SIZES | dict(n_positions=CONTEXT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt_neo": dict(
        **{**SIZES, "num_attention_heads": 4},
        num_heads=4,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        window_size=16,
        max_position_embeddings=CONTEXT,
    ),
    "gptj": SIZES | dict(n_positions=CONTEXT, rotary_dim=4),
    "codegen": SIZES | dict(n_positions=CONTEXT, rotary_dim=4),
    "gpt_bigcode": SIZES | dict(n_positions=CONTEXT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "opt": SIZES | dict(ffn_dim=48, max_position_embeddings=CONTEXT, word_embed_proj_dim=32, dropout=0.0),
    "bloom": SIZES | dict(seq_length=CONTEXT),
    "mpt": SIZES | dict(d_model=32, n_heads=4, n_layers=2, max_seq_len=CONTEXT),
    "falcon": SIZES | dict(max_position_embeddings=CONTEXT),
    "xglm": SIZES
    | dict(
        d_model=32,
        ffn_dim=48,
        num_layers=2,
        attention_heads=4,
        max_position_embeddings=CONTEXT,
        dropout=0.0,
        attention_dropout=0.0,
    ),
    "biogpt": LLAMA
    | dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, activation_dropout=0.0, layerdrop=0.0),
    "phi": LLAMA | dict(resid_pdrop=0.0),
    "gemma": GEMMA,
    "gemma2": WINDOWED,
    "gemma3_text": WINDOWED,
    "cohere2": WINDOWED,
    "mixtral": EXPERTS,
    "qwen2_moe": EXPERTS | dict(shared_expert_intermediate_size=16, decoder_sparse_step=1),
    "qwen3_moe": EXPERTS | dict(decoder_sparse_step=1),
    "granitemoe": EXPERTS,
    "olmoe": EXPERTS,
    "gpt_oss": EXPERTS
    | dict(head_dim=8, sliding_window=16, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
    "glm": GEMMA,
    "glm4": GEMMA,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "llama4_text": EXPERTS | dict(head_dim=8, intermediate_size_mlp=48),
    "seed_oss": LLAMA | dict(attention_dropout=0.0, residual_dropout=0.0),
    "lfm2": LLAMA | dict(layer_types=["conv", "full_attention"]),
    "gemma3": dict(  # reads images too
        text_config=WINDOWED,
        vision_config=dict(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        mm_tokens_per_image=4,
        image_token_id=90,
        boi_token_id=91,
        eoi_token_id=92,
    ),
    "mamba": STATE_SPACE,
    "mamba2": STATE_SPACE | dict(head_dim=8, num_heads=8, n_groups=1, chunk_size=8),  # these few are in no table
    "rwkv": SIZES | dict(attention_hidden_size=32, intermediate_size=48, context_length=CONTEXT),
    "bert": ENCODER,
}


def family_base(model_type: str, **changes: Any) -> PreTrainedModel:
    """Return a float32 model in evaluation mode; biases and norms are off their starts, so that no term is idle."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **OWN.get(model_type, LLAMA) | changes)
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()
