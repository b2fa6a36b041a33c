"""What the state of an adapted model allows: an adapter is read, saved and trained only while it is on.

The state is "on", or "disabled" for the length of a block, or "merged" or "unloaded" for good.
"""

from collections.abc import Collection, Sequence

from torch import nn

from hylorada.errors import HyLoRADAError

OFF = {  # what to do where the adapter is wanted
    "disabled": "do this after the block that disables it",
    "merged": "do this before that, or with base_model, which is a plain model now",
    "unloaded": "do this before that, or with base_model, which is a plain model now",
}


def check_on(state: str) -> None:
    """Hold a state to the one in which the adapter is in the model (HyLoRADAError where it is off)."""
    if state != "on":
        raise HyLoRADAError(f"the adapter is {state}, so its tensors are not in the model; {OFF[state]}.")


def check_frozen_base(model: nn.Module, trained: Collection[str]) -> None:
    """Hold a model to training what is of its adapter, by name, and nothing else (HyLoRADAError naming what does)."""
    others = [name for name, p in model.named_parameters() if p.requires_grad and name not in trained]
    if others:
        raise HyLoRADAError(
            f"{others[0]} trains and is no part of the adapter, so it would not be saved; call "
            "model.requires_grad_(True), which lets the adapter alone train, or set train_embeddings, train_norms "
            "or lora_target_modules."
        )


def check_some_train(parameters: Sequence[nn.Parameter]) -> None:
    """Hold what is to be trained to being something (HyLoRADAError where all of the adapter is frozen)."""
    if not parameters:
        raise HyLoRADAError("every part of this adapter is frozen; call model.requires_grad_(True).")
