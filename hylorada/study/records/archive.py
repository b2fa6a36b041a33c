"""A folder of records as it is: found by name, or by what was run, whatever code and machine made them."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.files import read_json
from hylorada.study.plan.runs import Run


@dataclass(frozen=True)
class Archive:
    """All records of one folder, by name. by_essence: the names of those of equal `essence`, the latest last."""

    folder: Path
    records: dict[str, dict[str, Any]]
    by_essence: dict[str, list[str]]

    def of(self, run: Run) -> dict[str, Any] | None:
        """Return the record of a planned run: of its own code if there is one, else the latest of another; or None."""
        if run.name in self.records:
            return self.records[run.name]
        names = self.by_essence.get(essence(run.specification), [])
        return self.records[names[-1]] if names else None

    def named(self, name: str) -> dict[str, Any]:
        """Return one record.

        Raises:
            HyLoRADAError: the folder holds none of this name.
        """
        if name not in self.records:
            raise HyLoRADAError(
                f"{self.folder} holds no record {name!r}; make it with `hylorada run`, or name its folder."
            )
        return self.records[name]

    def path(self, record: dict[str, Any]) -> Path:
        """Where a record lies."""
        return self.folder / record["name"] / "record.json"


def essence(specification: dict[str, Any]) -> str:
    """Hash a specification without the digest of the code: equal for the same run of older or newer code."""
    asked = {name: value for name, value in specification.items() if name != "code"}
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def read_archive(folder: Path) -> Archive:
    """Read every `<name>/record.json` of a folder; hidden folders are runs in the making.

    Raises:
        HyLoRADAError: there is none, or one is not readable.
    """
    found = [read_json(path) for path in sorted(Path(folder).glob("[!.]*/record.json"))]
    if not found:
        raise HyLoRADAError(f"{folder} has no sub-folder with a record.json; name a folder of records (--records).")
    by_essence: dict[str, list[str]] = {}
    for record in sorted(found, key=lambda record: record["finished"]):
        by_essence.setdefault(essence(record["specification"]), []).append(record["name"])
    return Archive(Path(folder), {record["name"]: record for record in found}, by_essence)
