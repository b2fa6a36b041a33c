"""The records of a scale, and the frames made of them, each computed once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.rows import against_of
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import Records, study_records
from hylorada.study.results.cost import read_benchmark
from hylorada.study.results.effects import is_adjusted, step_effects
from hylorada.study.results.rows import ALL, BENCHMARK, BOTH, table_row
from hylorada.study.results.statistics import Effect


@dataclass(frozen=True, eq=False)
class Results:
    """What tables and sentences are made of. studies: the records of each, that of the ablation among them."""

    settings: Settings
    studies: Mapping[str, Records]
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)

    def frame(self, name: str) -> pd.DataFrame:
        """Return the frame of one of `TABLES`, made when it is first asked for (HyLoRADAError as `table_row`)."""
        if name not in self.frames:
            row = table_row(self.settings, name)
            self.frames[name] = row.make(*self._read(row.reads))
        return self.frames[name]

    @property
    def ablation(self) -> Records:
        """The records of the six stages."""
        return self.studies["ablation"]

    @cached_property
    def steps(self) -> dict[str, Effect]:
        """The effect of each stage of the ablation against the one that it builds on."""
        return step_effects(self.ablation, against_of(STAGES))

    @cached_property
    def benchmark(self) -> dict[str, Any]:
        """What `hylorada bench` measured last."""
        return read_benchmark()

    def _read(self, reads: str) -> tuple:
        if reads in self.settings.studies:
            records, study = self.studies[reads], STUDIES[reads]
            return records, self.settings.rows(reads), study.shows, study.level, is_adjusted(records, reads)
        if reads == BENCHMARK:
            return (self.benchmark,)
        return {
            "ablation": (self.ablation,),
            BOTH: (self.studies.get("as_published"), self.ablation),
            ALL: (self.studies,),
        }[reads]


def read_results(settings: Settings, folder: Path) -> Results:
    """Read all records of a scale from a folder of records (HyLoRADAError as `study_records`)."""
    return Results(settings, {name: study_records(settings, name, folder) for name in settings.tables})
