"""Statements that cannot hold together with another one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.study.claims.checks import built
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import CONTRADICTED, MATCH, Finding
from hylorada.study.plan.protocols import AS_PUBLISHED


@dataclass(frozen=True)
class Clash:
    """Another statement, whose value cannot hold together with this one, unless they have a relation of `RELATIONS`.

    why: the relation that is broken, in words.
    """

    unless: Callable[[Any, Any], bool]
    other: Claim
    why: str

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Compare the two published values."""
        other = self.other
        told = f"published {claim.shown} here and {other.shown} in {other.id} ({other.quantity}): {self.why}"
        return Finding(MATCH if self.unless(claim.value, other.value) else CONTRADICTED, told)


def first_is_no_more(order: str, least: float) -> bool:
    """Tell whether the first number in "683 before 4" is no more than the least of all."""
    return int(order.split()[0]) <= least


def inside(span: list[float], value: float) -> bool:
    """Tell whether the other value lies in a range."""
    return span[0] <= value <= span[1]


def trained_by_default(_: Any, numbers: float) -> bool:
    """Tell whether the other value is what landmarks train by default."""
    return numbers == built.trained(built.landmarks(HyLoRADAConfig().num_landmarks))


RELATIONS = {  # between the value of a statement and that of the other
    "first_is_no_more": first_is_no_more,
    "inside": inside,
    "trained_by_default": trained_by_default,
    "reached": lambda threshold, value: value >= threshold,
    "a_gain": lambda _, value: value >= 0,
    "third_of_it": lambda value, values: value == values[2],
    "within_the_rows": lambda _, tokens: tokens <= AS_PUBLISHED.block_tokens,
}
