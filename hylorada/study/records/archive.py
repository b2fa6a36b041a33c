"""A folder of records as it is: found by name, or by what was run, whatever code and machine made them."""

from dataclasses import dataclass
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run


@dataclass(frozen=True)
class Archive:
    """All records of one folder, by name. by_essence: the names of those of equal
    `Specification.essence`, the latest last.
    """

    folder: Path
    records: dict[str, Record]
    by_essence: dict[str, list[str]]

    def of(self, run: Run) -> Record | None:
        """Return the record of a planned run: of its own code if there is one, else the latest of another; or None."""
        if run.name in self.records:
            return self.records[run.name]
        names = self.by_essence.get(run.specification.essence, [])
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
    for record in sorted(records, key=lambda record: record.finished):
        by_essence.setdefault(record.specification.essence, []).append(record.name)
    return Archive(Path(folder), {record.name: record for record in records}, by_essence)
