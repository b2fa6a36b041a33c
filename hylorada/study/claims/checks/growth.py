"""Statements about complexity: operations and numbers are counted on small models, before and after a size doubles.

O(g) says that a count grows no faster than g. Each size is doubled where it is large against the others, so that what
it multiplies dominates; the count may then grow by 2 to the highest power of that size in g, and a tenth more, for what
is not yet small.
The documents count attention apart, and leave its n n d L out where they count a step: so does their check, which says
what the whole step does beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from hylorada.errors import HyLoRADAError, near
from hylorada.study.claims.checks import operations as ops
from hylorada.study.claims.checks.operations import SIZES, Sizes, adapter_training, trained_numbers
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, Finding

LARGE = dict(n=512, d=256, L=4, r=8, g=128, K=512)  # from where a size is doubled
ROOM = 1.1


@dataclass(frozen=True)
class Growing:
    """words: what is counted. count: sizes -> number.

    whole: the same with attention's products, whose growth with n is told and decides nothing.
    """

    words: str
    count: Callable[[Sizes], float]
    whole: Callable[[Sizes], float] | None = None


@dataclass(frozen=True)
class Growth:
    """powers: the highest power of each size that is doubled."""

    quantity: Growing
    powers: tuple[tuple[str, int], ...]

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say how the count grew, and hold that against the statement."""
        grown = _grown(self.quantity.count, self.powers)
        told = [f"times {by:.2f} as {name} doubles, where {2**power} is allowed" for name, power, by in grown]
        if self.quantity.whole is not None:
            ((_, _, by),) = _grown(self.quantity.whole, (("n", 2),))
            told.append(f"with attention's n n d L, which the statement leaves out, times {by:.2f} as n doubles")
            told[-1] += f" from {LARGE['n']} at width {SIZES['d']}"
        holds = all(by <= ROOM * 2**power for _, power, by in grown)
        reason = f"counted, {self.quantity.words}: {', '.join(told)}; published {claim.shown}"
        return Finding(MATCH if holds else MISMATCH, reason)


@cache
def _grown(count: Callable[[Sizes], float], powers: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int, float], ...]:
    """Double each size in turn; return it, its power and the growth of the count."""
    grown = []
    for name, power in powers:
        before, after = ({**SIZES, "n": max(SIZES["n"], 4 * LARGE["g"] * (name == "g"))} for _ in range(2))
        before[name], after[name] = LARGE[name], 2 * LARGE[name]
        grown.append((name, power, count(after) / count(before)))
    return tuple(grown)


def growth(quantity: Growing, bound: str, beside: str = "") -> Growth:
    """Return the check of a bound: a sum of products of sizes, as "n d d L + n r d L"; "1" is a constant.

    beside: sizes that the sum leaves out and that are doubled too.

    Raises:
        HyLoRADAError: there is no such size.
    """
    terms, doubled = [term.split() for term in bound.split(" + ")], beside.split()
    for name in [*doubled, *(name for term in terms for name in term)]:
        if name not in (*SIZES, "1"):
            raise HyLoRADAError(f"the size {name!r} is not known; {near(name, SIZES)}")
    powers = {name: max(term.count(name) for term in terms) for name in SIZES}
    return Growth(quantity, tuple((name, power) for name, power in powers.items() if power or name in doubled))


def training_step(training: Callable[..., Callable[[Sizes], float]]) -> Growing:
    """Return a training step as a quantity; training: whether attention counts -> sizes -> number."""
    words = "operations of a training step outside attention"
    return Growing(words, training(attention=False), training(attention=True))


def adapters_per_token(sizes: Sizes) -> float:
    """Count a training step with all adapters for each token."""
    return adapter_training("hylorada")(sizes) / sizes["n"]


GROWING: dict[str, Growing] = {
    "base_per_token": Growing("operations of the base for each token", ops.per_token),
    "low_rank_per_token": Growing("operations of a low-rank update for each token", ops.adapter_per_token),
    "landmarks_per_token": Growing("operations of landmarks for each token", ops.landmarks_per_token),
    "adapters_per_token": Growing("operations with all adapters for each token", adapters_per_token),
    "attention": Growing("operations of one head", ops.attention),
    "attention_in_groups": Growing("operations of one head in groups", lambda s: ops.attention(s, s["g"])),
    "full_training": training_step(partial(partial, ops.full_training)),
    "lora_training": training_step(partial(adapter_training, "rslora")),
    "dora_training": training_step(partial(adapter_training, "dora")),
    "stack_training": training_step(partial(adapter_training, "hylorada")),
    "s2_training": Growing("operations of a training step", adapter_training("hylorada", s2_attn_enabled=True)),
    "entries_read": Growing("entries that a token reads", ops.looked_up),
    "position_bias_numbers": Growing("trained numbers of the position bias", ops.bias_numbers),
    "magnitudes": Growing("magnitudes, the second term", trained_numbers("dora", "magnitude")),
    "lora_numbers": Growing("trained numbers", trained_numbers("rslora")),
    "dora_numbers": Growing("trained numbers", trained_numbers("dora")),
    "stack_numbers": Growing("trained numbers", trained_numbers("hylorada")),
    "numbers_with_a_gradient": Growing("numbers with a gradient", trained_numbers("rslora")),
    "layer_weights": Growing("weights of all layers", ops.block_numbers),
    "kept_with_checkpointing": Growing("numbers kept for the gradients with checkpointing", ops.checkpointed),
}
