"""How fast a machine multiplies matrices at its best, and how much of that a call makes use of."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from hylorada.bench.competitors import Setting
from hylorada.bench.timing import Seconds, ratio

MACHINE = "the machine's own"
REPEATED = 20  # products of one measurement


class Products:
    """Matrix products alone, of the sizes of the model's feed-forward block, in its dtype."""

    def __init__(self, setting: Setting) -> None:
        config = AutoConfig.from_pretrained(setting.model, trust_remote_code=False).get_text_config()
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size  # GPT-2 names none
        dtype, device = getattr(torch, setting.dtype), setting.device
        self.x = torch.randn(setting.tokens, config.hidden_size, dtype=dtype, device=device)
        self.weight = torch.randn(inner, config.hidden_size, dtype=dtype, device=device)
        self.operations = 2 * math.prod((setting.tokens, config.hidden_size, inner)) * REPEATED

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(REPEATED):
            F.linear(self.x, self.weight)


def operations(call: Callable[[], object]) -> int:
    """Return how many multiplications and additions a call's matrix products take, attention's included."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def share_of_machine(seconds: Seconds, name: str, times: float) -> dict[str, float]:
    """Return the share of a call's time in which MACHINE, whose time stands beside, would do `times` its own work."""
    return {level: times * value for level, value in ratio(seconds, MACHINE, name).items()}
