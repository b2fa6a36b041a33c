"""All that the paper's text takes in from the records: the tables, their floats, the numbers, and what is absent."""

from pathlib import Path

from hylorada.study.paper.absences import write_absences
from hylorada.study.paper.floats import write_floats
from hylorada.study.paper.macros import write_numbers
from hylorada.study.paper.tables import write_tables
from hylorada.study.results.results import Results


def write_generated(results: Results, out: Path, csv: Path) -> None:
    """Write numbers.tex and tables/ into `out`, and the tables unrounded beside `csv`, the ablation's."""
    write_tables(results, out / "tables", csv)
    write_floats(results.settings, results.studies, out / "tables" / "floats.tex")
    write_absences(results, out / "tables" / "absent.tex")
    write_numbers(results, out / "numbers.tex")
