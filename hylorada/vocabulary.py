"""A linear output layer, a block of its vocabulary at a time: logits and float32 weights are never whole in memory.

    nll_t = m + log(sum of exp(W_b h_t - m) over the blocks b) - (W h_t)[target_t]

kept as one running maximum, one running sum and, for a gradient, one running mean row of W, as attention kernels keep
theirs (arXiv:2205.14135). A row of logits is read once and forgotten, whatever the vocabulary.

On a processor, a layer and hidden states in bfloat16 are multiplied as float32: they hold no more than bfloat16 does,
so that their products may be taken by bfloat16 units, which add up in float32. Logits lose nothing by that, and it is
fast with such units and without them. The weights of the mean row are rounded to bfloat16 by the units, as they are
wherever a bfloat16 model multiplies.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hylorada.errors import HyLoRADAError

BLOCK = 4096  # words at a time: a block of float32 weights stays in a processor's cache


def is_plain(head: nn.Module) -> bool:
    """Whether an output layer is a product with its weight and nothing more."""
    return type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks


@torch.no_grad()
def float32_nll(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return -log softmax(head(hidden))[target] with float32 products, (N,) float32; hidden (N, d), targets (N,).

    No gradient is taken.

    Raises:
        HyLoRADAError: a target is no word of the layer (told on a processor; elsewhere its NLL is NaN).
    """
    picked = _nothing_picked(hidden, head, targets)
    together = torch.full((len(targets),), -torch.inf, device=hidden.device)
    with _float32_products(hidden, head):
        for first, weight, bias in _blocks(head, torch.float32):
            logits = F.linear(hidden.float(), weight, bias)  # (N, words of the block)
            _pick(picked, logits, targets, first)
            together = torch.logaddexp(together, logits.logsumexp(dim=1))
    return together - picked


@torch.no_grad()
def nll_and_slope(hidden: Tensor, head: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the NLL of each target, (N,) float32, and its derivative to hidden, (N, d) in its dtype, in one pass.

    hidden: (N, d); its products with the weight run in the dtype of both, in float32 on a processor with both in
    bfloat16; the sums are float32. The derivative is softmax(logits) W - W[target]. Errors as `float32_nll`.
    """
    picked = _nothing_picked(hidden, head, targets)
    largest = torch.full((len(targets), 1), -torch.inf, device=hidden.device)
    total, mean = torch.zeros_like(largest), torch.zeros(hidden.shape, device=hidden.device)
    exact = _both_half(hidden, head)
    dtype = torch.float32 if exact else hidden.dtype
    rows = hidden.to(dtype)
    with _float32_products(hidden, head) if exact else nullcontext():
        for first, weight, bias in _blocks(head, dtype if exact else None):
            logits = F.linear(rows, weight, bias).float()  # (N, words of the block)
            _pick(picked, logits, targets, first)
            now = torch.maximum(largest, logits.amax(dim=1, keepdim=True))
            fading, shares = (largest - now).exp_(), logits.sub_(now).exp_()
            total.mul_(fading).add_(shares.sum(dim=1, keepdim=True))
            mean.mul_(fading).add_(shares.to(dtype) @ weight)
            largest = now
    nll = (largest + total.log())[:, 0] - picked
    return nll, mean.div_(total).sub_(head.weight[targets]).to(hidden.dtype)


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Let float32 products on a processor round their inputs to bfloat16, for a while; the sums stay float32.

    The setting is the process's: it is put back whatever happens.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _both_half(hidden: Tensor, head: nn.Linear) -> bool:
    return hidden.device.type == "cpu" and hidden.dtype == head.weight.dtype == torch.bfloat16


@contextmanager
def _float32_products(hidden: Tensor, head: nn.Linear) -> Iterator[None]:
    """Multiply in float32 whatever autocast says, by bfloat16 units where that is exact."""
    with torch.autocast(hidden.device.type, enabled=False):
        with bfloat16_products() if _both_half(hidden, head) else nullcontext():
            yield


def _blocks(head: nn.Linear, dtype: torch.dtype | None) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield the first word, the rows of the weight and the biases of each block, in a dtype, None for their own."""
    for first in range(0, head.weight.shape[0], BLOCK):
        weight = head.weight[first : first + BLOCK].to(dtype)
        yield first, weight, None if head.bias is None else head.bias[first : first + BLOCK].to(dtype)


def _nothing_picked(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    words = head.weight.shape[0]
    if targets.device.type == "cpu" and not 0 <= targets.min() <= targets.max() < words:  # elsewhere it would wait
        raise HyLoRADAError(
            f"targets of {int(targets.min())} to {int(targets.max())} do not fit an output layer of {words} words; use "
            "the tokenizer that belongs to the model"
        )
    return torch.full(targets.shape, torch.nan, device=hidden.device)


def _pick(picked: Tensor, logits: Tensor, targets: Tensor, first: int) -> None:
    """Note the logits of those targets that lie in a block."""
    here = ((targets >= first) & (targets < first + logits.shape[1])).nonzero().squeeze(1)
    picked[here] = logits[here, targets[here] - first].float()
