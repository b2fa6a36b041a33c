"""Every statement with the checks that settle it, in their order: what can be had without a run first."""

from collections.abc import Mapping
from typing import Protocol

from hylorada.errors import HyLoRADAError, near
from hylorada.study.claims.arithmetic import ARITHMETIC, GAINS
from hylorada.study.claims.catalogue import Catalogue, Claim
from hylorada.study.claims.costs import COSTS
from hylorada.study.claims.counts import COUNTS
from hylorada.study.claims.documents import DOCUMENTS
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.facts import FACTS
from hylorada.study.claims.finding import Finding
from hylorada.study.claims.growth import GROWTH
from hylorada.study.claims.measured_rows import MEASURED


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
