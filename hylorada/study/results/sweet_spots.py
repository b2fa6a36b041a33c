"""The sweet spot of a sweep: the smallest row that the seeds cannot tell from the best one."""

from collections.abc import Sequence
from dataclasses import dataclass

from hylorada.study.records.records import Records
from hylorada.study.results.effects import stage_means
from hylorada.study.results.statistics import family_of_effects, percent


@dataclass(frozen=True)
class SweetSpot:
    """best: the row of the lowest perplexity. smallest: the first row that is not resolved from it, or the best itself.

    detectable: the smallest difference between the two, in percent of perplexity, that so many seeds find with a chance
    of 80 %; None where they are one row. smallest is None with fewer than two seeds: then nothing can be told apart, so
    that nothing may be called equal either.
    """

    best: str
    smallest: str | None
    detectable: float | None = None


def sweet_spot(records: Records, rows: Sequence[str]) -> SweetSpot:
    """Return the sweet spot of rows that come smallest first; all comparisons with the best are one family (Holm)."""
    means = {row: stage_means(records, row) for row in rows}
    best = min(means, key=lambda row: means[row].mean)
    if len(means[best].values) < 2:
        return SweetSpot(best, None)
    smaller = rows[: list(rows).index(best)]
    effects = family_of_effects({row: means[row] - means[best] for row in rows if row != best})
    for row in smaller:
        if not effects[row].is_resolved:
            return SweetSpot(best, row, percent(effects[row].detectable))
    return SweetSpot(best, best)
