"""A base model while an adapter is in it: it computes and generates, but is no model to train or to save by itself.

Its class is then a subclass of its own class, of the same name, that refuses; `release` gives back the class it had.
Position bias and landmarks are no modules of the base, so a trainer that is given the base would train without them;
and a checkpoint of adapted layers loads elsewhere as layers without weights, which transformers then draws at random.
"""

from functools import cache
from typing import Any

from transformers import PreTrainedModel

from hylorada.errors import HyLoRADAError


class Guarded:
    """What an adapted base refuses; a mixin in front of its class."""

    @property
    def accepts_loss_kwargs(self) -> bool:
        """Trainer and all trainers of TRL ask this of the model that they are to train, and nothing else does."""
        raise HyLoRADAError(
            "this base model has an adapter in it, part of which is outside of it and would not be trained; give the "
            "HyLoRADAModel itself to the trainer, which trains the adapter alone."
        )

    @property
    def peft_config(self) -> Any:
        """PEFT asks this before it puts its layers in."""
        raise HyLoRADAError(
            "this base model has an adapter in it, which PEFT would freeze; give PEFT a fresh base model, or the one "
            "that merge_and_unload() returns."
        )

    def add_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Refuse, as `peft_config`."""
        _ = self.peft_config

    load_adapter = add_adapter

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Save a base whose own layers are all in place; refuse one with adapted layers, which nothing could load."""
        self._require_own_layers()
        return super().save_pretrained(*args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse as `save_pretrained`, before a place on the hub is made."""
        self._require_own_layers()
        return super().push_to_hub(*args, **kwargs)

    def _require_own_layers(self) -> None:
        if any(hasattr(module, "base_layer") for module in self.modules()):
            raise HyLoRADAError(
                "this base model holds adapted layers, whose weights nobody would find in what it saves; save the "
                "adapter by HyLoRADAModel.save_pretrained(folder), or all of it by merge_and_unload() first."
            )

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Copy and pickle by the class that it had, for the subclass is in no module."""
        _, _, *state = super().__reduce_ex__(protocol)
        return _new, (plain_class(self),), *state


def guard(base_model: PreTrainedModel) -> None:
    """Let the base, and each model inside it, refuse to be trained or saved by itself, until `release`."""
    for model in _models_in(base_model):
        model.__class__ = _guarded(plain_class(model))


def release(base_model: PreTrainedModel) -> None:
    """Give the base, and each model inside it, the class that it had."""
    for model in _models_in(base_model):
        model.__class__ = plain_class(model)


def plain_class(base_model: PreTrainedModel) -> type[PreTrainedModel]:
    """Return the class that a base has without an adapter."""
    cls = type(base_model)
    return cls.__bases__[1] if issubclass(cls, Guarded) else cls


def _models_in(base_model: PreTrainedModel) -> list[PreTrainedModel]:
    return [module for module in base_model.modules() if isinstance(module, PreTrainedModel)]


@cache
def _guarded(plain: type[PreTrainedModel]) -> type[PreTrainedModel]:
    names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__, "__doc__": plain.__doc__}
    return type(plain.__name__, (Guarded, plain), names)


def _new(plain: type[PreTrainedModel]) -> PreTrainedModel:
    cls = _guarded(plain)
    return cls.__new__(cls)
