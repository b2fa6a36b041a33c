"""Statements about complexity: operations and numbers are counted on small models, before and after a size doubles.

O(g) says that a count grows no faster than g. Each size is doubled where it is large against the others, so that what
it multiplies dominates; the count may then grow by 2 to the highest power of that size in g, and a tenth more, for what
is not yet small.
Operations are those that torch's counter sees in products of matrices, two for a multiplication and an addition.
The documents count attention apart (MT-154), and leave its n n d L out where they count a step: so does their check,
which says what the whole step does beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from hylorada.config import HyLoRADAConfig
from hylorada.landmarks import LandmarkLoRA
from hylorada.lora import HyLoRADAUnified, PositionBias
from hylorada.methods import method_config
from hylorada.model import HyLoRADAModel
from hylorada.s2_attention import grouped_attention
from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, Finding

SIZES = dict(n=32, d=16, L=1, r=4, g=16, K=8)  # tokens, width, layers, rank, group, landmarks
LARGE = dict(n=512, d=256, L=4, r=8, g=128, K=512)  # from where a size is doubled
ROOM = 1.1
SMALL_VOCABULARY = 8
Sizes = dict[str, int]


@dataclass(frozen=True)
class Growth:
    """words: what is counted. count: sizes -> number. powers: the highest power of each size that is doubled.

    whole: the same with attention's products, whose growth with n is told and decides nothing.
    """

    words: str
    count: Callable[[Sizes], float]
    powers: tuple[tuple[str, int], ...]
    whole: Callable[[Sizes], float] | None = None

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say how the count grew, and hold that against the statement."""
        grown = _grown(self.count, self.powers)
        said = [f"times {by:.2f} as {name} doubles, where {2**power} is allowed" for name, power, by in grown]
        if self.whole is not None:
            ((_, _, by),) = _grown(self.whole, (("n", 2),))
            from_n, width = LARGE["n"], SIZES["d"]
            said.append(f"with attention's n n d L, which the statement leaves out, times {by:.2f} as n doubles")
            said[-1] += f" from {from_n} at width {width}"
        holds = all(by <= ROOM * 2**power for _, power, by in grown)
        return Finding(
            MATCH if holds else MISMATCH, f"counted, {self.words}: {', '.join(said)}; published {claim.shown}"
        )


@cache
def _grown(count: Callable[[Sizes], float], powers: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int, float], ...]:
    """Double each size in turn; return it, its power and the growth of the count."""
    found = []
    for name, power in powers:
        before, after = ({**SIZES, "n": max(SIZES["n"], 4 * LARGE["g"] * (name == "g"))} for _ in range(2))
        before[name], after[name] = LARGE[name], 2 * LARGE[name]
        found.append((name, power, count(after) / count(before)))
    return tuple(found)


