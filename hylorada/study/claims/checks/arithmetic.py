"""Statements that follow from other published numbers, recomputed.

MATCH: what the inputs give, at the published digits, is the published number. WITHIN ROUNDING: it is not, but inputs
that round to the published ones give a number that rounds to it. MISMATCH: no such inputs do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from hylorada.study.claims.catalogue import Catalogue, Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, WITHIN_ROUNDING, Finding

SLACK = 1e-9  # of a digit: what binary numbers leave over
Input = str | float  # the id of a statement, or a setting without rounding


@dataclass(frozen=True)
class Formula:
    """of: numbers -> number, monotone in each of them. text: the same in words, {0}, {1}, ... the inputs."""

    text: str
    of: Callable[..., float]


GAIN = Formula("100 ({0} - {1}) / {0}", lambda old, new: 100 * (old - new) / old)
RATIO = Formula("{0} / {1}", lambda above, below: above / below)
SHARE = Formula("100 * {0} / {1}", lambda part, whole: 100 * part / whole)
DIFFERENCE = Formula("{0} - {1}", lambda one, other: one - other)
REST = Formula("100 - {0}", lambda part: 100 - part)
INVERSE = Formula("100 / {0}", lambda part: 100 / part)


def added(count: int) -> Formula:
    """Return the sum of so many inputs."""
    return Formula(" + ".join(f"{{{k}}}" for k in range(count)), lambda *values: math.fsum(values))


def multiplied(count: int) -> Formula:
    """Return the product of so many inputs."""
    return Formula(" * ".join(f"{{{k}}}" for k in range(count)), lambda *values: math.prod(values))


@dataclass(frozen=True)
class Recomputed:
    """The statement, or the `part`-th number of it, is what the formula gives of the inputs.

    also: further formulas of interest, each with what it is and its inputs; they are said, and decide nothing.
    """

    formula: Formula
    inputs: tuple[Input, ...]
    also: tuple[tuple[str, Formula, tuple[Input, ...]], ...] = ()

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Recompute the statement; a list is a range whose ends are given by the ends of the inputs."""
        given = [_ends(evidence.catalogue, value) for value in self.inputs]
        parts = [part_of(claim, k) for k in range(len(claim.values))]
        chosen = [[ends[k if len(ends) > 1 else 0] for ends in given] for k in range(len(parts))]
        chosen.sort(key=lambda inputs: self.formula.of(*map(_number, inputs)))  # a falling formula swaps the ends
        worst, said = MATCH, []
        for part, inputs in zip(parts, chosen, strict=True):
            verdict, gives = compare(self.formula, inputs, part)
            worst = max(worst, verdict, key=(MATCH, WITHIN_ROUNDING, MISMATCH).index)
            shown = self.formula.text.format(*map(_shown, inputs))
            said.append(f"{shown} = {rounded(gives, part)}")
        more = [
            f"{words} {formula.text.format(*(_shown(_ends(evidence.catalogue, v)[0]) for v in inputs))} = "
            + rounded(formula.of(*(_number(_ends(evidence.catalogue, v)[0]) for v in inputs)), parts[0])
            for words, formula, inputs in self.also
        ]
        return Finding(
            worst, f"recomputed: {' and '.join(said)}, published {claim.shown}" + "".join(f"; {m}" for m in more)
        )


