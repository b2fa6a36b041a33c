"""From hidden states to logits, as each model does it: its output layer alone, or all that it puts around that.

Some models scale or cap their logits (Granite, Gemma 2, Cohere), and no field of a configuration says so for all. So
each model is asked once. Where the output layer is not all, the model itself is run with a decoder that stands still
and hands out the given hidden states: what it makes of them are its own logits, for as many tokens as are wanted.
"""

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError

_plain: weakref.WeakSet = weakref.WeakSet()  # models whose output layer is all, and
_own: weakref.WeakSet = weakref.WeakSet()  # models that do more, token by token


def head_of(lm: nn.Module) -> nn.Module:
    """Return the module that maps hidden states (N, d), each alone, to the logits of a causal LM, (N, vocab).

    Given float32 weights (of its named parameters) and hidden states, all of it computes in float32.

    Raises:
        HyLoRADAError: the logits of a token are not made of the decoder's output at that token alone.
    """
    head = lm.get_output_embeddings()
    if head is None or getattr(lm.config, "is_encoder_decoder", False):
        raise HyLoRADAError(f"{type(lm).__name__} is no decoder with an output layer: give a causal language model")
    if lm not in _plain and lm not in _own:
        (_plain if _is_all(head, lm) else _own).add(lm)
    if lm in _plain:
        return head
    return OwnHead(lm)


class OwnHead(nn.Module):
    """All that a model does with its decoder's output; its parameters are those outside the decoder."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        decoder = decoder_of(lm)
        self.outside = nn.ModuleList(child for child in lm.children() if decoder not in child.modules())
        self._whole = (lm, decoder)  # in a tuple, past nn.Module: they are not parts of the head

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (N, d) to logits (N, vocab)."""
        lm, decoder = self._whole
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with _standing_still(decoder, hidden[None]):  # past the hooks of the model: no pass begins
            return lm.forward(input_ids=ids, use_cache=False, return_dict=True).logits[0]


class _Decoded:
    """What a decoder hands out, as models read it: by index or by name, with nothing but hidden states in it."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


@contextmanager
def _standing_still(decoder: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Let a decoder answer with `hidden` (1, N, d), and nothing that is hooked to it run."""
    still = {"forward": lambda *args, **kwargs: _Decoded(hidden)}
    still |= {"_forward_pre_hooks": OrderedDict(), "_forward_hooks": OrderedDict()}
    before = {name: vars(decoder)[name] for name in still if name in vars(decoder)}
    vars(decoder).update(still)
    try:
        yield
    finally:
        del vars(decoder)["forward"]
        vars(decoder).update(before)


def _is_all(head: nn.Module, lm: nn.Module) -> bool:
    """Tell whether logits == head(decoder(ids)), asked of the model itself (HyLoRADAError where neither head serves).

    The output layer is made to answer with a ramp from -64 to 64, large enough for any cap or scale to show, and the
    model must hand it on untouched; what the layer was given must be what the decoder returned.
    """
    seen: dict[str, Tensor] = {}

    def answer(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        ramp = torch.linspace(-64, 64, output.shape[-1], dtype=output.dtype, device=output.device)
        seen.update(given=args[0], ramp=ramp.expand(output.shape))
        return seen["ramp"].clone()  # a model may change its logits in place

    device = lm.get_input_embeddings().weight.device
    accelerators = [] if device.type == "cpu" else [device]
    ids = torch.arange(2, device=device)[None]
    watch = decoder_of(lm).register_forward_hook(lambda module, args, output: seen.update(decoded=output[0]))
    try:  # dropout in these forwards must not move the caller's random numbers
        with torch.no_grad(), torch.random.fork_rng(accelerators, device_type=device.type):
            put = head.register_forward_hook(answer)
            try:
                logits = lm(input_ids=ids, use_cache=False).logits
            finally:
                put.remove()
            handed_on = "ramp" in seen and torch.equal(logits.float(), seen["ramp"].float())
            if handed_on and torch.equal(seen["decoded"].to(seen["given"].dtype), seen["given"]):
                return True
            logits = lm(input_ids=ids, use_cache=False).logits[0]
            again = torch.cat([OwnHead(lm)(row[None]) for row in seen["decoded"][0]])  # each token alone
    finally:
        watch.remove()
    if not torch.allclose(again.float(), logits.float(), rtol=1e-2, atol=1e-2 * logits.abs().max().item()):
        raise HyLoRADAError(
            f"the logits of a {type(lm).__name__} at a token come from more than its decoder's output there, so a loss "
            "in chunks would be wrong; use another model, such as GPT-2 or Llama"
        )
    return False
