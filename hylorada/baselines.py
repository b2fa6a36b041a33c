"""A model for any method of the table in `methods.py`, which is part of this module's documented names."""

from transformers import PreTrainedModel

from hylorada.arguments import checked
from hylorada.config import IS_SETTING, HyLoRADAConfig
from hylorada.methods import METHODS, NO_PARTS, method_config
from hylorada.model import HyLoRADAModel

__all__ = ["METHODS", "NO_PARTS", "get_baseline_model", "method_config"]


@checked(elsewhere=IS_SETTING)
def get_baseline_model(method: str, base_model: PreTrainedModel, config: HyLoRADAConfig | None = None) -> HyLoRADAModel:
    """Adapt a base model with one of the methods; see `method_config` for what `config` decides.

    Raises:
        HyLoRADAError: the method is not in the table, or the base has no place for one of its parts.
    """
    return HyLoRADAModel(base_model, method_config(method, config))
