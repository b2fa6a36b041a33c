"""Statements about merging, speed and memory: tried on a small model, counted, or read from `hylorada bench`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near
from hylorada.lora import LowRankUpdate
from hylorada.methods import METHODS, method_config
from hylorada.model import HyLoRADAModel
from hylorada.positions import FixedBuckets
from hylorada.study.claims.checks import built
from hylorada.study.claims.checks import operations as ops
from hylorada.study.claims.checks.counts import Quantity
from hylorada.study.claims.checks.operations import Sizes
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import INCONCLUSIVE, MATCH, MISMATCH, Finding
from hylorada.study.plan.studies import PUBLISHED_POSITIONS

SMALL = dict(n=32, d=32, L=2, r=4, g=16, K=8)
QUARTER = dict(n=128, d=192, L=12, r=8, g=64, K=8, V=12_564)  # GPT-2 124M, a quarter of it in every size but depth
EQUAL = 1e-4  # of the logits of a merged model, in float32


@dataclass(frozen=True)
class Merges:
    """Whether a method folds into the base model's weights: no number beside them, and the same logits."""

    method: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise HyLoRADAError(f"the method {self.method!r} is not known; {near(self.method, METHODS)}")

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Merge a small model off its start."""
        left = left_after_merging(self.method)
        return Finding(
            MATCH if left == "" else MISMATCH,
            f"merged on a small model with {self.method}: {left or 'nothing is left beside the weights, logits equal'}"
            f"; published {claim.shown}",
        )


@dataclass(frozen=True)
class Measured:
    """A cost of `hylorada bench` against another row of its section; at most so many times it is what is said.

    Where the limit lies between the quartiles, the measurement does not decide. beside: a further row that is told.
    """

    section: str
    row: str
    at_most: float
    beside: str = ""

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Read the record; its quartiles are over rounds on one machine."""
        rows = evidence.costs.get(self.section, {})
        for name in filter(None, (self.row, self.beside)):
            if name not in rows:
                raise HyLoRADAError(
                    f"{claim.id} speaks of a cost {name!r} in {self.section!r}; {near(name, rows or evidence.costs)}"
                )
        ratio = rows[self.row]["ratio"]
        told = f"measured, {self.row}: {ratio['median']:.3f} times, quartiles {ratio['low']:.3f} to {ratio['high']:.3f}"
        if self.beside:
            told += f"; {self.beside}: {rows[self.beside]['ratio']['median']:.3f} times"
        told += f"; at most {self.at_most:g} times is taken for it, published {claim.shown}"
        verdict = MATCH if ratio["high"] <= self.at_most else MISMATCH if ratio["low"] > self.at_most else INCONCLUSIVE
        return Finding(verdict, told, command="hylorada bench")


