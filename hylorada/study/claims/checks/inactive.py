"""Statements about parts that did not do as published what they are said to do, judged by runs and by a module."""

from dataclasses import dataclass, replace

import numpy as np

from hylorada.errors import HyLoRADAError, near
from hylorada.landmark_redesigns import POOLS, PooledLandmark
from hylorada.study.claims.checks import built
from hylorada.study.claims.checks.measured import Step, effect, not_run
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence, Pair, run_names
from hylorada.study.claims.verdict import MATCH, NOT_MEASURABLE, STRUCTURAL_ZERO, Finding
from hylorada.study.plan.studies import check_rows

STUDY = "as_published"


@dataclass(frozen=True)
class Inert:
    """A part that does nothing as published: at equal seed its row gives the very NLL of the row without it."""

    row: str
    without: str

    def __post_init__(self) -> None:
        check_rows(STUDY, self.row, self.without)

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Take the largest difference of any token; where it is not zero, the part acts, and the next check decides."""
        if not evidence.has(STUDY, self.row, self.without):
            return not_run(evidence, STUDY)
        records = evidence.records(STUDY)
        assert records is not None
        seeds = records.seeds(self.row)
        differences = [np.abs(records.nll(self.row, s).nll - records.nll(self.without, s).nll).max() for s in seeds]
        largest = float(max(differences))
        reason = f"largest difference of NLL at equal seed between {self.row} and {self.without}: {largest:g} nats "
        reason += f"({len(seeds)} seed{'s' * (len(seeds) > 1)}), published {claim.shown}"
        verdict = STRUCTURAL_ZERO if largest == 0 else MATCH
        about = dict(records=run_names(records, self.row, self.without), command=evidence.command(STUDY))
        return Finding(verdict, reason, passes=largest != 0, **about)


@dataclass(frozen=True)
class Unmoved:
    """A module that was in no optimiser as published: none of its numbers moved from its random start.

    decides: whether that settles the statement, or is only told beside what does.
    """

    row: str
    part: str
    decides: bool = True

    def __post_init__(self) -> None:
        check_rows(STUDY, self.row)

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Count what moved over all seeds."""
        if not evidence.has(STUDY, self.row):
            return replace(not_run(evidence, STUDY), passes=not self.decides)
        records = evidence.records(STUDY)
        assert records is not None
        moved = [records.record(self.row, seed).moved for seed in records.seeds(self.row)]
        if self.part not in moved[0]:
            raise HyLoRADAError(f"{claim.id} speaks of a module {self.part!r}; {near(self.part, moved[0])}")
        changed = sum(modules[self.part].changed for modules in moved)
        entries = sum(modules[self.part].entries for modules in moved)
        reason = f"{changed:,} of the {entries:,} numbers of the {self.part} module of {self.row} moved in training"
        if changed == 0 and self.decides:
            reason += f", published {claim.shown}"
        verdict = STRUCTURAL_ZERO if changed == 0 else MATCH
        about = dict(records=run_names(records, self.row), command=evidence.command(STUDY))
        return Finding(verdict, reason, passes=changed != 0 or not self.decides, **about)


@dataclass(frozen=True)
class NotCausal:
    """A design whose gates see later tokens, tried on one module; its perplexity is none. causal: measured instead."""

    pool: str
    causal: Step

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Change the last token and see whether earlier outputs change; tell what the causal design gives."""
        causal = self.causal.find(claim, evidence)
        if not built.sees_the_future(PooledLandmark(8, 4, pooling="sequence", pool=self.pool)):
            return causal
        reason = f"a changed last token changes what the module adds to earlier ones ({self.pool} over the whole "
        reason += f"sequence), published {claim.shown}; the causal design: {causal.reason}"
        return Finding(NOT_MEASURABLE, reason, causal.columns, causal.records, causal.command)


def not_causal(pool: str, metric: str = "perplexity", **causal: Pair) -> NotCausal:
    """Return the check of a pooled design; causal: the comparison of its causal form, by study."""
    known = {name for name, _ in POOLS}
    if pool not in known:
        raise HyLoRADAError(f"the pool {pool!r} is not known; {near(pool, known)}")
    return NotCausal(pool, effect(metric, **causal))
