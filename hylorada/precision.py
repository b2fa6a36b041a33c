"""In what precision a training computes, and the scale of the loss that float16 needs.

float16 ends at 6e-8 below and 65,504 above. A loss that is divided by a step's targets has gradients below that, which
would become zero; so the loss is multiplied by a scale (2^16 at first) and the float32 gradients are divided by it.
A step whose scaled gradients overflow is taken again at half the scale: none is lost. bfloat16 needs none of it.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hylorada.errors import HyLoRADAError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_SCALE = 2.0**-14  # what still overflows below it is no matter of scale


class Precision:
    """What one training computes in; mixed_precision as in `TrainingConfig`, base: the type of the base's weights.

    Raises:
        HyLoRADAError: mixed precision of one half type, and a base of the other.
    """

    def __init__(self, mixed_precision: str, base: torch.dtype, device: torch.device) -> None:
        self.device, self.autocast_to = device.type, AUTOCAST.get(mixed_precision)
        if self.autocast_to is not None and base not in (torch.float32, self.autocast_to):
            raise HyLoRADAError(
                f"mixed_precision={mixed_precision!r} is for a float32 base, and this one computes in {base}, as it is "
                "loaded; use mixed_precision='no'."
            )
        is_half = torch.float16 in (base, self.autocast_to)
        self.scaler = torch.amp.GradScaler(self.device, enabled=is_half)

    def autocast(self) -> AbstractContextManager:
        """Return the context to compute the loss in."""
        return torch.autocast(self.device, self.autocast_to or torch.bfloat16, enabled=self.autocast_to is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled, to the parameters'."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the gradients, once all of a step are there, their own size."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Take a step; False, with nothing changed but the scale, where gradients overflowed: take it again.

        Raises:
            HyLoRADAError: they overflow at any scale.
        """
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.scaler.get_scale() < LEAST_SCALE:
            raise HyLoRADAError("gradients overflow float16 at any scale; lower learning_rate, or use bf16 or float32.")
        return self.scaler.get_scale() >= before