def operations(run: Callable[[], Any], attention: bool = True) -> float:
    """Return the operations of the matrix products in a call, without attention's own on request."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    return float(sum(n for op, n in counts.items() if attention or not is_attention(op)))


def is_attention(op: Any) -> bool:
    """Tell whether an operation multiplies queries, keys or values: of all products those alone come in batches."""
    return "bmm" in str(op) or "attention" in str(op)


def small_gpt2(sizes: Sizes, device: str = "cpu") -> PreTrainedModel:
    """Return a random GPT-2 of one head and, unless V says otherwise, with a vocabulary too small to matter."""
    with torch.device(device):
        config = GPT2Config(
            n_embd=sizes["d"],
            n_layer=sizes["L"],
            n_head=1,
            n_positions=sizes["n"],
            vocab_size=sizes.get("V", SMALL_VOCABULARY),
            bos_token_id=0,
            eos_token_id=0,
            use_cache=device == "meta",  # without a cache transformers looks at the values of positions
        )
        return GPT2LMHeadModel(config)


def adapted(sizes: Sizes, method: str = "hylorada", **parts: Any) -> HyLoRADAModel:
    """Return the same with the adapters of a method, all linear layers adapted."""
    shared = HyLoRADAConfig(
        lora_rank=sizes["r"],
        lora_target_modules=("c_attn", "c_proj", "c_fc"),
        num_landmarks=sizes["K"],
        lora_dropout=0.0,
    )
    config = HyLoRADAConfig(**vars(method_config(method, shared)) | parts)
    return HyLoRADAModel(small_gpt2(sizes), config)


def forward_operations(sizes: Sizes) -> float:
    """Count one pass of the base model."""
    base = small_gpt2(sizes, "meta")
    return operations(lambda: base(input_ids=_ids(sizes, "meta")))


def per_token(sizes: Sizes) -> float:
    """Count one pass of the base model for each token."""
    return forward_operations(sizes) / sizes["n"]


def full_training(sizes: Sizes, attention: bool = True) -> float:
    """Count a pass and its gradients, all weights trained."""
    base = small_gpt2(sizes, "meta")
    return operations(lambda: base(input_ids=_ids(sizes, "meta")).logits.sum().backward(), attention)


def adapter_training(method: str, attention: bool = True, **parts: Any) -> Callable[[Sizes], float]:
    """Return what counts a pass and its gradients with the adapters of a method."""

    def count(sizes: Sizes) -> float:
        extra = {"s2_group_size": sizes["g"]} if parts.get("s2_attn_enabled") else {}
        model = adapted(sizes, method, **parts | extra).train()
        return operations(lambda: model(input_ids=_ids(sizes, "cpu")).logits.sum().backward(), attention)

    return count


def adapter_per_token(sizes: Sizes) -> float:
    """Count what a low-rank update adds to one square layer for each token."""
    layer = nn.Linear(sizes["d"], sizes["d"], bias=False)
    hidden = torch.zeros(1, sizes["n"], sizes["d"])
    whole = operations(lambda: HyLoRADAUnified(layer, rank=sizes["r"])(hidden))
    return (whole - operations(lambda: layer(hidden))) / sizes["n"]


def landmarks_per_token(sizes: Sizes) -> float:
    """Count what landmarks add for each token."""
    part = LandmarkLoRA(sizes["d"], sizes["K"])
    hidden = torch.zeros(1, sizes["n"], sizes["d"])
    return operations(lambda: part(hidden, torch.arange(sizes["n"])[None])) / sizes["n"]


def looked_up(sizes: Sizes) -> float:
    """Count the entries of the position bias that one token reads."""
    return PositionBias(max_positions=sizes["n"]).extra(torch.zeros(1, 1, dtype=torch.long)).numel()


def bias_numbers(sizes: Sizes) -> float:
    """Count what the position bias trains for a context of n tokens."""
    return sum(p.numel() for p in PositionBias(max_positions=sizes["n"]).parameters())


def attention(sizes: Sizes, group: int | None = None, shift: int = 0) -> float:
    """Count one head of causal attention, in groups where a size is given."""
    states = torch.empty(1, 1, sizes["n"], sizes["d"], device="meta")
    return operations(lambda: grouped_attention(states, states, states, group or sizes["n"], shift))


def attention_factor(length: int, group: int) -> float:
    """Return full attention over S²-Attn, the layers with and without a shift taken together."""
    sizes = SIZES | {"n": length}
    return 2 * attention(sizes) / (attention(sizes, group) + attention(sizes, group, group // 2))


def trained_numbers(method: str, part: str = "trainable") -> Callable[[Sizes], float]:
    """Return what counts the numbers that a method trains."""
    return lambda sizes: adapted(sizes, method).count_params()[part]


def block_numbers(sizes: Sizes) -> float:
    """Count the weights of the base model's layers."""
    return sum(p.numel() for p in small_gpt2(sizes, "meta").transformer.h.parameters())


