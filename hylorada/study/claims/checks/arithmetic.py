"""Statements that follow from other published numbers, recomputed.

MATCH: what the inputs give, at the published digits, is the published number. WITHIN ROUNDING: it is not, but inputs
that round to the published ones give a number that rounds to it. MISMATCH: no such inputs do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hylorada.errors import HyLoRADAError, near
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, WITHIN_ROUNDING, Finding

SLACK = 1e-9  # of a digit: what binary numbers leave over
Input = Claim | float  # a statement, or a setting without rounding


@dataclass(frozen=True)
class Formula:
    """of: numbers -> number, monotone in each of them. words: the same of the inputs in words. takes: inputs or any."""

    words: Callable[..., str]
    of: Callable[..., float]
    takes: int | None


FORMULAS = {
    "gain": Formula("100 ({0} - {1}) / {0}".format, lambda old, new: 100 * (old - new) / old, 2),
    "ratio": Formula("{0} / {1}".format, lambda above, below: above / below, 2),
    "share": Formula("100 * {0} / {1}".format, lambda part, whole: 100 * part / whole, 2),
    "difference": Formula("{0} - {1}".format, lambda one, other: one - other, 2),
    "rest": Formula("100 - {0}".format, lambda part: 100 - part, 1),
    "inverse": Formula("100 / {0}".format, lambda part: 100 / part, 1),
    "sum": Formula(lambda *shown: " + ".join(shown), lambda *values: math.fsum(values), None),
    "product": Formula(lambda *shown: " * ".join(shown), lambda *values: math.prod(values), None),
}


@dataclass(frozen=True)
class Applied:
    """A formula with its inputs."""

    formula: Formula
    inputs: tuple[Input, ...]


@dataclass(frozen=True)
class Recomputed:
    """The statement, or each number of it, is what the formula gives of the inputs.

    also: further formulas of interest, by what they are; they are told, and decide nothing.
    """

    by: Applied
    also: tuple[tuple[str, Applied], ...] = ()

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Recompute the statement; a list is a range whose ends are given by the ends of the inputs."""
        formula, given = self.by.formula, [_ends(value) for value in self.by.inputs]
        parts = [part_of(claim, k) for k in range(len(claim.values))]
        chosen = [[ends[k if len(ends) > 1 else 0] for ends in given] for k in range(len(parts))]
        chosen.sort(key=lambda inputs: formula.of(*map(_number, inputs)))  # a falling formula swaps the ends
        worst, shown = MATCH, []
        for part, inputs in zip(parts, chosen, strict=True):
            verdict, gives = compare(formula, inputs, part)
            worst = max(worst, verdict, key=(MATCH, WITHIN_ROUNDING, MISMATCH).index)
            shown.append(f"{formula.words(*map(_shown, inputs))} = {rounded(gives, part)}")
        reason = f"recomputed: {' and '.join(shown)}, published {claim.shown}"
        for words, applied in self.also:
            first = [_ends(value)[0] for value in applied.inputs]
            gives = applied.formula.of(*map(_number, first))
            reason += f"; {words} {applied.formula.words(*map(_shown, first))} = {rounded(gives, parts[0])}"
        return Finding(worst, reason)


def recompute(also: Mapping[str, Mapping[str, Any]] | None = None, **formula: Sequence[Input]) -> Recomputed:
    """Return the check of a formula by its name, with its inputs; also: words -> formula by name -> inputs.

    Raises:
        HyLoRADAError: not one formula, no such formula, or not as many inputs as it takes.
    """
    return Recomputed(_applied(formula), tuple((words, _applied(one)) for words, one in (also or {}).items()))


def _applied(formula: Mapping[str, Sequence[Input]]) -> Applied:
    if len(formula) != 1:
        raise HyLoRADAError(f"one formula is to be named, of {', '.join(FORMULAS)}; there are {len(formula)}.")
    ((name, inputs),) = formula.items()
    if name not in FORMULAS:
        raise HyLoRADAError(f"the formula {name!r} is not known; {near(name, FORMULAS)}")
    takes = FORMULAS[name].takes
    if takes not in (None, len(inputs)):
        raise HyLoRADAError(f"the formula {name!r} takes {takes} inputs; there are {len(inputs)}.")
    for value in inputs:
        if not isinstance(value, Claim | int | float):
            raise HyLoRADAError(f"the formula {name!r} takes ids of statements and numbers, and {value!r} is neither.")
    return Applied(FORMULAS[name], tuple(inputs))


@dataclass(frozen=True)
class NoRatio:
    """Whether parameters for each percent of gain exist at all: they do not where there is no gain."""

    parameters: Claim
    gain: Claim

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Hold a missing ratio, or a number given for one, against the sign of the gain."""
        parameters, gain = self.parameters.number, self.gain.number
        exists = gain > 0
        told = f"{parameters:,} parameters over a gain of {gain:g} % " + (
            f"are {parameters / gain:,.0f} for each percent" if exists else "are no cost of one percent gained"
        )
        verdict = MISMATCH if exists else MATCH if claim.value == "N/A" else MISMATCH
        return Finding(verdict, f"{told}, published {claim.shown}")


def compare(formula: Formula, inputs: Sequence[Input], claimed: Claim) -> tuple[str, float]:
    """Return the verdict on a claimed number and what the inputs give."""
    gives = formula.of(*(_number(value) for value in inputs))
    half = claimed.digit / 2 * (1 + SLACK)
    if abs(gives - claimed.number) <= half:
        return MATCH, gives
    ends = [_rounding(value) for value in inputs]
    reached = [formula.of(*corner) for corner in product(*ends)]
    inside = min(reached) - half <= claimed.number <= max(reached) + half
    return (WITHIN_ROUNDING if inside else MISMATCH), gives


def part_of(claim: Claim, index: int) -> Claim:
    """Return the claim with one number of its list as its value."""
    return replace(claim, value=claim.values[index])


def rounded(value: float, like: Claim) -> str:
    """Return a number with one digit more than the claim has."""
    return f"{value:,.{like.decimals + 1 if like.decimals else 0}f}" if abs(value) >= 10 else f"{value:.4g}"


def _ends(value: Input) -> list[Input]:
    return [part_of(value, k) for k in range(len(value.values))] if isinstance(value, Claim) else [value]


def _number(value: Input) -> float:
    return value.number if isinstance(value, Claim) else value


def _rounding(value: Input) -> tuple[float, ...]:
    if not isinstance(value, Claim):
        return (value,)
    half = 0.0 if isinstance(value.value, int) and value.digit == 1 else value.digit / 2  # a count is exact
    return value.number - half, value.number + half


def _shown(value: Input) -> str:
    if isinstance(value, Claim):
        return f"{value.number:,.{value.decimals}f}"
    return f"{value:,g}" if abs(value) < 1e6 else f"{value:,.0f}"
