"""Every table as a row of data: what it reads, and the function that makes its frame. Needs no pandas.

How a frame is set is in `hylorada.study.paper.tables`, under the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from hylorada.errors import HyLoRADAError, near
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES

BENCHMARK = "benchmark"  # what a table or figure reads that reads no study
BOTH, ALL = "both", "all"  # and what tables alone read


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One table. made_by: module and function, which takes what the table reads.

    reads: a study; BENCHMARK; BOTH, the ablation by the published and by the corrected protocol; or ALL, every study.
    """

    made_by: str
    reads: str

    @property
    def module(self) -> str:
        """The full name of the module that makes its frame."""
        return f"hylorada.study.results.{self.made_by.split('.')[0]}"

    @property
    def make(self) -> Callable:
        """The function; what it needs is imported here, when there is a frame to make."""
        return getattr(import_module(self.module), self.made_by.split(".")[1])


ABOVE = {"protocols": TableRow(made_by="protocols.protocol_table", reads=BOTH)}
BELOW = {
    "efficiency": TableRow(made_by="protocols.efficiency_table", reads="ablation"),
    "cost": TableRow(made_by="cost.cost_table", reads=BENCHMARK),
    "facts": TableRow(made_by="facts.facts_table", reads=ALL),
    "parts": TableRow(made_by="parts.parts_table", reads=ALL),
    "compute": TableRow(made_by="compute.compute_table", reads=ALL),
}
JUDGED = ("verdicts", "claims", "contradictions")  # tables of the published statements, which `hylorada claims` writes
TABLES = (
    ABOVE
    | {name: TableRow(made_by="tables.study_table", reads=name) for name in STUDIES}
    | {"ablation": TableRow(made_by="tables.ablation_table", reads="ablation")}
    | BELOW
)


def tables_of(settings: Settings) -> list[str]:
    """Return the names of the tables that a scale has, the studies in the scale's order."""
    return [*ABOVE, *settings.tables, *BELOW]


def table_row(settings: Settings, name: str) -> TableRow:
    """Return one table of a scale.

    Raises:
        HyLoRADAError: the scale has no such table.
    """
    if name not in (offered := tables_of(settings)):
        raise HyLoRADAError(f"scale {settings.scale!r} makes no table {name!r}; {near(name, offered)}")
    return TABLES[name]
