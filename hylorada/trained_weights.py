"""Whole weights of the base that train beside the adapters: embeddings and norms, as in LongLoRA (arXiv:2309.12307).

    W_used = round(M),   M float32, the dtype of the rounding is the base's own;   dL/dM = dL/dW_used

At the start M = W, so nothing changes by a bit. A base in bfloat16 could not learn: steps below its spacing of numbers
round away, in M they add up. The frozen layer stays inside, untouched until `merge`, and comes back as it was by
taking the wrapper out. An output layer tied to the token embedding computes with the embedding's M, and M gets the
gradient of both uses; an untied one stays frozen.

Layers are found by what they are, not by name: GPT-2 calls nothing "embed" or "norm".
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError


class TrainedWeights(nn.Module):
    """A frozen layer that computes with trained float32 masters of its own weights (not those of layers inside it).

    The layer's own forward runs, whatever it does and takes, on the masters rounded to its dtype. masters: those of
    another wrapper, to share them; else they are copied from the layer.

    Raises:
        HyLoRADAError: a weight of the layer is quantised, or it has none.
    """

    def __init__(self, base_layer: nn.Module, masters: dict[str, nn.Parameter] | None = None) -> None:
        super().__init__()
        self.base_layer = base_layer  # before the masters: the first weight found tells the dtype of a whole model
        self.masters = nn.ParameterDict(masters_of(base_layer) if masters is None else masters)

    @property
    def weight(self) -> Tensor:
        """The weight as it is used now, in the dtype of the base: models look at it on the layers they own."""
        return self._used("weight")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the layer inside computes, with the masters in place of its weights."""
        return functional_call(self.base_layer, {name: self._used(name) for name in self.masters}, args, kwargs)

    @torch.no_grad()
    def merge(self) -> None:
        """Write the masters into the layer inside, rounded once; it then computes by itself what the wrapper did."""
        for name, master in self.masters.items():
            self.base_layer.get_parameter(name).copy_(master)

    def _used(self, name: str) -> Tensor:
        dtype = getattr(self.base_layer, name).dtype
        return self.masters[name].to(dtype)


class TrainedNorm(TrainedWeights):
    """A norm of any kind, with trained masters of its scale and shift."""


