"""Statements that no program can settle: plans, settings of examples, dates, and numbers without a run behind them."""

from dataclasses import dataclass

from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.finding import PLAN, UNTRACEABLE, Finding

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
