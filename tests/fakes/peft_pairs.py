"""The same adapter as ours and as PEFT's own model, trained off its start."""

import pytest
import torch
from bases import FAMILIES, adapt, without_zeros
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from hylorada import HyLoRADAConfig, HyLoRADAModel

KINDS = {  # by our field names; PEFT's are use_rslora and use_dora
    "lora": dict(use_rslora=False, use_dora_magnitude=False),
    "rslora": dict(use_rslora=True, use_dora_magnitude=False),
    "dora": dict(use_rslora=False, use_dora_magnitude=True),
    "rslora and dora": dict(use_rslora=True, use_dora_magnitude=True),
}
PLAIN = dict(position_bias_enabled=False, landmark_enabled=False)
kinds = pytest.mark.parametrize("kind", KINDS)


def ours_trained(family: str, kind: str, **changes) -> HyLoRADAModel:
    config = HyLoRADAConfig(**PLAIN | KINDS[kind] | dict(lora_rank=4, lora_dropout=0.0) | changes)
    return without_zeros(adapt(FAMILIES[family](), config))


def pefts_trained(family: str, kind: str, **changes) -> PeftModel:
    """PEFT's own model with every trained tensor moved off its start."""
    targets = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    settings = dict(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM")
    settings |= dict(use_rslora=KINDS[kind]["use_rslora"], use_dora=KINDS[kind]["use_dora_magnitude"]) | changes
    torch.manual_seed(0)
    model = get_peft_model(FAMILIES[family](), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def adapted_names(model: nn.Module, marker: str) -> set[str]:
    return {name for name, module in model.named_modules() if hasattr(module, marker)}