@cache
def left_after_merging(method: str) -> str:
    """Say what a method keeps beside the weights after merging, empty for nothing."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = ops.adapted(SMALL, method).eval()
        for parameter in model.trainable_parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        ids = torch.randint(0, ops.SMALL_VOCABULARY, (1, SMALL["n"]))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        try:
            merged = model.merge_and_unload()
        except HyLoRADAError as error:
            return str(error).split(";")[0]
        after = merged(input_ids=ids).logits
    if isinstance(merged, HyLoRADAModel) or not torch.allclose(before, after, atol=EQUAL):
        return "an adapter, or other logits"
    return ""


def landmark_share() -> float:
    """Return the operations of position bias and landmarks over those of GPT-2 124M with 512 tokens, percent."""
    width, layers, tokens, adapted_outputs = 768, 12, 512, 2304 + 768 + 768
    shape = dict(n=tokens, d=width, L=layers, r=8, g=64, K=8)
    bias = 2 * adapted_outputs * layers  # a multiplication and an addition an output
    return 100 * (ops.landmarks_per_token(shape) + bias) / ops.per_token(shape)


def shift_of_groups() -> float:
    """Return by which share of a group the odd layers of a training model are cut later.

    Two groups cost 2 G², and a first of sG tokens makes that (s² + 1 + (1 - s)²) G²: s follows from the ratio.
    """
    group = 64
    model = ops.adapted(SMALL | {"n": 2 * group}, s2_attn_enabled=True, s2_group_size=group).train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 2 * group, dtype=torch.long))
    by_layer = {
        layer: sum(n for op, n in counts.items() if ops.is_attention(op))
        for module, counts in counter.get_flop_counts().items()
        for layer in (0, 1)
        if module.endswith(f"h.{layer}.attn")
    }
    ratio = by_layer[1] / by_layer[0]
    return (1 - max(0.0, 1 - 4 * (1 - ratio)) ** 0.5) / 2


def deep(count: Callable[[Sizes], float], sizes: Sizes = QUARTER) -> float:
    """Return a count of a deep model from those of one layer and of two: a further layer adds what the second does."""
    one, two = (count(sizes | {"L": layers}) for layers in (1, 2))
    return one + (sizes["L"] - 1) * (two - one)


def over_lora() -> float:
    """Return the operations of a training step of the whole stack over those of plain LoRA."""
    whole, plain = (deep(ops.adapter_training(method)) for method in ("hylorada", "lora"))
    return whole / plain


def checkpointing_cost() -> float:
    """Return the operations that checkpointing adds to a training step of adapters, percent of it."""
    plain, again = (deep(ops.adapter_training("hylorada", gradient_checkpointing=on)) for on in (False, True))
    return 100 * (again / plain - 1)


def checkpointing_room() -> float:
    """Return the numbers that a training step keeps without checkpointing over those with it.

    With it, the layer whose gradients are being taken keeps its own beside the inputs of all others.
    """
    ids = torch.zeros(1, QUARTER["n"], dtype=torch.long)
    plain, again = (
        deep(lambda sizes, on=on: ops.kept_numbers(ops.adapted(sizes, gradient_checkpointing=on).train(), ids))
        for on in (False, True)
    )
    return plain / (again + (plain - again) / QUARTER["L"])


def scale_at_twice_the_rank() -> float:
    """Return how LoRA's factor on the update, and so on its gradients, changes as the rank doubles."""
    one, two = (LowRankUpdate(64, 64, rank, 16.0, use_rslora=False).scaling for rank in (8, 16))
    return two / one


def positions_told_apart() -> int:
    """Count the positions before the last bucket of 64 over the published length begins."""
    table = FixedBuckets(64, PUBLISHED_POSITIONS).table
    return int((table < table.max()).sum())


def weights_not_trained() -> int:
    """Count what stands beside the trained weights in full fine-tuning."""
    return built.base_parameters() - built.trained(built.gpt2())


def extra_in_evaluation() -> float:
    """Return the operations that S²-Attn adds to a pass in evaluation, percent."""
    passes: list[Callable[[], object]] = []
    ids = torch.zeros(1, SMALL["n"], dtype=torch.long)
    for on in (False, True):
        config = HyLoRADAConfig(
            **vars(method_config("rslora")) | {"s2_attn_enabled": on, "s2_group_size": SMALL["g"], "lora_rank": 4}
        )
        model = HyLoRADAModel(ops.small_gpt2(SMALL), config).eval()
        passes.append(lambda model=model: model(input_ids=ids))
    plain, grouped = map(ops.count_operations, passes)
    return 100 * (grouped / plain - 1)


OPERATIONS = {
    "shift_of_groups": Quantity("share of a group by which odd layers are cut later", shift_of_groups),
    "attention_saved_at_4k": Quantity(
        "full attention over S²-Attn at 4,096 tokens", lambda: ops.attention_factor(4096, 2048)
    ),
    "attention_saved_at_32k": Quantity(
        "full attention over S²-Attn at 32,768 tokens", lambda: ops.attention_factor(32_768, 2048)
    ),
    "scale_at_twice_the_rank": Quantity("LoRA's factor at twice the rank", scale_at_twice_the_rank),
    "positions_told_apart": Quantity("positions that the 64 buckets tell apart", positions_told_apart),
    "landmark_share": Quantity("percent of GPT-2's operations for bias and landmarks", landmark_share),
    "weights_not_trained": Quantity(
        "numbers of the model that full fine-tuning does not train, and so would add to inference", weights_not_trained
    ),
    "extra_in_evaluation": Quantity("percent added by S²-Attn to a pass in evaluation", extra_in_evaluation),
    "training_over_lora": Quantity("operations of a training step over LoRA's", over_lora),
    "checkpointing_cost": Quantity("percent of operations that checkpointing adds to a step", checkpointing_cost),
    "checkpointing_room": Quantity("numbers kept without checkpointing over those with it", checkpointing_room),
}
