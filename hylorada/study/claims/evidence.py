"""What checks may look at: the statements, the records of a scale, and the measured costs."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hylorada.files import read_json
from hylorada.nll import TokenNLL
from hylorada.study.claims.catalogue import Catalogue
from hylorada.study.plan import plan, plan_study
from hylorada.study.records import Records, load_records
from hylorada.study.settings import Settings
from hylorada.study.sources import project_root
from hylorada.study.studies import STUDIES

ABLATION = "ablation"
OWN_BASE, OWN_CORPUS = r"hub:openai-community/gpt2@.*", r"hub:Salesforce/wikitext:wikitext-2-raw-v1@.*"


@dataclass
class Evidence:
    """The evidence of one scale; each study's records are read once, when a check first asks for them."""

    catalogue: Catalogue
    settings: Settings
    folder: Path
    _read: dict[str, Records | None] = field(default_factory=dict)

    def records(self, study: str) -> Records | None:
        """Return the records of the ablation or of a study, None where the scale does not have the study.

        Raises:
            HyLoRADAError: the scale has it and a record is missing or does not fit.
        """
        if study not in self._read:
            self._read[study] = self._load(study)
        return self._read[study]

    def _load(self, study: str) -> Records | None:
        if study == ABLATION:
            return load_records(plan(self.settings), self.folder)
        if study not in self.settings.studies:
            return None
        return load_records(plan_study(self.settings, study), self.folder, STUDIES[study].varies)

    @property
    def is_own_setting(self) -> bool:
        """Whether base and text are those of the published results."""
        own = re.fullmatch(OWN_BASE, self.settings.base), re.fullmatch(OWN_CORPUS, self.settings.corpus)
        return all(match is not None for match in own)

    @cached_property
    def costs(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The measured costs of `hylorada bench`: section -> name -> row."""
        sections = read_json(project_root() / "benchmarks" / "cpu.json")["sections"]
        return {section: {row["name"]: row for row in rows} for section, rows in sections.items()}

    def command(self, study: str) -> str:
        """Return the command that makes the records of a study."""
        return f"hylorada run --scale {self.settings.scale} --study {study}"


def published_lines(records: Records, row: str) -> list[TokenNLL]:
    """Return the scored tokens of the published evaluation lines, a store a seed, of a run under a published protocol."""
    return [records.nll(row, seed) for seed in records.seeds(row)]


def run_names(records: Records, *rows: str) -> tuple[str, ...]:
    """Return the names of the records of some rows."""
    return tuple(records.record(row, seed)["name"] for row in rows for seed in records.seeds(row))
