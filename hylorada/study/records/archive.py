"""A folder of records as it is: found by name, or by what was run, whatever code and machine made them.

The text of a corpus that is the standard library of the Python that runs is another one under each of its versions.
Records that are kept were made under one of them, which they name, and are read under all.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run
from hylorada.study.plan.specification import Specification
from hylorada.study.sources.registry import StdlibCorpus

KEPT = "kept.json"  # in a folder of records that are kept while the code goes on


@dataclass(frozen=True)
class Archive:
    """All records of one folder, by name. by_essence: the names of those of equal
    `Specification.essence`, the latest last. by_python: in a folder of kept records, those on the text of a Python, by
    their essence but for that text.
    """

    folder: Path
    records: dict[str, Record]
    by_essence: dict[str, list[str]]
    by_python: dict[str, list[str]] = field(default_factory=dict)

    def of(self, run: Run) -> Record | None:
        """Return the record of a planned run: of its own code if there is one, else the latest of another; or None."""
        if run.name in self.records:
            return self.records[run.name]
        asked = run.specification
        names = self.by_essence.get(asked.essence) or self.by_python.get(_of_any_python(asked), [])
        return self.records[names[-1]] if names else None

    def named(self, name: str) -> Record:
        """Return one record.

        Raises:
            HyLoRADAError: the folder holds none of this name.
        """
        if name not in self.records:
            raise HyLoRADAError(
                f"{self.folder} holds no record {name!r}; make it with `hylorada run`, or name its folder."
            )
        return self.records[name]

    def path(self, record: Record) -> Path:
        """Where a record lies."""
        return self.folder / record.name / "record.json"


def read_archive(folder: Path) -> Archive:
    """Read every `<name>/record.json` of a folder; hidden folders are runs in the making.

    Raises:
        HyLoRADAError: there is none, or one is not readable.
    """
    records = [read_record(path) for path in sorted(Path(folder).glob("[!.]*/record.json"))]
    if not records:
        raise HyLoRADAError(f"{folder} has no sub-folder with a record.json; name a folder of records (--records).")
    by_essence: dict[str, list[str]] = {}
    by_python: dict[str, list[str]] = {}
    for record in sorted(records, key=lambda record: record.finished):
        by_essence.setdefault(record.specification.essence, []).append(record.name)
        if record.specification.corpus["source"] == StdlibCorpus.__name__ and (Path(folder) / KEPT).is_file():
            by_python.setdefault(_of_any_python(record.specification), []).append(record.name)
    return Archive(Path(folder), {record.name: record for record in records}, by_essence, by_python)


def _of_any_python(specification: Specification) -> str:
    """Return the essence of a run but for the text of its corpus."""
    corpus = {name: value for name, value in specification.corpus.items() if name != "text_sha256"}
    return replace(specification, corpus=corpus).essence
