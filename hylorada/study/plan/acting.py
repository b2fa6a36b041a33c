"""Which settings the runs of a scale hang on; one that none of them hangs on is refused. Needs no torch.

A protocol fixes some facts of training and scoring, a row replaces some settings of its scale, and a study brings a
budget of its own. What is left of a setting then may be nothing, and a number that acts nowhere misleads who reads it.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.protocol import GIVEN, OPTIMISER
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.settings import Settings

SETTINGS = {field.name for field in fields(Settings)}
CARRIES_OUT = ("scale", "threads")  # no run hangs on them, only how it is carried out and what the scale is called
WHICH_RUNS = ("studies", "seeds")  # they say which runs there are
OF_TRAINING = {  # without which an untouched base is scored
    *("adapter", "target_modules", "gradient_checkpointing", "checkpoint_every", "tuned_rates", "train_tokens"),
    *("train_lines", "line_characters", "step_rows", "part_rates", "step_tokens"),
    *(name for name in OPTIMISER if name in SETTINGS),
}


def check_each_acts(settings: Settings, names: Collection[str]) -> None:
    """Hold some settings of a scale to its runs: each has to act in one of them, or say what they do anyway.

    With `studies` among the names, each budget is held so to the rows of its study too.

    Raises:
        HyLoRADAError: one acts in no run.
    """
    acting, instead = set(CARRIES_OUT + WHICH_RUNS), {"bases": [settings.base]}
    for study in settings.tables:
        budget = settings.studies.get(study, {})
        measures = budget.get("measures", settings.measures)
        in_study = {"seeds", "rows"}
        for row in settings.rows(study).values():
            fixed = _fixed(row.changes.get("protocol", settings.protocol), "lines" in measures)
            untrained = OF_TRAINING if row.adapter is None else ()
            in_study |= SETTINGS.difference(fixed, row.changes, untrained)
            instead = fixed | instead
        acting |= in_study - budget.keys() - {"bases"} | ({"bases"} if study == "bases" else set())
        if "studies" in names:
            usual = {name: [getattr(settings, name), instead.get(name)] for name in budget.keys() & SETTINGS}
            _check(budget, in_study, usual, f"scale {settings.scale!r}, studies, {study}, {{}} acts in no run of it")
    given, usual = {name: getattr(settings, name) for name in names}, {name: [value] for name, value in instead.items()}
    _check(given, acting, usual, f"scale {settings.scale!r}, {{}} acts in no run of this scale")


@cache
def _fixed(protocol: str, scores_lines: bool) -> dict[str, Any]:
    """Return the settings that do nothing under a protocol, with what stands in their place."""
    facts = PROTOCOLS[protocol]
    fixed = {name: value for name in OPTIMISER if name in SETTINGS and (value := getattr(facts, name)) != GIVEN}
    if "learning_rate" in fixed:
        fixed["tuned_rates"] = {}
    if facts.training_text is None:
        unread = dict.fromkeys(("train_lines", "line_characters", "step_rows"))
        return fixed | unread | ({} if scores_lines else {"line_tokens": None})
    return fixed | {
        "train_tokens": None,
        "step_tokens": None,
        "part_rates": {},
        "block_tokens": facts.block_tokens,
        "evaluation_split": facts.evaluation_text.split,
        "evaluation_stride": facts.evaluation_tokens,
        "test_articles": None,
        "test_tokens_per_article": None,
    }


def _check(given: Mapping[str, Any], acting: Collection[str], usual: Mapping[str, list[Any]], told: str) -> None:
    for name, value in given.items():
        if name not in acting and value not in usual.get(name, []):
            there = f" (there it is {usual[name][-1]!r})" if name in usual else ""
            raise HyLoRADAError(f"{told.format(f'{name}: {value!r}')}{there}; leave it out.")