@dataclass(frozen=True)
class NoRatio:
    """Whether parameters for each percent of gain exist at all: they do not where there is no gain."""

    parameters: str
    gain: str

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Hold a missing ratio, or a number given for one, against the sign of the gain."""
        parameters, gain = evidence.catalogue[self.parameters].number, evidence.catalogue[self.gain].number
        exists = gain > 0
        said = f"{parameters:,} parameters over a gain of {gain:g} % " + (
            f"are {parameters / gain:,.0f} for each percent" if exists else "are no cost of one percent gained"
        )
        verdict = MISMATCH if exists else MATCH if claim.value == "N/A" else MISMATCH
        return Finding(verdict, f"{said}, published {claim.shown}")


def compare(formula: Formula, inputs: Sequence[Claim | float], claimed: Claim) -> tuple[str, float]:
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


def _ends(catalogue: Catalogue, value: Input) -> list[Claim | float]:
    if not isinstance(value, str):
        return [value]
    claim = catalogue[value]
    return [part_of(claim, k) for k in range(len(claim.values))]


def _number(value: Claim | float) -> float:
    return value.number if isinstance(value, Claim) else value


def _rounding(value: Claim | float) -> tuple[float, ...]:
    if not isinstance(value, Claim):
        return (value,)
    half = 0.0 if isinstance(value.value, int) and value.digit == 1 else value.digit / 2  # a count is exact
    return value.number - half, value.number + half


def _shown(value: Claim | float) -> str:
    if isinstance(value, Claim):
        return f"{value.number:,.{value.decimals}f}"
    return f"{value:,g}" if abs(value) < 1e6 else f"{value:,.0f}"


PPL = {  # the published levels
    "base": "AF-010",
    "rslora": "AF-020",
    "magnitude": "AF-030",
    "position_bias": "AF-040",
    "landmarks": "AF-050",
    "learned_buckets": "AF-060",
}


def step(arm: str, reference: str) -> Recomputed:
    """Return the gain of a published level over another."""
    return Recomputed(GAIN, (PPL[reference], PPL[arm]))


OWN_STEP = ("the landmarks' own step is", GAIN, (PPL["position_bias"], PPL["landmarks"]))
WHOLE_OVER_RSLORA = ("over rsLoRA alone the whole stack gains", GAIN, (PPL["rslora"], PPL["landmarks"]))
OWN_COST = ("for its own step", RATIO, ("AF-053", "AF-052"))
LANDMARK_COST = Recomputed(RATIO, ("AF-053", "AF-051"), also=(OWN_COST,))
BIAS_COST = Recomputed(RATIO, ("AF-043", "AF-042"), also=(("of the whole stack's gain", RATIO, ("AF-043", "AF-041")),))
LM_GAIN = Recomputed(GAIN, ("RN-140", "RN-141"))
ATTRIBUTED = Recomputed(GAIN, (PPL["position_bias"], PPL["landmarks"]), also=(WHOLE_OVER_RSLORA,))
RECOMMENDED = Recomputed(GAIN, (PPL["base"], "LM-05"), also=(("over rsLoRA alone", GAIN, (PPL["rslora"], "LM-05")),))
PARTS = ("RN-030", "RN-031", "RN-032")

GAINS = {  # percentages that a run can be asked about too, see measured_rows.py
    "AF-021": step("rslora", "base"),
    "AF-031": step("magnitude", "base"),
    "AF-032": step("magnitude", "rslora"),
    "AF-041": step("position_bias", "base"),
    "AF-042": step("position_bias", "magnitude"),
    "AF-051": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "AF-052": step("landmarks", "position_bias"),
    "AF-061": step("learned_buckets", "base"),
    "AF-062": step("learned_buckets", "landmarks"),
    "AF-070": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "AF-073": step("rslora", "base"),
    "AF-076": step("magnitude", "rslora"),
    "AF-078": step("learned_buckets", "landmarks"),
    "AF-092": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "AF-095": step("position_bias", "magnitude"),
    "AF-098": step("magnitude", "rslora"),
    "AF-101": step("learned_buckets", "landmarks"),
    "AF-114": step("position_bias", "magnitude"),
    "AF-150": LM_GAIN,
    "RN-010": LM_GAIN,
    "RN-080": LM_GAIN,
    "RN-090": LM_GAIN,
    "RN-093": LM_GAIN,
    "RN-142": LM_GAIN,
    "RN-100": step("rslora", "base"),
    "RN-103": step("magnitude", "rslora"),
    "RN-106": step("position_bias", "magnitude"),
    "RN-109": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "RN-112": step("learned_buckets", "landmarks"),
    "RN-123": step("magnitude", "rslora"),
    "RN-124": step("learned_buckets", "landmarks"),
    "RN-132": step("magnitude", "rslora"),
    "RN-143": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "RM-012": step("rslora", "base"),
    "RM-014": step("position_bias", "rslora"),  # as the README lists the rows
    "RM-016": Recomputed(GAIN, (PPL["base"], PPL["landmarks"]), also=(OWN_STEP,)),
    "RM-030": step("rslora", "base"),
    "RM-032": step("position_bias", "magnitude"),
    # ascribed to landmarks alone, and so held against their own step
    **dict.fromkeys(("AF-003", "AF-115", "AF-120", "AF-132", "RN-130", "RN-144", "RM-031"), ATTRIBUTED),
    # of the recommended configuration, whose own published figure is another
    **dict.fromkeys(("AF-116", "RN-120", "RN-126", "RM-001"), RECOMMENDED),
}
ARITHMETIC = {
    **dict.fromkeys(("AF-071", "AF-090", "RN-111", "RN-122", "RN-133"), LANDMARK_COST),
    **dict.fromkeys(("AF-093", "RN-108"), BIAS_COST),
    **dict.fromkeys(("AF-096", "RN-105"), NoRatio("AF-033", "AF-032")),
    **dict.fromkeys(("AF-099", "RN-114"), NoRatio("AF-063", "AF-062")),
    **dict.fromkeys(("AF-121", "RN-131", "RN-145"), NoRatio("AF-033", "AF-032")),
    "RN-013": Recomputed(RATIO, ("RN-012", "RN-010")),
    "RN-017": Recomputed(RATIO, ("RN-016", "RN-014")),
    "RN-021": NoRatio("RN-020", "RN-018"),
    **dict.fromkeys(("RN-030", "RN-050", "RN-051"), Recomputed(multiplied(2), ("RN-034", 768))),
    **dict.fromkeys(("RN-031", "RN-056", "RN-057"), Recomputed(multiplied(2), ("RN-035", "RN-034"))),
    **dict.fromkeys(("RN-032", "RN-059", "RN-060"), Recomputed(multiplied(2), (768, "RN-034"))),
    **dict.fromkeys(("RN-041", "RN-054"), Recomputed(DIFFERENCE, ("RN-035", 1))),
    "RN-052": Recomputed(DIFFERENCE, ("RN-051", "RN-050")),
    "RN-055": Recomputed(DIFFERENCE, ("RN-054", "RN-053")),
    "RN-058": Recomputed(DIFFERENCE, ("RN-057", "RN-056")),
    "RN-061": Recomputed(DIFFERENCE, ("RN-060", "RN-059")),
    "RN-062": Recomputed(added(3), PARTS),
    "RN-063": Recomputed(added(4), (*PARTS, "RN-041")),
    "RN-064": Recomputed(DIFFERENCE, ("RN-063", "RN-062")),
    "RN-065": Recomputed(SHARE, ("RN-064", "RN-062")),
    "RN-074": Recomputed(DIFFERENCE, ("RN-063", "RN-062"), also=(("in percent", SHARE, ("RN-064", "RN-062")),)),
    "RN-102": Recomputed(RATIO, ("RN-101", "RN-100")),
    "MT-070": Recomputed(multiplied(2), (50_000, 4_000)),
    "MT-163": Recomputed(INVERSE, ("MT-164",)),
    **dict.fromkeys(("MT-168", "MT-251"), Recomputed(REST, ("MT-164",))),
    **dict.fromkeys(
        ("MT-085", "MT-115", "MT-240"), Recomputed(added(5), ("MT-080", "MT-081", "MT-082", "MT-083", "MT-084"))
    ),
}
