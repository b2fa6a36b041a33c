"""From statements, rules and records to verdicts: `judge`, and what is written of it as JSON."""

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.files import write_json
from hylorada.study.claims.catalogue import Catalogue, load_catalogue
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.rules import load_rules
from hylorada.study.claims.verdict import VERDICTS, Finding, settle
from hylorada.study.plan.budget import cut_words
from hylorada.study.plan.settings import Settings

COLUMN_ORDER = ("as_published", "corrected", "transfers")


@dataclass(frozen=True)
class Judgement:
    """The verdict on every statement at one scale, and the evidence it rests on."""

    catalogue: Catalogue
    evidence: Evidence
    findings: dict[str, Finding]

    @property
    def settings(self) -> Settings:
        """The scale."""
        return self.evidence.settings

    @property
    def published_cut(self) -> str:
        """How far the records cut the published procedure, as `cut_words` says it."""
        published = self.evidence.records("as_published")
        return cut_words(published and published.asked)

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of all records that were read, in hexadecimal."""
        read = {study: records.digest for study, records in sorted(self.evidence.loaded.items())}
        return sha256(json.dumps(read).encode()).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """How many statements have each verdict, in the order of VERDICTS; a verdict that none has is left out."""
        counts = Counter(finding.verdict for finding in self.findings.values())
        return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}

    def row(self, claim: Claim) -> dict[str, Any]:
        """Return all there is to say about a statement, as plain values."""
        finding = self.findings[claim.id]
        columns = {name: vars(finding.columns[name]) for name in COLUMN_ORDER if name in finding.columns}
        return {
            "id": claim.id,
            "source": claim.source,
            "quantity": claim.quantity,
            "setting": self.catalogue.settings[claim.setting],
            "claimed": claim.shown,
            "as_change": claim.as_change,
            "relative_to": claim.relative_to,
            "kind": claim.kind,
            "verdict": finding.verdict,
            "columns": columns,
            "reason": _reason(claim, finding),
            "command": finding.command,
            "records": list(finding.records),
            "contradicted_by": list(claim.contradicted_by),
        }

    def by_verdict(self, contradiction: str) -> dict[str, list[str]]:
        """Return the statements of a contradiction by the verdict that they got."""
        names: dict[str, list[str]] = {}
        for name in self.catalogue.contradictions[contradiction].claims:
            names.setdefault(self.findings[name].verdict, []).append(name)
        return {verdict: names[verdict] for verdict in VERDICTS if verdict in names}

    def decided_by(self, contradiction: str) -> str:
        """Say what settles a contradiction: the verdicts that its statements got."""
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in self.by_verdict(contradiction).items())

    def as_json(self) -> dict[str, Any]:
        """Return the whole judgement as plain values."""
        return {
            "scale": self.settings.scale,
            "records_digest": self.digest,
            "published_cut": self.published_cut,
            "base": self.settings.base,
            "corpus": self.settings.corpus,
            "counts": self.counts,
            "claims": [self.row(claim) for claim in self.catalogue],
            "contradictions": [
                {
                    "id": row.id,
                    "statement": row.statement,
                    "claims": list(row.claims),
                    "decided_by": self.decided_by(row.id),
                }
                for row in self.catalogue.contradictions.values()
            ],
        }


def judge(settings: Settings, folder: Path) -> Judgement:
    """Judge every statement by the records of a scale that lie in a folder.

    Raises:
        HyLoRADAError: a statement and its checks do not fit, or a record that the scale has is missing or does not fit.
    """
    catalogue = load_catalogue()
    rules = load_rules(catalogue)
    evidence = Evidence(settings, Path(folder))
    evidence.records("ablation")
    findings = {claim.id: settle([check.find(claim, evidence) for check in rules[claim.id]]) for claim in catalogue}
    return Judgement(catalogue, evidence, findings)


def _reason(claim: Claim, finding: Finding) -> str:
    """Return what the check says and, after it, what reading the documents found, where the check does not say it."""
    reason = f"{finding.reason[0].upper()}{finding.reason[1:]}."
    return reason if not claim.note or claim.note in reason else f"{reason} Found in reading: {claim.note}."


def write_judgement(judgement: Judgement, path: Path) -> None:
    """Write `results/claims.json`."""
    write_json(path, judgement.as_json())
