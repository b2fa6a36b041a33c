"""The loss over a large vocabulary, a few tokens at a time, so that the logits are never whole in memory.

nll_t = logsumexp(W h_t) - (W h_t)[target_t] for the hidden state h_t (d) under the output layer W (vocab, d). Whole,
the logits of 8,192 tokens over 128 K words take gigabytes several times over; here at most `chunk_tokens` rows of them
exist at once, forward and backward, and of a plain output layer only a block of their words (`vocabulary.py`). Under a
frozen output layer (the usual case of an adapter) the gradient to h_t is taken while the logits are at hand, as in
Liger-Kernel (arXiv:2410.10989), so nothing is computed twice; under a trained one each chunk is checkpointed.

The decoder and what follows it are called one after the other; of a model that caps or scales its logits that is more
than its output layer (`own_head.py`).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from hylorada.decoder import decoder_of, takes_positions
from hylorada.errors import HyLoRADAError
from hylorada.own_head import head_of
from hylorada.usable_base import require_numbers
from hylorada.vocabulary import float32_nll, is_plain, nll_and_slope

IGNORED = -100  # a target that is not scored, as in torch and transformers


def causal_lm_loss(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    position_ids: Tensor | None = None,
    target_count: int | Tensor | None = None,
    chunk_tokens: int = 512,
) -> Tensor:
    """Mean NLL in nats of the targets, as a scalar to train on; arguments as `causal_lm_nll`.

    `target_count` divides instead of this batch's own count of targets: with the count of the whole step, the losses
    of gradient accumulation add up to the mean over all its tokens.

    Raises HyLoRADAError if the batch has no target and no `target_count` is given.
    """
    targets = shifted_targets(input_ids, attention_mask, labels)
    count = (targets != IGNORED).sum() if target_count is None else target_count
    if target_count is None and not count:
        raise HyLoRADAError(
            f"a batch of shape {tuple(input_ids.shape)} has no target token: every label is masked, or the texts are "
            "one token long; drop such batches, or give the target_count of the whole step"
        )
    return causal_lm_nll(model, input_ids, attention_mask, labels, position_ids, chunk_tokens).sum() / count


def causal_lm_nll(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    position_ids: Tensor | None = None,
    chunk_tokens: int = 512,
    fp32_logits: bool = False,
) -> Tensor:
    """NLL in nats of each next token, (batch, seq-1) float32, zero where the target is ignored.

    model: a Hugging Face causal LM or a HyLoRADAModel. input_ids, attention_mask, labels, position_ids: (batch, seq);
    labels are shifted here and -100 is ignored. Without labels every real token with a real token before it is a
    target; with them the labels decide alone, padding included. Left-padded rows count positions from their first
    real token. fp32_logits: multiply in float32 whatever the model's type; bfloat16 logits bias a perplexity upwards.

    Raises HyLoRADAError if a token's logits come from more than the decoder's output at that token, or position_ids are
    given to a model that takes none.
    """
    lm = causal_lm(model)
    decoder, head = decoder_of(lm), head_of(lm)
    if position_ids is not None and not takes_positions(decoder):
        raise HyLoRADAError(f"a {type(decoder).__name__} takes no position_ids from 0: leave them out")
    left_padded = attention_mask is not None and not attention_mask[:, 0].all()
    if position_ids is None and left_padded and takes_positions(decoder):
        position_ids = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
    given = {} if position_ids is None else {"position_ids": position_ids}
    output = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **given)
    hidden = output[0][:, :-1]  # (batch, seq-1, d): the last token has no target
    targets = shifted_targets(input_ids, attention_mask, labels)
    nll = chunked_nll(hidden.flatten(0, 1), head, targets.flatten(), chunk_tokens, fp32_logits)
    return nll.view(targets.shape)


def chunked_nll(
    hidden: Tensor, head: nn.Module, targets: Tensor, chunk_tokens: int = 512, fp32_logits: bool = False
) -> Tensor:
    """NLL in nats of targets (N,) under the logits head(hidden), (N,) float32, at most `chunk_tokens` rows at a time.

    hidden: (N, d). head: the output layer, acting on each row alone. A target of -100 costs nothing and scores zero.
    """
    if chunk_tokens < 1:
        raise HyLoRADAError(f"chunk_tokens={chunk_tokens} is not possible: give 1 or more tokens a chunk")
    scored = (targets != IGNORED).nonzero().squeeze(1)
    nll = _nll_of_all(hidden.index_select(0, scored), targets[scored], head, chunk_tokens, fp32_logits)
    return torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device).index_copy(0, scored, nll)


def shifted_targets(input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor | None) -> Tensor:
    """What each token but the last should predict, (batch, seq-1), -100 where nothing is asked."""
    if labels is not None:
        return labels[:, 1:]
    if attention_mask is None:
        return input_ids[:, 1:]
    real = attention_mask.bool()
    return input_ids[:, 1:].masked_fill(~(real[:, 1:] & real[:, :-1]), IGNORED)


def real_targets(labels: Tensor, mask: Tensor) -> Tensor:
    """Return labels (batch, seq), not shifted, with -100 wherever the target or its context is padding."""
    real = mask.bool()
    context = torch.cat([real[:, :1], real[:, :-1]], dim=1)
    return labels.masked_fill(~(real & context), IGNORED)


def causal_lm(model: nn.Module) -> nn.Module:
    """The Hugging Face causal LM: the one inside a HyLoRADAModel (its adapters are injected in place), or `model`."""
    lm = model.base_model if hasattr(model, "hylorada_config") else model
    if not (hasattr(lm, "get_decoder") and hasattr(lm, "get_output_embeddings") and hasattr(lm, "config")):
        raise HyLoRADAError(
            f"{type(model).__name__} is neither a Hugging Face causal LM nor a HyLoRADAModel: pass one of these "
            "(of a DistributedDataParallel or a PEFT model, the module inside)"
        )
    require_numbers(lm)
    return lm


def _nll_of_all(hidden: Tensor, targets: Tensor, head: nn.Module, chunk_tokens: int, fp32_logits: bool) -> Tensor:
    if not len(targets):
        return hidden.sum(dim=1).float()  # no rows, yet part of the graph
    trains, head_trains = torch.is_grad_enabled(), any(p.requires_grad for p in head.parameters())
    if fp32_logits and is_plain(head) and not (trains and (head_trains or hidden.requires_grad)):
        nll_of = partial(float32_nll, head=head)
    else:
        nll_of = partial(_nll_under, _in_float32(head) if fp32_logits else head)
    if trains and hidden.requires_grad and not head_trains:
        both_of = (
            partial(nll_and_slope, head=head) if is_plain(head) and not fp32_logits else partial(_by_autograd, nll_of)
        )
        return _FrozenHeadNLL.apply(hidden, targets, both_of, chunk_tokens)
    chunks = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    if trains and head_trains:
        return torch.cat([checkpoint(nll_of, rows, targets=wanted, use_reentrant=False) for rows, wanted in chunks])
    return torch.cat([nll_of(rows, targets=wanted) for rows, wanted in chunks])


def _nll_under(logits_of: Callable[[Tensor], Tensor], rows: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits_of(rows).float(), targets, reduction="none")


def _by_autograd(nll_of: Callable[..., Tensor], rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the NLL of rows (N, d), and its derivative to them; no logits outlive the call."""
    with torch.enable_grad():
        rows = rows.detach().requires_grad_()
        nll = nll_of(rows, targets=targets)
        (slope,) = torch.autograd.grad(nll.sum(), rows)
    return nll.detach(), slope


class _FrozenHeadNLL(torch.autograd.Function):
    """The gradient of row t's NLL touches row t alone, so it can be kept (N, d) and scaled when backward comes."""

    @staticmethod
    def forward(ctx, hidden: Tensor, targets: Tensor, both_of: Callable[..., tuple], chunk_tokens: int) -> Tensor:
        chunks = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        nll, slopes = zip(*(both_of(rows, targets=wanted) for rows, wanted in chunks), strict=True)
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(nll)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple:
        (slopes,) = ctx.saved_tensors
        return (slopes * upstream.unsqueeze(1)).to(slopes.dtype), None, None, None


def _in_float32(head: nn.Module) -> Callable[[Tensor], Tensor]:
    """`head` with its weights and its product in float32; they are cast once, not once a chunk."""
    weights = {name: weight.float() for name, weight in head.named_parameters()}

    def product(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # autocast would round the product again
            return functional_call(head, weights, (hidden.float(),))

    return product
