"""Published gains and levels of perplexity, judged by runs: as published, corrected, and on another base or text.

Under the published procedure the metric is the published one; under the corrected one it is corpus perplexity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hylorada.errors import HyLoRADAError, near
from hylorada.metrics import MIDDLE_TOKENS
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import PUBLISHED_STUDIES, Evidence, Pair, run_names
from hylorada.study.claims.thresholds import TRANSFER, effect_column, level_column, log_ratio
from hylorada.study.claims.verdict import (
    DOES_NOT_TRANSFER,
    INCONCLUSIVE,
    NOT_RUN,
    TRANSFERS,
    UNDECIDED,
    Column,
    Finding,
)
from hylorada.study.plan.ablation import UNTOUCHED
from hylorada.study.plan.studies import STUDIES, check_rows
from hylorada.study.results.published_metrics import line_means, published_lines

PROTOCOL_WORDS = {"as_published": "as published", "corrected": "corrected"}  # names of protocols, in words
MEASURED_BY = {  # a metric of a published study, and of any other, see `evidence.COMPARISONS`
    "perplexity": ("lines", "corpus"),
    "lim_ppl": ("deciles", "deciles_of_text"),
}


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

    @property
    def stands_on(self) -> str:
        """Say where its rows have a part that no published run had."""
        adapters = [STUDIES[self.study].rows.get(name, UNTOUCHED).adapter for name in self.pair]
        gated = any(one and one.use_dora_magnitude and one.magnitude_gated for one in adapters)
        return "with the magnitude gated, which was published plain, " if gated else ""

    def judged(self, evidence: Evidence, published: float) -> Column:
        """Hold the effect against the published log ratio."""
        column = effect_column(evidence.effect(self.study, self.pair, self.metric), published)
        return replace(column, detail=self.stands_on + column.detail)


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
            lacking = " and ".join(source.study for source in ran)
            reason = f"no text of {lacking} has the {MIDDLE_TOKENS} tokens of LIM-PPL"
            return Finding(NOT_RUN, f"{reason}, published {claim.shown}", command=evidence.command(ran[0].study))
        judged = {source.column: source.judged(evidence, published) for source in there}
        records = tuple(name for s in there for name in run_names(evidence.records(s.study), *s.pair))
        command = evidence.command(there[0].study)
        return own_or_transferred(evidence, [s.study for s in there], judged, records, command)


def effect(metric: str = "perplexity", **rows: Pair) -> Step:
    """Return the check of a row against another, by study.

    Raises:
        HyLoRADAError: no study is named, or there is no such metric, study or row.
    """
    if metric not in MEASURED_BY:
        raise HyLoRADAError(f"the metric {metric!r} is not known; {near(metric, MEASURED_BY)}")
    if not rows:
        raise HyLoRADAError("it names no study; give one as `study: [row, the row it is held against]`.")
    sources = []
    for study, pair in rows.items():
        check_pair(study, pair)
        sources.append(Source(study, pair, MEASURED_BY[metric][study not in PUBLISHED_STUDIES]))
    return Step(tuple(sources))


def step(stage: str, against: str) -> Step:
    """Return the check of a stage of the ablation against another, as published and corrected."""
    published = (f"published_{stage}", f"published_{against}")
    return effect(as_published=published, ablation=(stage, against))


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


def level(**row: str) -> Level:
    """Return the check of a row, by its study.

    Raises:
        HyLoRADAError: not one study is named, or there is no such study or row.
    """
    study, name = one_study(row)
    check_rows(study, name)
    return Level(study, name)


def one_study(rows: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the study that is named, with what is named of it (HyLoRADAError: not one)."""
    if len(rows) != 1:
        raise HyLoRADAError(f"one study is to be named, as `study: rows`; there are {len(rows)}.")
    return next(iter(rows.items()))


def check_pair(study: str, pair: Pair) -> None:
    """Hold the names of two rows of a study against the plan (HyLoRADAError: they are not two, or not there)."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise HyLoRADAError(f"{study} is given {pair!r}; give two rows, one and the one it is held against.")
    check_rows(study, *pair)


def not_run(evidence: Evidence, *studies: str) -> Finding:
    """Return that a scale lacks the runs."""
    named = " or ".join(dict.fromkeys(studies))
    reason = f"the scale {evidence.settings.scale} has no runs of {named} for it"
    return Finding(NOT_RUN, reason, command=f"hylorada run --study {studies[0]}")


def own_or_transferred(
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
    details = "; ".join(f"{PROTOCOL_WORDS[name]}, {column.detail}" for name, column in judged.items())
    first = next(iter(judged.values()))
    if all(evidence.is_own_setting(study) for study in studies):
        return Finding(first.verdict, details, judged, records, command)
    verdicts = [f"{PROTOCOL_WORDS[name]}: {column.verdict}, {column.detail}" for name, column in judged.items()]
    by_study = list(zip(studies, judged.values(), strict=True))
    too_short = [study for study, column in by_study if column.verdict != INCONCLUSIVE and not evidence.is_whole(study)]
    decided = [c.verdict for study, c in by_study if c.verdict != INCONCLUSIVE and study not in too_short]
    if too_short:
        verdicts.append(f"trained on less than published in {' and '.join(too_short)}, so it decides nothing")
    column = Column(TRANSFER[(decided or [INCONCLUSIVE])[0]], "; ".join(verdicts))
    words = {TRANSFERS: "it transfers to", DOES_NOT_TRANSFER: "it does not transfer to", UNDECIDED: "undecided on"}
    reason = f"{words[column.verdict]} {_elsewhere(evidence)}: {details}"
    return Finding(NOT_RUN, reason, {"transfers": column}, records, command)


def _elsewhere(evidence: Evidence) -> str:
    return f"{evidence.settings.base} and {evidence.settings.corpus}"
