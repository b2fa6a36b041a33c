"""Statements about perplexity, judged by runs: each as published, corrected, and on another base or text.

Under the published procedure the metric is the published one; under the corrected one it is corpus perplexity.
"""

from dataclasses import dataclass, replace

import numpy as np

from hylorada.landmark_redesigns import PooledLandmark
from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.checks import built
from hylorada.study.claims.evidence import PUBLISHED_STUDIES, Evidence, Pair, run_names
from hylorada.study.claims.thresholds import TRANSFER, effect_column, effect_words, level_column, log_ratio
from hylorada.study.claims.verdict import (
    DOES_NOT_TRANSFER,
    INCONCLUSIVE,
    MATCH,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    STRUCTURAL_ZERO,
    TRANSFERS,
    UNDECIDED,
    Column,
    Finding,
)
from hylorada.study.results.published_metrics import DECILE_TOKENS, line_means, published_lines
from hylorada.study.results.statistics import NEGLIGIBLE, Effect

COLUMNS = {"as_published": "as published", "corrected": "corrected"}  # names of protocols, in words
OF_THE_DOCUMENTS = ("abl", "lm", "recommended")  # settings of statements about GPT-2 and WikiText-2


@dataclass(frozen=True)
class Source:
    """Where an effect or a level is measured: a study, its rows, and the metric."""

    study: str
    pair: Pair
    metric: str

    @property
    def column(self) -> str:
        """The protocol that the study follows."""
        return "as_published" if self.study in PUBLISHED_STUDIES else "corrected"


@dataclass(frozen=True)
class Step:
    """A published gain in percent, held against the same comparison under each protocol that was run.

    Its verdict is that of the published procedure, or of the corrected one where the former was not run.
    """

    sources: tuple[Source, ...]

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Judge under each protocol; on another base or text only whether it transfers."""
        published = log_ratio(claim.number)
        ran = [source for source in self.sources if evidence.has(source.study, *source.pair)]
        if not ran:
            return not_run(evidence, *(source.study for source in self.sources))
        there = [source for source in ran if evidence.is_measurable(source.study, source.pair[0], source.metric)]
        if not there:
            said = (
                f"no text of {' and '.join(source.study for source in ran)} has the {DECILE_TOKENS} tokens of LIM-PPL"
            )
            return Finding(NOT_RUN, f"{said}, published {claim.shown}", command=evidence.command(ran[0].study))
        judged = {
            source.column: effect_column(evidence.effect(source.study, source.pair, source.metric), published)
            for source in there
        }
        records = tuple(name for s in there for name in run_names(evidence.records(s.study), *s.pair))
        command = evidence.command(there[0].study)
        return _own_or_transferred(evidence, [s.study for s in there], judged, records, command)


@dataclass(frozen=True)
class Level:
    """A published perplexity, held against the same level over our seeds, by the published metric."""

    study: str
    row: str

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Judge on the published base and text; a level says nothing about another."""
        if not evidence.has(self.study, self.row):
            return not_run(evidence, self.study)
        records = evidence.records(self.study)
        assert records is not None
        levels = line_means(published_lines(records, self.row)).by_seed
        about = dict(records=run_names(records, self.row), command=evidence.command(self.study))
        if not evidence.is_own_setting(self.study):
            return Finding(
                NOT_RUN, f"a level of {_elsewhere(evidence)}, here {np.mean(levels):.2f}, says nothing of it", **about
            )
        column = level_column(levels, claim.number, deterministic=records.seeds(self.row) == [None])
        return Finding(column.verdict, column.detail, {"as_published": column}, **about)


@dataclass(frozen=True)
class Inert:
    """A part that does nothing as published: at equal seed its row gives the very NLL of the row without it."""

    row: str
    without: str
    study: str = "as_published"

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Take the largest difference of any token; where it is not zero, the part acts, and the next check decides."""
        if not evidence.has(self.study, self.row, self.without):
            return not_run(evidence, self.study)
        records = evidence.records(self.study)
        assert records is not None
        seeds = records.seeds(self.row)
        differences = [np.abs(records.nll(self.row, s).nll - records.nll(self.without, s).nll).max() for s in seeds]
        largest = float(max(differences))
        said = f"largest difference of NLL at equal seed between {self.row} and {self.without}: {largest:g} nats "
        said += f"({len(seeds)} seed{'s' * (len(seeds) > 1)}), published {claim.shown}"
        verdict = STRUCTURAL_ZERO if largest == 0 else MATCH
        about = dict(records=run_names(records, self.row, self.without), command=evidence.command(self.study))
        return Finding(verdict, said, passes=largest != 0, **about)


@dataclass(frozen=True)
class Unmoved:
    """A module that was in no optimiser as published: none of its numbers moved from its random start.

    decides: whether that settles the statement, or is only told beside what does.
    """

    row: str
    part: str
    decides: bool = True
    study: str = "as_published"

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Count what moved over all seeds."""
        if not evidence.has(self.study, self.row):
            return replace(not_run(evidence, self.study), passes=not self.decides)
        records = evidence.records(self.study)
        assert records is not None
        moved = [records.record(self.row, seed)["moved"][self.part] for seed in records.seeds(self.row)]
        changed, entries = (sum(part[name] for part in moved) for name in ("changed", "entries"))
        said = f"{changed:,} of the {entries:,} numbers of the {self.part} module of {self.row} moved in training"
        if changed == 0 and self.decides:
            said += f", published {claim.shown}"
        verdict = STRUCTURAL_ZERO if changed == 0 else MATCH
        about = dict(records=run_names(records, self.row), command=evidence.command(self.study))
        return Finding(verdict, said, passes=changed != 0 or not self.decides, **about)


