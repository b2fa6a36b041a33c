"""Parameter-efficient fine-tuning with rank-stabilised LoRA, gated DoRA magnitude, position bias and landmarks.

Names load on first use, so that a part that needs no torch (settings, the workflow) does not pay for it.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "HyLoRADAConfig": "config",
    "HyLoRADAError": "errors",
    "HyLoRADAModel": "model",
    "HyLoRADATrainer": "trainer",
    "HyLoRADAUnified": "lora",
    "LandmarkLoRA": "landmarks",
    "LearnableBucketLandmark": "landmark_redesigns",
    "PositionBias": "position_bias",
    "TrainingConfig": "training_config",
    "evaluate_lost_in_the_middle": "evaluation",
    "evaluate_perplexity": "evaluation",
    "export_lora": "export",
    "export_peft": "export",
    "get_baseline_model": "baselines",
    "import_peft": "peft_import",
    "run_full_evaluation": "evaluation",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hylorada' has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"hylorada.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
