"""Texts that lie one behind the other in a row, told by position ids that begin anew: kept apart, or refused.

Without an attention mask transformers reads such ids as borders that attention does not cross, and the causal order
keeps padding on the right out of sight. So a packed batch loses its mask, and the first token of each text its target.
"""

import torch
from torch import Tensor

from hylorada.config import POOLED_DESIGNS
from hylorada.decoder import decoder_of, takes_positions
from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED
from hylorada.model import HyLoRADAModel


def keep_apart(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch as a model takes it: unchanged where each row is one text, else packed and without a mask.

    batch: input_ids, attention_mask, labels and perhaps position_ids, (batch, seq) each; labels are not shifted.

    Raises:
        HyLoRADAError: positions of packed texts that do not count up by one within a text.
    """
    if "position_ids" not in batch:
        return batch
    real = batch["attention_mask"].bool()
    positions = batch["position_ids"].masked_fill(~real, 0)
    advance = positions[:, 1:] - positions[:, :-1]  # (batch, seq-1)
    together = real[:, 1:] & real[:, :-1]
    if not begins_anew(positions, real).any():
        return batch
    after_padding = real[:, 1:] & ~real[:, :-1]
    if (together & (advance > 1)).any() or (after_padding & (positions[:, 1:] != 0)).any():
        raise HyLoRADAError(
            "position_ids of packed texts leave places out, or a text goes on after padding, so its beginning cannot "
            "be told; count 0, 1, 2, ... within each text."
        )
    labels = batch["labels"].clone()
    labels[:, 1:][~together | (advance != 1)] = IGNORED
    return {"input_ids": batch["input_ids"], "labels": labels, "position_ids": positions}


def begins_anew(positions: Tensor, mask: Tensor) -> Tensor:
    """Tell where a text follows on another one, (..., seq-1), for position ids and mask (..., seq)."""
    real = mask.bool()
    return (positions[..., 1:] <= positions[..., :-1]) & real[..., 1:] & real[..., :-1]


def is_packed(batch: dict[str, Tensor]) -> bool:
    """Tell whether `keep_apart` made this batch of packed texts."""
    return "position_ids" in batch and "attention_mask" not in batch


def check_keeps_apart(model: HyLoRADAModel) -> None:
    """Raise HyLoRADAError where a packed text moves another one's states; asked of the model itself, in four tokens."""
    config = model.hylorada_config
    if config.s2_attn_enabled:
        raise HyLoRADAError("S²-Attn cuts a row into groups of its own; give each text a row, or turn it off.")
    if config.landmark_enabled and config.landmark_design in POOLED_DESIGNS:
        raise HyLoRADAError(
            f"landmark_design={config.landmark_design!r} pools over a whole row, and texts are packed in rows here; "
            "give each text a row, or use another design."
        )
    decoder, device = decoder_of(model.base_model), model.base_model.get_input_embeddings().weight.device
    if not takes_positions(decoder):
        raise HyLoRADAError(
            f"a {type(model.base_model).__name__} takes no position_ids, which tell packed texts apart; give each text "
            "a row of its own."
        )
    first, other = torch.tensor([[[0, 1, 2, 3]], [[2, 0, 2, 3]]], device=device)  # the first of two texts differs
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            places = torch.tensor([[0, 1, 0, 1]], device=device)
            states = [decoder(input_ids=ids, position_ids=places, use_cache=False)[0][:, 2:] for ids in (first, other)]
    finally:
        model.train(was_training)
    if not torch.allclose(*(state.float() for state in states), rtol=1e-3, atol=1e-3):
        raise HyLoRADAError(
            f"a {type(model.base_model).__name__} lets a packed text see the one before it, whatever its position_ids; "
            "give each text a row of its own."
        )
