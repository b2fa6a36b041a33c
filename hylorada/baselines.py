"""A model for any method of the table in `methods.py`, which is part of this module's documented names."""

from transformers import PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.methods import METHODS, NO_PARTS, method_config
from hylorada.model import HyLoRADAModel

__all__ = ["METHODS", "NO_PARTS", "get_baseline_model", "method_config"]


def get_baseline_model(method: str, base_model: PreTrainedModel, config: HyLoRADAConfig | None = None) -> HyLoRADAModel:
    """Adapt a base model with one of the methods; see `method_config` for what `config` decides.

    Raises:
        HyLoRADAError: the method is not in the table, or the base has no place for one of its parts.
    """
    return HyLoRADAModel(base_model, method_config(method, config))
