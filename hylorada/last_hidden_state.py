"""The decoder's last hidden state, handed on as `last_hidden_state` of what the causal language model returns.

TRL's trainers take `.base_model` for the decoder: they call it, read this attribute, and apply the output layer to it
themselves. Here `.base_model` has its head, so its output carries both.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hylorada.decoder import decoder_of


class LastHiddenState:
    """Holds the decoder's output from its return until the model around it returns, and no longer."""

    def __init__(self) -> None:
        self.waits = False
        self.hidden: Tensor | None = None

    def attach(self, base_model: PreTrainedModel) -> list[RemovableHandle]:
        """Hook a causal language model, whose outputs then have one attribute more; their keys stay as they are."""
        return [
            base_model.register_forward_pre_hook(self._begin),
            decoder_of(base_model).register_forward_hook(self._keep),
            base_model.register_forward_hook(self._hand_on, always_call=True),
        ]

    def _begin(self, model: nn.Module, args: tuple) -> None:
        self.waits = not torch.compiler.is_compiling()  # a graph has no use for it

    def _keep(self, decoder: nn.Module, args: tuple, output: Any) -> None:
        if self.waits:  # a decoder that is called by itself has returned it already
            self.hidden = output[0]

    def _hand_on(self, model: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(output, ModelOutput) and self.hidden is not None:
            output.last_hidden_state = self.hidden
        self.waits, self.hidden = False, None
