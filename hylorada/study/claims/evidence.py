"""What checks may look at beside the statements: the records of a scale, and the measured costs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hylorada.metrics import MIDDLE_TOKENS
from hylorada.study.plan.budget import planned_steps, published_steps
from hylorada.study.plan.protocols import AS_PUBLISHED, PROTOCOLS
from hylorada.study.plan.published import OWN_BASE, OWN_CORPUS
from hylorada.study.plan.runs import plan
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records, study_records
from hylorada.study.results.cost import read_benchmark
from hylorada.study.results.effects import stage_means
from hylorada.study.results.published_metrics import decile_ratio, line_ratio, published_lines
from hylorada.study.results.reach import reach_of
from hylorada.study.results.statistics import Comparison, Effect, family_of_effects

Pair = tuple[str, str]  # a row and the one that it is held against


@dataclass
class Evidence:
    """The evidence of one scale; each study's records are read once, when a check first asks for them."""

    settings: Settings
    folder: Path
    _read: dict[str, Records | None] = field(default_factory=dict)
    _found: dict[tuple[str, str], dict[Pair, Effect]] = field(default_factory=dict)

    def records(self, study: str) -> Records | None:
        """Return the records of a study, None where the scale does not have the study.

        Raises:
            HyLoRADAError: the scale has it and a record is missing or does not fit.
        """
        if study not in self._read:
            there = study in self.settings.tables
            self._read[study] = study_records(self.settings, study, self.folder) if there else None
        return self._read[study]

    @property
    def loaded(self) -> dict[str, Records]:
        """Return the records read so far, by study."""
        return {study: records for study, records in self._read.items() if records is not None}

    def has(self, study: str, *rows: str) -> bool:
        """Tell whether the scale has a study and all of these rows of it."""
        records = self.records(study)
        return records is not None and set(rows) <= set(records.stages)

    def is_measurable(self, study: str, row: str, metric: str) -> bool:
        """Tell whether a row has text enough for a metric: LIM-PPL takes texts of MIDDLE_TOKENS tokens."""
        records = self.records(study)
        if records is None or not metric.startswith("deciles"):
            return records is not None
        seed = records.seeds(row)[0]
        store = (records.lines(row, seed) if metric == "deciles" else records.nll(row, seed)).first_windows()
        return bool(store.text_means()[2].max() + 1 >= MIDDLE_TOKENS)

    def effect(self, study: str, pair: Pair, metric: str) -> Effect:
        """Return the effect of a row against another by a metric of COMPARISONS.

        The steps of a study, each row against the one it is held against there, are one family, adjusted together;
        any other pair stands alone.
        """
        family = self._found.setdefault((study, metric), {})
        if pair not in family:
            records = self.records(study)
            assert records is not None
            steps = [step for step in own_steps(study) if set(step) <= set(records.stages)]
            together = steps if pair in steps else [pair]
            family |= self._with_reach(records, {step: COMPARISONS[metric](records, step) for step in together})
        return family[pair]

    def effects(self, study: str, pairs: Sequence[Pair], metric: str) -> dict[Pair, Effect]:
        """Return the effects of comparisons that one statement makes together, adjusted for all of them."""
        records = self.records(study)
        assert records is not None
        return self._with_reach(records, {pair: COMPARISONS[metric](records, pair) for pair in pairs})

    def _with_reach(self, records: Records, compared: dict[Pair, Comparison]) -> dict[Pair, Effect]:
        """Return the effects of comparisons that are made together, each with how large it could have been."""
        found = family_of_effects(compared)
        by_row, against = {row: effect for (row, _), effect in found.items()}, {row: on for row, on in found}
        return {p: replace(effect, reach=reach_of(records, *p, by_row, against)) for p, effect in found.items()}

    def is_own_setting(self, study: str) -> bool:
        """Whether base, text and amounts of a study are those of the published results, lines of a step among them."""
        settings = self.settings.for_study(study)
        own = re.fullmatch(OWN_BASE, settings.base) and re.fullmatch(OWN_CORPUS, settings.corpus)
        cut = settings.step_rows, settings.line_characters
        return bool(own and self.is_whole(study) and (study not in PUBLISHED_STUDIES or cut == (None, None)))

    def is_whole(self, study: str) -> bool:
        """Whether a study trains on no less than the published ablation, and scores no fewer of the published lines.

        That is in as many steps as were published, of however many lines each, or on as many tokens.
        """
        of_lines, settings = study in PUBLISHED_STUDIES, self.settings.for_study(study)
        if of_lines and settings.measures.get("lines") is not None:
            return False
        enough = None if of_lines else settings.train_tokens
        if not of_lines and (enough is None or enough >= PUBLISHED_TOKENS):
            return True
        asked = [runs[0].specification for runs in plan(self.settings, study).values()]
        published = published_steps(PROTOCOLS[study] if of_lines else AS_PUBLISHED)
        return all(planned_steps(one) >= published for one in asked if one.training is not None)

    @cached_property
    def costs(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The measured costs of `hylorada bench`: section -> name -> row."""
        sections = read_benchmark()["sections"]
        return {section: {row["name"]: row for row in rows} for section, rows in sections.items()}

    def command(self, study: str) -> str:
        """Return the command that makes the records of a study."""
        return f"hylorada run --scale {self.settings.scale} --study {study}"


PUBLISHED_STUDIES = ("as_published", "landmark_study")
PUBLISHED_TOKENS = AS_PUBLISHED.training_text.count * AS_PUBLISHED.block_tokens  # padding among them


def own_steps(study: str) -> list[Pair]:
    """Return the rows of a study with those that they are held against."""
    return [(name, row.against) for name, row in STUDIES[study].rows.items() if row.against is not None]


def run_names(records: Records, *rows: str) -> tuple[str, ...]:
    """Return the names of the records of some rows."""
    return tuple(records.record(row, seed).name for row in rows for seed in records.seeds(row))


def _by_lines(records: Records, pair: Pair) -> Comparison:
    return line_ratio(*(published_lines(records, row) for row in pair))


def _by_deciles(records: Records, pair: Pair) -> Comparison:
    return decile_ratio(*(published_lines(records, row) for row in pair))


def _by_deciles_of_text(records: Records, pair: Pair) -> Comparison:
    return decile_ratio(*([records.nll(row, seed) for seed in records.seeds(row)] for row in pair))


def _by_corpus(records: Records, pair: Pair) -> Comparison:
    return stage_means(records, pair[0]) - stage_means(records, pair[1])


COMPARISONS = {  # how two rows are held against each other
    "corpus": _by_corpus,  # of the main text
    "lines": _by_lines,  # P_A of the published lines
    "deciles": _by_deciles,  # LIM-PPL of the published lines
    "deciles_of_text": _by_deciles_of_text,  # LIM-PPL of the main text
}
