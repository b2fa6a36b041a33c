"""Levels of stages and the effects between them, from the records: what all tables, figures and sentences rest on."""

from collections.abc import Callable, Mapping, Sequence

from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.plan.registered import read_plan
from hylorada.study.records.records import Records
from hylorada.study.results.reach import with_reach
from hylorada.study.results.statistics import ArticleMeans, Effect, article_means, family_of_effects


def stage_means(
    records: Records, stage: str, means: Callable[[Sequence[TokenNLL]], ArticleMeans] = article_means
) -> ArticleMeans:
    """Return the mean NLL by seed and article of one stage. means: what averages the tokens of its stores.

    Raises:
        HyLoRADAError: the stage has no record, or its tokens were not kept.
    """
    if stage not in records.stages:
        raise HyLoRADAError(f"stage {stage!r} has no record; there are {', '.join(records.stages)}.")
    return means([records.nll(stage, seed) for seed in records.seeds(stage)])


def is_adjusted(records: Records, study: str) -> bool:
    """Tell whether Holm adjusts the effects of a study: those of a plan's primary families, all where none was written.

    Else they are estimates: an interval each, and no verdict.
    """
    planned = any(record.plan is not None for record in records.by_run.values())
    return not planned or read_plan().is_primary(study)


def step_effects(records: Records, against: Mapping[str, str | None], adjusted: bool = True) -> dict[str, Effect]:
    """Return the effect of each row against the one named for it, all of them one family.

    adjusted: whether Holm adjusts their intervals, see `is_adjusted`.

    Raises:
        HyLoRADAError: a stage that another builds on has no record, or two stages have other seeds.
    """
    differences = {}
    for name in records.stages:
        on = against[name]
        if on is None:
            continue
        if records.seeds(on) != [None] and records.seeds(on) and records.seeds(on) != records.seeds(name):
            raise HyLoRADAError(
                f"stage {name!r} has the seeds {records.seeds(name)} and {on!r} has {records.seeds(on)}; "
                "effects are paired by seed, so run the same of both."
            )
        differences[name] = stage_means(records, name) - stage_means(records, on)
    return with_reach(records, family_of_effects(differences, adjusted=adjusted), against)
