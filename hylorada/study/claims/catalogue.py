"""The published statements as data: `paper/claims.yaml` -> `Catalogue`. Needs no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hylorada.errors import HyLoRADAError, near
from hylorada.reading import hold, read_yaml, reading
from hylorada.study.checkout import project_root
from hylorada.study.claims.claim import Claim

KINDS = ("ppl", "percent", "params", "count", "text")
FIELDS = (  # of a row in the file
    *("id", "source", "quantity", "setting", "claimed_value", "unit", "relative_to", "kind", "check"),
    *("contradicted_by", "note", "judged_by"),
)
OPTIONAL = ("decimals", "tuple")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it


@dataclass(frozen=True)
class Contradiction:
    """Statements that cannot all hold."""

    id: str
    statement: str
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Headlines:
    """The ids of the statements that a summary speaks of.

    baseline: the perplexity of the untouched base. steps: the change of each stage of the ablation against the one it
    builds on. stack: the change of the best stage against the untouched base.
    """

    baseline: str
    steps: dict[str, str]
    stack: str


@dataclass(frozen=True)
class Catalogue:
    """All statements by id, the figures published later the same day among them, and what contradicts what."""

    claims: dict[str, Claim]
    later: dict[str, Claim]
    settings: dict[str, str]
    contradictions: dict[str, Contradiction]
    families: dict[str, tuple[str, ...]]
    headlines: Headlines

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims.values())

    @property
    def distinct(self) -> int:
        """How many statements there are when those of one value that one check judges alike count once."""
        return len({(json.dumps(claim.judged_by), str(claim.value), claim.unit) for claim in self})

    def __getitem__(self, name: str) -> Claim:
        """Return a claim or a later figure (HyLoRADAError when there is none of that id)."""
        if name not in self._all:
            raise HyLoRADAError(f"claim {name!r} is not known; {near(name, self._all)}")
        return self._all[name]

    @cached_property
    def _all(self) -> dict[str, Claim]:
        return self.claims | self.later


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read and check the statements, by default those of the paper.

    Raises:
        HyLoRADAError: no readable file, an id twice, or a name that leads nowhere.
    """
    path = project_root() / "paper" / "claims.yaml" if path is None else path
    data = read_yaml(path, loader=LOADER)
    lists = ("claims", "later_measurements", "contradictions", "functional_families")
    hold(data, path, **dict.fromkeys(lists, list), settings=dict, headlines=dict)
    with reading(path, "list of statements", "correct it"):
        return _catalogue(data, path)


def _catalogue(data: dict[str, Any], path: Path) -> Catalogue:
    claims = _by_id([_claim(row, path) for row in data["claims"]], path)
    later = _by_id([_later(row) for row in data["later_measurements"]], path)
    contradictions = _by_id(
        [Contradiction(row["id"], row["statement"], tuple(row["claims"])) for row in data["contradictions"]], path
    )
    families = {row["family"]: tuple(row["members"]) for row in data["functional_families"]}
    headlines = Headlines(**data["headlines"])
    catalogue = Catalogue(claims, later, data["settings"], contradictions, families, headlines)
    _check(catalogue, path)
    return catalogue


def _claim(row: dict[str, Any], path: Path) -> Claim:
    name = row.get("id", "a statement without an id")
    if missing := [field for field in FIELDS if field not in row]:
        raise HyLoRADAError(f"{path}: {name} lacks {', '.join(missing)}.")
    for field in row:
        if field not in (*FIELDS, *OPTIONAL):
            raise HyLoRADAError(f"{path}: {name} has a field {field!r}; {near(field, (*FIELDS, *OPTIONAL))}")
    return Claim(
        value=row["claimed_value"],
        contradicted_by=tuple(row["contradicted_by"]),
        written_decimals=row.get("decimals"),
        is_tuple=row.get("tuple", False),
        **{field: row[field] for field in FIELDS if field not in ("claimed_value", "contradicted_by")},
    )


def _later(row: dict[str, Any]) -> Claim:
    about = dict(quantity=row["configuration"], setting="abl", unit=row["unit"], relative_to=None, kind="ppl")
    rest = dict(source="later the same day", check="testable", contradicted_by=(), note=row["functional_family"])
    return Claim(id=row["id"], value=row["claimed_value"], **about, **rest)


def _by_id(rows: list[Any], path: Path) -> dict[str, Any]:
    by_id = {row.id: row for row in rows}
    if len(by_id) != len(rows):
        twice = sorted({row.id for row in rows if sum(other.id == row.id for other in rows) > 1})
        raise HyLoRADAError(f"{path}: {', '.join(twice)} is there twice; give each statement an id of its own.")
    return by_id


def _check(catalogue: Catalogue, path: Path) -> None:
    for claim in catalogue:
        if claim.setting not in catalogue.settings or claim.kind not in KINDS:
            raise HyLoRADAError(f"{path}: {claim.id} has the setting {claim.setting!r} and kind {claim.kind!r}.")
        for name in claim.contradicted_by:
            if name not in catalogue.contradictions:
                raise HyLoRADAError(f"{path}: {claim.id} names the contradiction {name!r}, which is not there.")
    headlines = catalogue.headlines
    named = [(headlines.baseline, headlines.stack), headlines.steps.values(), *catalogue.families.values()]
    for names in [*(row.claims for row in catalogue.contradictions.values()), *named]:
        for name in names:
            _ = catalogue[name]
