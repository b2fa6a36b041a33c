"""Every statement with the checks that settle it, in their order: what can be had without a run first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hylorada.errors import HyLoRADAError, near
from hylorada.study.claims.catalogue import Catalogue, Claim
from hylorada.study.claims.checks.arithmetic import ARITHMETIC, GAINS
from hylorada.study.claims.checks.costs import COSTS
from hylorada.study.claims.checks.counts import COUNTS
from hylorada.study.claims.checks.growth import GROWTH
from hylorada.study.claims.checks.measured_rows import MEASURED
from hylorada.study.claims.checks.settings import FACTS
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import PLAN, UNTRACEABLE, Finding

SAID = {PLAN: "no result is reported with it", UNTRACEABLE: "no run, log or derivation is given"}


@dataclass(frozen=True)
class Reading:
    """A verdict that rests on reading the documents, with the claim's own setting and note as its reason."""

    verdict: str

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say what was read."""
        note = f" ({claim.note})" if claim.note else ""
        said = f"rests on reading the documents: {claim.quantity}, {claim.shown}: {SAID[self.verdict]}{note}"
        return Finding(self.verdict, said, command="")


PLANS = (
    *("AF-001", "AF-130", "AF-131", "RN-092", "RN-094", "RN-095", "RN-150", "RN-151"),
    *("RM-002", "RM-003", "RM-004", "RM-005", "RM-006", "RM-007", "RM-018", "MT-002", "MT-054", "MT-055", "MT-063"),
    *("MT-100", "MT-101", "MT-102", "MT-103", "MT-104", "AC-001", "AC-002", "AC-010", "AC-020"),
)
GUIDELINES = (
    *("MT-123", "MT-130", "MT-131", "MT-132", "MT-133", "MT-134", "MT-140", "MT-141", "MT-142"),
    *("MT-145", "MT-146", "MT-147", "MT-195", "MT-196", "MT-197", "MT-198", "MT-199", "MT-200", "MT-201"),
    *("MT-216", "MT-217", "MT-218", "MT-219", "MT-220", "MT-221", "MT-222", "MT-223"),
    *("MT-225", "MT-226", "MT-227", "MT-228", "MT-229"),
)
DOCUMENTS = dict.fromkeys(PLANS, Reading(PLAN)) | dict.fromkeys(GUIDELINES, Reading(UNTRACEABLE))


class Check(Protocol):
    """One way to look at a statement."""

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Look at it."""


Rules = Mapping[str, tuple[Check, ...]]
SINGLE = (GAINS, ARITHMETIC, COUNTS, FACTS, COSTS, GROWTH, DOCUMENTS)  # a check a statement, in this order


def all_rules() -> dict[str, tuple[Check, ...]]:
    """Join the tables of checks; measurements come last."""
    rules: dict[str, tuple[Check, ...]] = {}
    for table in SINGLE:
        for name, check in table.items():
            rules[name] = (*rules.get(name, ()), check)
    for name, checks in MEASURED.items():
        rules[name] = (*rules.get(name, ()), *checks)
    return rules


def check_rules(catalogue: Catalogue, rules: Rules) -> None:
    """Hold rules and statements against each other.

    Raises:
        HyLoRADAError: a statement without a rule, or a rule for no statement.
    """
    missing = [claim.id for claim in catalogue if not rules.get(claim.id)]
    if missing:
        raise HyLoRADAError(f"no rule judges {', '.join(missing)}; give each a row in hylorada/study/claims.")
    for name in rules:
        if name not in catalogue.claims:
            raise HyLoRADAError(f"a rule judges {name!r}, which no statement is; {near(name, catalogue.claims)}")
