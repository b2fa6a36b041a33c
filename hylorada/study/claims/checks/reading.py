"""Statements that no program settles: plans, and numbers of which nothing is known."""

from dataclasses import dataclass

from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import PLAN, UNTRACEABLE, Finding

REASONS = {PLAN: "no result is reported with it", UNTRACEABLE: "no run, log or derivation is given"}


@dataclass(frozen=True)
class Reading:
    """A verdict that rests on reading the documents, with the claim's own setting and note as its reason."""

    verdict: str

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say what was read."""
        note = f" ({claim.note})" if claim.note else ""
        told = f"rests on reading the documents: {claim.quantity}, {claim.shown}: {REASONS[self.verdict]}{note}"
        return Finding(self.verdict, told, command="")
