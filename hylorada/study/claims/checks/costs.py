"""Statements about merging, speed and memory: tried on a small model, counted, or read from `hylorada bench`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.lora import LowRankUpdate
from hylorada.methods import method_config
from hylorada.model import HyLoRADAModel
from hylorada.positions import FixedBuckets
from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.checks import built, growth
from hylorada.study.claims.checks.counts import Counted
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import INCONCLUSIVE, MATCH, MISMATCH, Finding
from hylorada.study.plan.studies import PUBLISHED_POSITIONS

SMALL = dict(n=32, d=32, L=2, r=4, g=16, K=8)
QUARTER = dict(n=128, d=192, L=12, r=8, g=64, K=8, V=12_564)  # GPT-2 124M, a quarter of it in every size but depth
EQUAL = 1e-4  # of the logits of a merged model, in float32
COMPARABLE = 1.1  # times as much is what we take this word for


@dataclass(frozen=True)
class Merges:
    """Whether a method folds into the base model's weights: no number beside them, and the same logits."""

    method: str

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
    """A cost of `hylorada bench` against another row of its section; at most `limit` times it is what is said.

    Where the limit lies between the quartiles, the measurement does not decide. beside: a further row that is told.
    """

    section: str
    row: str
    limit: float
    beside: str = ""

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Read the record; its quartiles are over rounds on one machine."""
        rows = evidence.costs[self.section]
        found = rows[self.row]["ratio"]
        said = f"measured, {self.row}: {found['median']:.3f} times, quartiles {found['low']:.3f} to {found['high']:.3f}"
        if self.beside:
            said += f"; {self.beside}: {rows[self.beside]['ratio']['median']:.3f} times"
        said += f"; at most {self.limit:g} times is taken for it, published {claim.shown}"
        verdict = MATCH if found["high"] <= self.limit else MISMATCH if found["low"] > self.limit else INCONCLUSIVE
        return Finding(verdict, said, command="hylorada bench")


@cache
def left_after_merging(method: str) -> str:
    """Say what a method keeps beside the weights after merging, empty for nothing."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = growth.adapted(SMALL, method).eval()
        for parameter in model.trainable_parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        ids = torch.randint(0, growth.SMALL_VOCABULARY, (1, SMALL["n"]))
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
    return 100 * (growth.landmarks_per_token(shape) + bias) / growth.per_token(shape)


def shift_of_groups() -> float:
    """Return by which share of a group the odd layers of a training model are cut later.

    Two groups cost 2 G², and a first of sG tokens makes that (s² + 1 + (1 - s)²) G²: s follows from the ratio.
    """
    group = 64
    model = growth.adapted(SMALL | {"n": 2 * group}, s2_attn_enabled=True, s2_group_size=group).train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 2 * group, dtype=torch.long))
    by_layer = {
        layer: sum(n for op, n in counts.items() if growth.is_attention(op))
        for module, counts in counter.get_flop_counts().items()
        for layer in (0, 1)
        if module.endswith(f"h.{layer}.attn")
    }
    ratio = by_layer[1] / by_layer[0]
    return (1 - max(0.0, 1 - 4 * (1 - ratio)) ** 0.5) / 2


def over_lora() -> float:
    """Return the operations of a training step of the whole stack over those of plain LoRA."""
    whole, plain = (growth.adapter_training(method)(QUARTER) for method in (STACK, "lora"))
    return whole / plain


def checkpointing_cost() -> float:
    """Return the operations that checkpointing adds to a training step of adapters, percent of it."""
    plain, again = (growth.adapter_training("hylorada", gradient_checkpointing=on)(QUARTER) for on in (False, True))
    return 100 * (again / plain - 1)


def checkpointing_room() -> float:
    """Return the numbers that a training step keeps without checkpointing over those with it.

    With it, the layer whose gradients are being taken keeps its own beside the inputs of all others.
    """
    ids = torch.zeros(1, QUARTER["n"], dtype=torch.long)
    models = (growth.adapted(QUARTER, gradient_checkpointing=on).train() for on in (False, True))
    plain, again = (growth.kept_numbers(model, ids) for model in models)
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
        model = HyLoRADAModel(growth.small_gpt2(SMALL), config).eval()
        passes.append(lambda model=model: model(input_ids=ids))
    plain, grouped = map(growth.operations, passes)
    return 100 * (grouped / plain - 1)


STACK = "hylorada"
COSTS = {
    "MT-051": Counted("share of a group by which odd layers are cut later", shift_of_groups),
    "MT-053": Counted("full attention over S²-Attn at 4,096 tokens", lambda: growth.attention_factor(4096, 2048)),
    "MT-162": Counted("full attention over S²-Attn at 32,768 tokens", lambda: growth.attention_factor(32_768, 2048)),
    "MT-121": Counted("LoRA's factor at twice the rank", scale_at_twice_the_rank, wanted=0.5),
    "MT-124": Counted("positions that the 64 buckets tell apart", positions_told_apart),
    **dict.fromkeys(("MT-169", "MT-170", "MT-253"), Merges(STACK)),
    "MT-171": Counted("percent of GPT-2's operations for bias and landmarks", landmark_share, at_most=True),
    "MT-177": Counted(
        "numbers of the model that full fine-tuning does not train, and so would add to inference",
        weights_not_trained,
        wanted=0,
    ),
    "MT-180": Merges("rslora"),
    "MT-183": Merges("dora"),
    "MT-186": Measured("inference", "our HyLoRADA, weights merged", 1.05, beside="our HyLoRADA"),
    "MT-189": Counted("percent added by S²-Attn to a pass in evaluation", extra_in_evaluation, wanted=0.0),
    "MT-191": Counted("operations of a training step over LoRA's", over_lora, at_most=True, wanted=COMPARABLE),
    "MT-213": Counted("percent of operations that checkpointing adds to a step", checkpointing_cost),
    "MT-214": Counted("numbers kept without checkpointing over those with it", checkpointing_room),
}
