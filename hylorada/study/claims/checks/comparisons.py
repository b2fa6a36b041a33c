"""Statements in words about perplexity, judged by several comparisons of one study, or that no study reaches."""

from collections.abc import Sequence
from dataclasses import dataclass

from hylorada.study.claims.checks.measured import check_pair, not_run, one_study, own_or_transferred
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence, Pair, run_names
from hylorada.study.claims.thresholds import effect_words
from hylorada.study.claims.verdict import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Column, Finding
from hylorada.study.plan.studies import check_rows
from hylorada.study.results.statistics import NEGLIGIBLE, Effect

OF_THE_DOCUMENTS = ("abl", "lm", "recommended")  # settings of statements about GPT-2 and WikiText-2


@dataclass(frozen=True)
class Holds:
    """A statement in words about several comparisons of one study.

    better: each pair's first is to have the lower perplexity; else it is to be no worse by more than is of interest.
    """

    study: str
    pairs: tuple[Pair, ...]
    better: bool
    metric: str = "corpus"

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """All pairs have to hold; one that fails is enough against it."""
        if not evidence.has(self.study, *(row for pair in self.pairs for row in pair)):
            return not_run(evidence, self.study)
        effects = evidence.effects(self.study, self.pairs, self.metric)
        judge = _is_better if self.better else _is_no_worse
        decided = [judge(effect) for effect in effects.values()]
        verdict = REPRODUCED if all(decided) else NOT_REPRODUCED if False in decided else INCONCLUSIVE
        words = "; ".join(f"{arm} against {on}: {effect_words(effect)}" for (arm, on), effect in effects.items())
        records = evidence.records(self.study)
        assert records is not None
        names = run_names(records, *dict.fromkeys(row for pair in self.pairs for row in pair))
        column = {"corrected": Column(verdict, words)}
        if claim.setting in OF_THE_DOCUMENTS:
            return own_or_transferred(evidence, [self.study], column, names, evidence.command(self.study))
        return Finding(verdict, f"{words}; published {claim.shown}", column, names, evidence.command(self.study))


def holds(better: bool, **pairs: Sequence[Pair]) -> Holds:
    """Return the check of pairs of rows, by their study.

    Raises:
        HyLoRADAError: not one study is named, or there is no such study or row.
    """
    study, rows = one_study(pairs)
    for pair in rows:
        check_pair(study, pair)
    return Holds(study, tuple(rows), better)


@dataclass(frozen=True)
class Beyond:
    """A statement about lengths that no study reaches."""

    length: int
    studies: tuple[str, ...]

    def __post_init__(self) -> None:
        for study in self.studies:
            check_rows(study)

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say how long the longest window of the scale is."""
        windows = [evidence.settings.block_tokens]
        for study in self.studies:
            if study in evidence.settings.studies:
                rows = evidence.settings.rows(study).values()
                windows += [row.changes.get("block_tokens", 0) for row in rows]
        named = ", ".join(("the ablation", *self.studies))
        reason = (
            f"the longest window of {named} is {max(windows):,} tokens here, and it takes more than {self.length:,}"
        )
        return Finding(NOT_RUN, f"{reason}, published {claim.shown}")


def _is_better(effect: Effect) -> bool | None:
    if effect.is_negligible or (effect.is_resolved and effect.mean > 0):
        return False
    return True if effect.is_resolved else None


def _is_no_worse(effect: Effect) -> bool | None:
    if effect.interval is None or effect.equivalence is None or effect.equivalence_check is None:
        return None
    if effect.is_resolved and effect.mean > NEGLIGIBLE[1]:
        return False
    ends = effect.equivalence.high, effect.equivalence_check.high
    return True if max(ends) < NEGLIGIBLE[1] else None