class TrainedEmbedding(TrainedWeights):
    """An embedding with a trained master of its table, (num_embeddings, d).

    Rows are taken from the master and then rounded, so that the gradients of a token that occurs often add up in
    float32. A subclass with a forward of its own (Gemma scales, OPT shifts) runs it on the whole rounded table.

    Raises:
        HyLoRADAError: the embedding renormalises its rows (max_norm), wants sparse gradients, or is quantised.
    """

    def __init__(self, base_layer: nn.Embedding) -> None:
        if base_layer.max_norm is not None or base_layer.sparse:
            raise HyLoRADAError(
                f"an embedding with max_norm={base_layer.max_norm}, sparse={base_layer.sparse} cannot train here; "
                "use one without, or set train_embeddings=False."
            )
        super().__init__(base_layer)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Map token or position ids (batch, seq) to rows (batch, seq, d), in the dtype of the base."""
        if type(self.base_layer).forward is not nn.Embedding.forward:
            return super().forward(*args, **kwargs)
        return self._rows(*args, **kwargs).to(self.base_layer.weight.dtype)

    def _rows(self, input: Tensor) -> Tensor:
        base, master = self.base_layer, self.masters["weight"]
        return F.embedding(input, master, base.padding_idx, scale_grad_by_freq=base.scale_grad_by_freq)


class TrainedHead(TrainedWeights):
    """The output layer of tied weights: no weight of its own, the very master of the token embedding.

    The product runs in the dtype of its input: given float32, it is a float32 product with the unrounded master. In
    another dtype each call rounds the whole table, which one token at a time feels: merge before long generation.

    Raises:
        HyLoRADAError: the layer is not linear, or its weight is not the embedding's.
    """

    def __init__(self, base_layer: nn.Module, embedding: TrainedEmbedding) -> None:
        if not isinstance(base_layer, nn.Linear) or base_layer.weight is not embedding.base_layer.weight:
            raise HyLoRADAError(
                f"this {type(base_layer).__name__} is no linear layer on the embedding's own weight, so it cannot "
                "train with it; set train_embeddings=False."
            )
        super().__init__(base_layer, {"weight": embedding.masters["weight"]})
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias: who applies the layer himself asks for both."""
        return self.base_layer.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., d) to logits (..., vocab), in the dtype of the hidden states."""
        bias = self.base_layer.bias
        bias = None if bias is None else bias.to(hidden.dtype)
        return F.linear(hidden, self.masters["weight"].to(hidden.dtype), bias)


def wrap_embeddings(base_model: nn.Module) -> dict[str, TrainedWeights]:
    """Return wrappers by full name for all embeddings, and for the output layer where it is tied; none is put in.

    Raises:
        HyLoRADAError: as `find_embeddings`, a layer cannot train, or a weight is used by yet another layer.
    """
    wrappers: dict[str, TrainedWeights] = {name: TrainedEmbedding(e) for name, e in find_embeddings(base_model).items()}
    if is_tied(base_model):
        names = {module: name for name, module in base_model.named_modules()}
        head = base_model.get_output_embeddings()
        wrappers[names[head]] = TrainedHead(head, wrappers[names[base_model.get_input_embeddings()]])
    return _alone(wrappers, base_model)


def wrap_norms(base_model: nn.Module) -> dict[str, TrainedWeights]:
    """Return wrappers by full name for all norms of the decoder; none is put in.

    Raises:
        HyLoRADAError: as `find_norms`, or a weight is used by another layer too.
    """
    return _alone({name: TrainedNorm(norm) for name, norm in find_norms(base_model).items()}, base_model)


def find_embeddings(base_model: nn.Module) -> dict[str, nn.Embedding]:
    """Return the embeddings of the decoder outside its blocks by full name: of tokens, of positions in GPT-2.

    base_model: a causal language model of transformers.

    Raises:
        HyLoRADAError: the token embedding is not among them, or is wrapped already.
    """
    decoder, token_embedding = decoder_of(base_model), base_model.get_input_embeddings()
    inside = {
        module for blocks in decoder.modules() if isinstance(blocks, nn.ModuleList) for module in blocks.modules()
    }
    own = set(decoder.modules()) - inside
    embeddings = {name: m for name, m in base_model.named_modules() if isinstance(m, nn.Embedding) and m in own}
    if token_embedding not in embeddings.values():
        raise HyLoRADAError(
            f"no token embedding was found to train: that of {type(base_model).__name__} is a "
            f"{type(token_embedding).__name__}; use a fresh base model, or set train_embeddings=False."
        )
    return embeddings


def find_norms(base_model: nn.Module) -> dict[str, nn.Module]:
    """Return the norms of the decoder by full name: classes that end in "norm", with weights and no layers inside.

    Raises:
        HyLoRADAError: there is none, or they are wrapped already.
    """
    own = set(decoder_of(base_model).modules())
    norms = {n: m for n, m in base_model.named_modules() if m in own and _is_norm(m)}
    if not norms or any(name.endswith(".base_layer") for name in norms):
        raise HyLoRADAError(
            f"no norm was found to train in this {type(base_model).__name__}; use a fresh base model, "
            "or set train_norms=False."
        )
    return norms


def is_tied(base_model: nn.Module) -> bool:
    """Tell whether the output layer's weight is the token embedding's own; wrapped or not, the base answers."""
    layers = base_model.get_output_embeddings(), base_model.get_input_embeddings()
    head, embedding = (getattr(getattr(layer, "base_layer", layer), "weight", None) for layer in layers)
    return head is not None and head is embedding


def masters_of(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return trained float32 copies of the layer's own weights, not of those of layers inside it.

    Raises:
        HyLoRADAError: a weight is quantised, or there is none.
    """
    frozen = dict(layer.named_parameters(recurse=False))
    if not frozen or not all(weight.is_floating_point() for weight in frozen.values()):
        held = ", ".join(f"{name} of {weight.dtype}" for name, weight in frozen.items()) or "no weight"
        raise HyLoRADAError(f"a {type(layer).__name__} with {held} cannot train; load the model unquantised.")
    copies = {name: weight.detach().to(torch.float32, copy=True) for name, weight in frozen.items()}
    return {name: nn.Parameter(copy) for name, copy in copies.items()}


def _is_norm(module: nn.Module) -> bool:
    named = type(module).__name__.lower().endswith("norm")
    return named and not any(module.children()) and any(p.is_floating_point() for p in module.parameters())


def _alone(wrappers: dict[str, TrainedWeights], base_model: nn.Module) -> dict[str, TrainedWeights]:
    """Return the wrappers, once each weight of the base is known to have one master, or none, under all its names."""
    uses: dict[nn.Parameter, dict[str, nn.Parameter | None]] = {}
    for full, weight in base_model.named_parameters(remove_duplicate=False):
        owner, _, own = full.rpartition(".")
        masters = wrappers[owner].masters if owner in wrappers else {}
        uses.setdefault(weight, {})[full] = masters[own] if own in masters else None
    for names in uses.values():
        if len(set(names.values())) > 1:
            raise HyLoRADAError(
                f"{' and '.join(names)} are one weight, but could not train as one; use another base model, "
                "or set train_embeddings=False and train_norms=False."
            )
    return wrappers
