"""Statements about numbers that can be counted: of parameters in parameters.py, of operations in costs.py."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from hylorada.errors import HyLoRADAError
from hylorada.study.claims.checks.arithmetic import part_of
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, Finding

Number = int | float
RANGE_ROOM = 0.01  # relative: the ends of a range are round numbers
CLAIMED = "claimed"


@dataclass(frozen=True)
class Quantity:
    """words: what is counted. of: a number, or one for each part of a tuple."""

    words: str
    of: Callable[[], Number | list[Number]]


@dataclass(frozen=True)
class Counted:
    """The statement is the quantity at its published digits; a range has to hold it.

    equals: what a statement in words comes to. at_most: the same for an upper bound, or CLAIMED for the value itself.
    """

    quantity: Quantity
    equals: Number | None = None
    at_most: Number | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.at_most, str) and self.at_most != CLAIMED:
            raise HyLoRADAError(f"at_most is {self.at_most!r}; give a number, or the word {CLAIMED}.")

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Count, and hold the statement against the count."""
        count = _count(self.quantity.of)
        counts = count if isinstance(count, list) else [count]
        parts = [part_of(claim, k) for k in range(len(claim.values))]
        if self.equals is not None:
            fits = counts == [self.equals]
        elif self.at_most is not None:
            fits = counts[0] <= (claim.number if self.at_most == CLAIMED else self.at_most)
        elif len(parts) > len(counts):
            fits = _inside(counts[0], parts)
        else:
            fits = all(abs(c - p.number) <= p.digit / 2 for c, p in zip(counts, parts, strict=True))
        shown = ", ".join(f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" for value in counts)
        taken = "" if self.at_most in (None, CLAIMED) else f", and at most {self.at_most:g} is taken for it"
        reason = f"counted, {self.quantity.words}: {shown}, published {claim.shown}{taken}"
        return Finding(MATCH if fits else MISMATCH, reason)


@cache
def _count(of: Callable[[], Number | list[Number]]) -> Number | list[Number]:
    return of()


def _inside(count: Number, ends: list[Claim]) -> bool:
    low, high = (end.number for end in ends)
    return (1 - RANGE_ROOM) * low <= count <= (1 + RANGE_ROOM) * high