@dataclass(frozen=True)
class NotCausal:
    """A design whose gates see later tokens, tried on one module; its perplexity is none. causal: measured instead."""

    pool: str
    causal: Step

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Change the last token and see whether earlier outputs change; tell what the causal design gives."""
        module = PooledLandmark(8, 4, pooling="sequence", pool=self.pool)
        if not built.sees_the_future(module):
            return self.causal.find(claim, evidence)
        about = self.causal.find(claim, evidence)
        said = (
            f"a changed last token changes what the module adds to earlier ones ({self.pool} over the whole sequence)"
        )
        said += f", published {claim.shown}; the causal design: {about.reason}"
        return Finding(NOT_MEASURABLE, said, about.columns, about.records, about.command)


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
        found = [judge(effect) for effect in effects.values()]
        verdict = REPRODUCED if all(found) else NOT_REPRODUCED if False in found else INCONCLUSIVE
        said = "; ".join(f"{arm} against {on}: {effect_words(effect)}" for (arm, on), effect in effects.items())
        records = evidence.records(self.study)
        assert records is not None
        names = run_names(records, *dict.fromkeys(row for pair in self.pairs for row in pair))
        column = {"corrected": Column(verdict, said)}
        if claim.setting in OF_THE_DOCUMENTS:
            return _own_or_transferred(evidence, [self.study], column, names, evidence.command(self.study))
        return Finding(verdict, f"{said}; published {claim.shown}", column, names, evidence.command(self.study))


@dataclass(frozen=True)
class Beyond:
    """A statement about lengths that no study reaches."""

    length: int
    studies: tuple[str, ...]

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Say how long the longest window of the scale is."""
        windows = [evidence.settings.block_tokens]
        for study in self.studies:
            if study in evidence.settings.studies:
                rows = evidence.settings.rows(study).values()
                windows += [row.changes.get("block_tokens", 0) for row in rows]
        named = ", ".join(("the ablation", *self.studies))
        said = f"the longest window of {named} is {max(windows):,} tokens here, and it takes more than {self.length:,}"
        return Finding(NOT_RUN, f"{said}, published {claim.shown}")


def not_run(evidence: Evidence, *studies: str) -> Finding:
    """Return that a scale lacks the runs."""
    named = " or ".join(dict.fromkeys(studies))
    said = f"the scale {evidence.settings.scale} has no runs of {named} for it"
    return Finding(NOT_RUN, said, command=f"hylorada run --study {studies[0]}")


def _own_or_transferred(
    evidence: Evidence,
    studies: list[str],
    judged: dict[str, Column],
    records: tuple[str, ...],
    command: str,
) -> Finding:
    """Return columns and verdict of the published base and text, or the one column about another.

    Whether an effect transfers is said by the published procedure, or where that is inconclusive by the corrected one;
    a study that trains on less than was published can say neither.
    """
    said = "; ".join(f"{COLUMNS[name]}, {column.detail}" for name, column in judged.items())
    first = next(iter(judged.values()))
    if all(evidence.is_own_setting(study) for study in studies):
        return Finding(first.verdict, said, judged, records, command)
    verdicts = [f"{COLUMNS[name]}: {column.verdict}, {column.detail}" for name, column in judged.items()]
    by_study = list(zip(studies, judged.values(), strict=True))
    too_short = [study for study, column in by_study if column.verdict != INCONCLUSIVE and not evidence.is_whole(study)]
    decided = [c.verdict for study, c in by_study if c.verdict != INCONCLUSIVE and study not in too_short]
    if too_short:
        verdicts.append(f"trained on less than published in {' and '.join(too_short)}, so it decides nothing")
    column = Column(TRANSFER[(decided or [INCONCLUSIVE])[0]], "; ".join(verdicts))
    words = {TRANSFERS: "it transfers to", DOES_NOT_TRANSFER: "it does not transfer to", UNDECIDED: "undecided on"}
    said = f"{words[column.verdict]} {_elsewhere(evidence)}: {said}"
    return Finding(NOT_RUN, said, {"transfers": column}, records, command)


def _elsewhere(evidence: Evidence) -> str:
    return f"{evidence.settings.base} and {evidence.settings.corpus}"


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
