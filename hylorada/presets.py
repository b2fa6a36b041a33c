"""The six configurations that the published guidelines name, as changes to the defaults.

Ranks, parts, group size and RoPE factor are those of the guidelines' tables; what these leave open keeps its default.
They are starting points: which of them is better where is a matter of measurement.
"""

from typing import Any

BALANCED = {"use_dora_magnitude": True, "landmark_enabled": False}
LONG_CONTEXT = BALANCED | {"s2_attn_enabled": True, "s2_group_size": 2048}

PRESETS: dict[str, dict[str, Any]] = {
    "lightweight": {"lora_rank": 4, "landmark_enabled": False},
    "balanced": BALANCED,
    "max_quality": {"lora_rank": 16, "use_dora_magnitude": True},
    "long_context": LONG_CONTEXT,  # 2,000 to 4,000 tokens
    "extreme_context": LONG_CONTEXT  # beyond 8,000 tokens; needs a base with rotary positions
    | {
        "rope_scaling_type": "yarn",
        "rope_scaling_factor": 2.0,
        "train_embeddings": True,
        "train_norms": True,
        "gradient_checkpointing": True,
    },
    "optimal": {"lora_rank": 16, "lora_alpha": 16.0, "lora_dropout": 0.1},  # of the published ablation: no magnitude
}
