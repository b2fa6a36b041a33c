"""What a decoder call tells the parts that act on tokens: their positions, which are padding, and what came before."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from hylorada.errors import HyLoRADAError

STATES = ("cache_params", "state")  # of Mamba and RWKV: they do not tell how many tokens they saw


class RunningPass:
    """The padding mask and the cache of the forward pass that runs, for parts that look back over the sequence.

    Earlier hidden states are kept in the pass's own cache, as layers after the model's, so that what moves the cache
    (beam search, cropping) moves them too.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self.config = config.get_text_config()
        self.mask: Tensor | None = None
        self.cache: DynamicCache | None = None
        self.past = 0

    def begin(self, kwargs: dict[str, Any], training: bool) -> None:
        """Note mask and cache of a decoder call; makes the cache that the decoder would make, where it would."""
        use_cache = self.config.use_cache if kwargs.get("use_cache") is None else kwargs["use_cache"]
        if use_cache and kwargs.get("past_key_values") is None and not training:
            kwargs["past_key_values"] = DynamicCache(config=self.config)
        self.mask, self.cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        self.past = 0 if self.cache is None else self.cache.get_seq_length()

    def end(self) -> None:
        """Let go of what belongs to the pass; a copy of the model is not to hold it."""
        self.mask = self.cache = None
        self.past = 0

    def look_back(self, hidden: Tensor, slot: int) -> tuple[Tensor, Tensor]:
        """Return all states of the sequence up to `hidden` (batch, seq, d), that last, and which of them are real.

        slot: counts the parts that look back, from 0; each keeps its own states. Returns (batch, past + seq, d) and
        (batch, past + seq).

        Raises:
            HyLoRADAError: the cache cannot keep the states, or was filled without this part, or the mask is no plain
                (batch, seq) one.
        """
        seen = hidden if self.cache is None else self._kept(hidden, self.config.num_hidden_layers + slot)
        return seen, self.real(seen)

    def real(self, seen: Tensor) -> Tensor:
        """Return (batch, seq) that is False where `seen` (batch, seq, d) is padding."""
        if self.mask is None:
            return torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        shape = tuple(self.mask.shape) if isinstance(self.mask, Tensor) else type(self.mask).__name__
        if shape != (len(seen), seen.shape[1]):
            raise HyLoRADAError(f"landmarks that pool need an attention mask of (batch, {seen.shape[1]}), not {shape}.")
        return self.mask.bool()

    def _kept(self, hidden: Tensor, index: int) -> Tensor:
        if not isinstance(self.cache, DynamicCache):
            raise HyLoRADAError(f"landmarks that pool need a DynamicCache, not a {type(self.cache).__name__}.")
        while len(self.cache.layers) <= index:
            self.cache.layers.append(DynamicLayer())
        kept, _ = self.cache.layers[index].update(hidden[:, None], hidden[:, None, :, :0])
        if kept.shape[2] != self.past + hidden.shape[1]:
            raise HyLoRADAError("this cache was filled without the landmarks; begin the sequence anew.")
        return kept[:, 0]


def is_next_token(kwargs: dict[str, Any]) -> bool:
    """Tell whether a decoder call brings one token a row, and goes on from a cache."""
    given = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
    length = getattr(kwargs.get("past_key_values"), "get_seq_length", None)  # of a cache that counts tokens
    return given is not None and given.shape[1] == 1 and length is not None and bool(length() > 0)


def positions_of(kwargs: dict[str, Any]) -> Tensor | None:
    """Return ids (batch or 1, seq) of the tokens of a decoder call, or None where its mask says nothing of them.

    Given ids are taken; else real tokens are counted; without a mask they go on after what the cache holds.

    Raises:
        HyLoRADAError: there are no tokens, or the mask is of fewer.
    """
    given = tokens_of(kwargs)
    if (ids := kwargs.get("position_ids")) is not None:
        return ids if isinstance(ids, Tensor) and ids.ndim == 2 else None
    if (mask := kwargs.get("attention_mask")) is not None:
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] < given.shape[1]:
            raise HyLoRADAError(
                f"attention_mask is of shape {tuple(mask.shape)}, and {given.shape[1]} tokens are given; it counts "
                "them all, and those in the cache."
            )
        return positions_from_mask(mask, given.shape[1])
    if (state := _state_in(kwargs)) is not None:
        return _after_state(state, given)
    cache = kwargs.get("past_key_values")
    past = 0 if cache is None else cache.get_seq_length()
    return torch.arange(given.shape[1], device=given.device)[None] + past


def whole_positions(mask: Any, ids: Tensor, length: int) -> Tensor | None:
    """Return the ids (batch or 1, length) of all tokens that a decoder call sees, or None where they are not known.

    mask: that of the call. ids: those of its own tokens, the last ones. What the cache holds was counted in the same
    way, unless these ids say otherwise.
    """
    if mask is None:
        whole = torch.arange(length, device=ids.device)[None]
    elif (whole := positions_from_mask(mask, length)) is None or mask.shape[1] != length:
        return None
    rows = max(len(whole), len(ids))
    known = torch.equal(whole[:, -ids.shape[1] :].expand(rows, -1), ids.expand(rows, -1))
    return whole if known else None


def note_positions(outputs: Any, ids: Tensor | None) -> None:
    """Note on the state that a decoder returns, if it counts no tokens, which ids (batch or 1, seq) went into it."""
    state = _state_in(outputs) if isinstance(outputs, Mapping) else None
    if state is not None and ids is not None:
        state.hylorada_next = ids[:, -1:] + 1


def _state_in(call: Mapping[str, Any]) -> Any:
    """Return the state that a model without `past_key_values` goes on from, of a list its first tensor, or None."""
    given = next((call[name] for name in STATES if call.get(name) is not None), None)
    return given[0] if isinstance(given, list | tuple) else given


def _after_state(state: Any, given: Tensor) -> Tensor | None:
    """Return ids (batch or 1, seq) of tokens that follow a state, None where nobody noted what went into it."""
    begins = isinstance(state, DynamicCache) and not state.has_previous_state()
    first = given.new_zeros(1, 1, dtype=torch.long) if begins else getattr(state, "hylorada_next", None)
    return None if first is None else first + torch.arange(given.shape[1], device=given.device)[None]


def tokens_of(kwargs: dict[str, Any]) -> Tensor:
    """Return what a decoder call brings: ids (batch, seq) or embeddings (batch, seq, d).

    Raises:
        HyLoRADAError: it brings nothing of the kind.
    """
    name = "inputs_embeds" if kwargs.get("input_ids") is None else "input_ids"
    given = kwargs.get(name)
    if not isinstance(given, Tensor) or given.ndim < 2:
        told = f"of shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        told = "neither input_ids nor inputs_embeds is given" if given is None else f"{name} is {told}"
        raise HyLoRADAError(f"{told}; give one of them, a tensor of (batch, seq) ids or (batch, seq, d) embeddings.")
    return given


def positions_from_mask(mask: Any, length: int) -> Tensor | None:
    """Count real tokens only: ids (batch, length) of the last `length` tokens under a (batch, past + length) mask.

    Padding on the left gets 0, on the right the last real id. Any other mask says nothing of positions: None.
    """
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return None
    return (mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]