def kept_numbers(model: nn.Module, ids: torch.Tensor) -> float:
    """Count the numbers that a training pass keeps for the gradients, weights apart."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[tuple[int, int], int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.data_ptr(), tensor.numel()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), ids.flatten())
    del loss
    return float(sum(kept.values()))


def checkpointed(sizes: Sizes) -> float:
    """Count what is kept with checkpointing."""
    model = adapted(sizes, gradient_checkpointing=True).train()
    return kept_numbers(model, _ids(sizes, "cpu"))


def _ids(sizes: Sizes, device: str) -> torch.Tensor:
    return torch.zeros(1, sizes["n"], dtype=torch.long, device=device)


def grows(words: str, count: Callable[[Sizes], float], *terms: str, over: str = "") -> Growth:
    """Return a row of the table below: a sum of products of sizes, each written as in "n d d L"; "1" is a constant.

    over: sizes that the sum leaves out and that are doubled too.
    """
    factors = [term.split() for term in terms]
    powers = {name: max(term.count(name) for term in factors) for name in SIZES}
    return Growth(words, count, tuple((k, power) for k, power in powers.items() if power or k in over.split()))


def step_grows(training: Callable[..., Callable[[Sizes], float]], *terms: str) -> Growth:
    """Return the row for a training step; training: whether attention counts -> sizes -> number."""
    row = grows("operations of a training step outside attention", training(attention=False), *terms)
    return replace(row, whole=training(attention=True))


PER_TOKEN = grows("operations of the base for each token", per_token, "d d")
NO_TABLE_GROWTH = grows("entries that a token reads", looked_up, "1", over="n")
TRAINING = ("n d d L", "n r d L")
GROWTH = {
    "MT-036": grows("trained numbers of the position bias", bias_numbers, "1", over="n"),
    "MT-052": grows("operations of one head in groups", lambda s: attention(s, s["g"]), "n g"),
    "MT-150": PER_TOKEN,
    "MT-151": grows("operations of a low-rank update for each token", adapter_per_token, "r d"),
    "MT-152": NO_TABLE_GROWTH,
    "MT-153": grows(
        "operations with all adapters for each token", lambda s: adapter_training("hylorada")(s) / s["n"], "d d"
    ),
    "MT-154": grows("operations of one head", attention, "n n d"),
    "MT-155": grows("operations of one head in groups", lambda s: attention(s, s["g"]), "n g d"),
    "MT-156": grows("numbers with a gradient", trained_numbers("rslora"), "r d L"),
    "MT-157": grows("weights of all layers", block_numbers, "L d d"),
    "MT-158": grows("magnitudes, the second term", trained_numbers("dora", "magnitude"), "d", over="L"),
    "MT-159": grows("numbers kept for the gradients with checkpointing", checkpointed, "n d L"),
    "MT-160": NO_TABLE_GROWTH,
    "MT-161": grows("operations of landmarks for each token", landmarks_per_token, "K d"),
    "MT-175": step_grows(partial(partial, full_training), "n d d L"),
    "MT-176": grows("weights of all layers", block_numbers, "d d L"),
    "MT-178": step_grows(partial(adapter_training, "rslora"), *TRAINING),
    "MT-179": grows("trained numbers", trained_numbers("rslora"), "r d L"),
    "MT-181": step_grows(partial(adapter_training, "dora"), *TRAINING),
    "MT-182": grows("trained numbers", trained_numbers("dora"), "r d L", "d L"),
    "MT-184": step_grows(partial(adapter_training, "hylorada"), *TRAINING),
    "MT-185": grows("trained numbers", trained_numbers("hylorada"), "r d L", "d L", "1"),
    "MT-187": grows(
        "operations of a training step", adapter_training("hylorada", s2_attn_enabled=True), "n g d L", "n r d L"
    ),
    "MT-188": grows("trained numbers", trained_numbers("hylorada"), "r d L", "d L", "1"),
}
