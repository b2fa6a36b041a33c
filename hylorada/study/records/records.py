"""The records of a study, read and held against each other: same tokens scored, by the same base."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError, near
from hylorada.nll import TokenNLL
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.specification import LinesText, Specification
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.archive import KEPT, Archive, read_archive
from hylorada.typed import plain

SHARED = (
    "base",
    "corpus",
    "protocol",
    "block_tokens",
    "evaluation",
    "measures",
    "dtype",
    "compile",
)  # alike in all runs
BESIDE = ("placebo", "ceiling")  # measures that only some rows of a table have
SAME_MEAN = 1e-6  # relative, of one sum in another order
PROBE_TOLERANCE = 1e-3  # relative, between machines
RATES = ("learning_rate", "magnitude_lr", "position_bias_lr", "landmark_lr")  # of which a row may have its own
Key = tuple[str, int | None]


@dataclass(frozen=True, eq=False)
class Records:
    """Runs by (stage, seed), in the order of the table; the untouched base has the seed None.

    by_run: the record of each run. tokens: the scored tokens of each run, where they were kept. folders:
    where the record of each run lies.
    """

    by_run: dict[Key, Record]
    tokens: dict[Key, TokenNLL]
    folders: dict[Key, Path] = field(default_factory=dict)

    @property
    def stages(self) -> list[str]:
        """Stages with a record, in the order of the table."""
        return list(dict.fromkeys(stage for stage, _ in self.by_run))

    def seeds(self, stage: str) -> list[int | None]:
        """Seeds of a stage, ascending; [None] for the untouched base."""
        return [seed for name, seed in self.by_run if name == stage]

    @property
    def most_seeds(self) -> int:
        """How many seeds the row with the most of them has; the untouched base counts as one."""
        return max(len(self.seeds(stage)) for stage in self.stages)

    @property
    def asked(self) -> Specification:
        """What the first run that trains was asked for: the settings that all of them share."""
        trained = (record.specification for record in self.by_run.values() if record.training)
        return next(trained, next(iter(self.by_run.values())).specification)

    def record(self, stage: str, seed: int | None) -> Record:
        """Return the record of one run.

        Raises:
            HyLoRADAError: there is no such run.
        """
        if (stage, seed) not in self.by_run:
            raise HyLoRADAError(f"no record of {_words((stage, seed))}; there are {_list(self.by_run)}.")
        return self.by_run[stage, seed]

    def nll(self, stage: str, seed: int | None) -> TokenNLL:
        """Return the scored tokens of one run.

        Raises:
            HyLoRADAError: there is no such run, or its tokens were not kept.
        """
        name = self.record(stage, seed).name
        if (stage, seed) not in self.tokens:
            raise HyLoRADAError(f"{name} was kept without its nll.npz, which this needs; make the run again.")
        return self.tokens[stage, seed]

    @property
    def has_lines(self) -> bool:
        """Whether the published lines were scored in every run."""
        asked = [record.specification for record in self.by_run.values()]
        return all(isinstance(one.evaluation, LinesText) or "lines" in one.measures for one in asked)

    def lines(self, stage: str, seed: int | None) -> TokenNLL:
        """Return the scored lines of the published evaluation: the main text under a published protocol.

        Raises:
            HyLoRADAError: there is no such run, or the lines were not scored or not kept.
        """
        record = self.record(stage, seed)
        if isinstance(record.specification.evaluation, LinesText):
            return self.nll(stage, seed)
        path = self.folders.get((stage, seed), Path(record.name)) / "lines.npz"
        if not path.is_file():
            raise HyLoRADAError(
                f"{record.name} has no lines.npz, which this needs; set measures: {{lines: null}} in the scale."
            )
        return read_store(record, path)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a run: stage, seed, every metric, trained parameters (count), seconds."""
        rows = [
            {"stage": stage, "seed": seed, "name": record.name}
            | record.results
            | {"parameters": record.trainable}
            | {"training_seconds": record.training.seconds if record.training else 0.0}
            | {"evaluation_seconds": record.evaluation_seconds}
            for (stage, seed), record in self.by_run.items()
        ]
        return pd.DataFrame(rows).astype({"seed": "Int64"})

    @property
    def digest(self) -> str:
        """SHA-256 of all identities and results, in hexadecimal."""
        results = [[record.identity, record.results] for record in self.by_run.values()]
        return sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def load_records(plan: dict[str, list[Run]], folder_of_records: Path, varies: tuple[str, ...] = ()) -> Records:
    """Read the records of all planned runs in a folder of records.

    varies: in what the runs may differ, as for `check_alike`. In a folder of kept records, which holds KEPT, a run is
    known by all of its specification but the digest of the code, which has gone on since.

    Raises:
        HyLoRADAError: a record is missing, is of another identity than planned, or does not fit the others (see
            `check_alike`).
    """
    by_run, folders = {}, {}
    kept = kept_archive(Path(folder_of_records)) if (Path(folder_of_records) / KEPT).is_file() else None
    for run in (run for runs in plan.values() for run in runs):
        folder = run.folder(folder_of_records)
        if kept is not None and (record := kept.of(run)) is not None:
            folder = kept.folder / record.name
            by_run[run.row, run.seed], folders[run.row, run.seed] = record, folder
            continue
        if not (folder / "record.json").is_file():
            raise HyLoRADAError(
                f"{folder} holds no record of {_words((run.row, run.seed))}; "
                "`hylorada run --scale SCALE`, with the scale asked for here, makes what is missing."
            )
        record = read_record(folder / "record.json")
        if record.identity != run.identity:
            raise HyLoRADAError(
                f"{folder} holds a record of identity {record.identity[:8]}, and {run.identity[:8]} is planned: "
                "it was made with other settings, data or code; remove it and run `hylorada run --scale SCALE`."
            )
        by_run[run.row, run.seed] = record
        folders[run.row, run.seed] = folder
    return _checked(by_run, folders, varies)


@cache
def kept_archive(folder: Path) -> Archive:
    """Read a folder of kept records, once."""
    return read_archive(folder)


def study_records(settings: Settings, name: str, folder: Path) -> Records:
    """Read the records of one study of a scale (HyLoRADAError as `load_records`)."""
    own = settings.for_study(name)
    rates = RATES if own.tuned_rates or own.part_rates else ()
    return load_records(plan(settings, name), folder, (*STUDIES[name].varies, *rates))


def load_folder(folder: Path) -> Records:
    """Read every record in the sub-folders of `folder`, without a plan; `nll.npz` may be absent.

    Raises:
        HyLoRADAError: no record, two of one stage and seed, or records that do not fit together (see `check_alike`).
    """
    folders: dict[Key, Path] = {}
    records: dict[Key, Record] = {}
    for path in sorted(Path(folder).glob("[!.]*/record.json")):  # a hidden folder is one in the making
        record = read_record(path)
        training = record.specification.training
        key = record.specification.stage, training and training.seed
        if key[0] not in STAGES:
            raise HyLoRADAError(f"{path}: stage {key[0]!r} is not known; {near(key[0], STAGES)}")
        if key in folders:
            raise HyLoRADAError(
                f"{folder} holds two records of {_words(key)}: {folders[key].name} and {path.parent.name}; "
                "load the records of one scale at a time, with its plan (`load_records`)."
            )
        folders[key], records[key] = path.parent, record
    if not folders:
        raise HyLoRADAError(f"{folder} has no sub-folder with a record.json; name a folder of records.")
    order = list(STAGES)
    keys = sorted(folders, key=lambda key: (order.index(key[0]), -1 if key[1] is None else key[1]))
    return _checked({key: records[key] for key in keys}, folders)


def check_alike(by_run: dict[Key, Record], varies: tuple[str, ...] = ()) -> None:
    """Hold all records against the first, so that nothing but stage and seed, and what `varies`, tells two runs apart.

    Sources, tokens, windows, training settings and what is compiled must be equal. The untouched base's score of one
    window must be equal between runs of equal dtype, threads, device, processor, compiler and versions, where the same
    work gives the same bits; other machines add up in another order, and there it may differ by 1e-3 of itself.

    Raises:
        HyLoRADAError: two runs differ; both are named, and in what.
    """
    for name in (name for name in SHARED if name not in varies):
        _equal(by_run.items(), lambda record, name=name: _shared(record, name), name)
    if "base" not in varies:
        _equal(by_run.items(), lambda record: plain(record.data), "data")
    trained = [(key, record) for key, record in by_run.items() if record.specification.training]
    _equal(trained, lambda record: record.specification.train_tokens, "train_tokens")
    free = dict.fromkeys(("seed", *varies))
    _equal(trained, lambda record: plain(record.specification.training) | free, "training settings")
    if {"evaluation", "base"} & set(varies):  # then what every run scores with the untouched base is not the same
        return
    first_on: dict[str, tuple[Key, float]] = {}
    reference = None
    for key, record in by_run.items():
        probe = record.results["base_probe_nll"]
        reference = reference or (key, probe)
        near_key, near_probe = first_on.setdefault(machine_key(record), (key, probe))
        if probe != near_probe:
            raise HyLoRADAError(
                f"the untouched base scored {near_probe} nats in {_words(near_key)} and {probe} in {_words(key)} on "
                "one machine: weights, data or arithmetic changed between them; make the runs again."
            )
        if abs(probe - reference[1]) > PROBE_TOLERANCE * abs(reference[1]):
            raise HyLoRADAError(
                f"the untouched base scored {reference[1]} nats in {_words(reference[0])}, {probe} in {_words(key)}: "
                "more than two machines may differ; make all runs on one of them."
            )


def _checked(by_run: dict[Key, Record], folders: dict[Key, Path], varies: tuple[str, ...] = ()) -> Records:
    check_alike(by_run, varies)
    columns = ["text", "article", "position", "token_id"] + ["context"] * ("evaluation" not in varies)
    if "base" in varies:  # another base, another tokenizer
        columns = []
    tokens: dict[Key, TokenNLL] = {}
    first: Key | None = None
    for key in by_run:
        path = folders[key] / "nll.npz"
        if not path.is_file():
            continue
        store = read_store(by_run[key], path)
        if first is None:
            tokens[key], first = store, key
            continue
        for name in columns:
            if not np.array_equal(getattr(store, name), getattr(tokens[first], name)):
                raise HyLoRADAError(
                    f"{_words(first)} and {_words(key)} were not scored on the same tokens ({name} differs); "
                    "remove one of the records and make the run again."
                )
        shared = {name: getattr(tokens[first], name) for name in columns}  # one copy for all runs
        tokens[key] = replace(store, **shared)
    return Records(by_run, tokens, folders)


def read_store(record: Record, path: Path) -> TokenNLL:
    """Read scored tokens that lie beside a record, by their digest in it, or where it has none by what it says of them.

    Raises:
        HyLoRADAError: they are not readable, or are those of another run.
    """
    store = TokenNLL.load(path)
    if record.stores is not None:
        is_its_own = record.stores.get(path.stem) == store.digest
    else:
        lines = record.measures.lines
        said = record.results if path.stem == "nll" else lines.results if lines else {}
        is_its_own = said.get("scored_tokens", len(store.nll)) == len(store.nll) and math.isclose(
            said.get("mean_nll") or store.mean_nll(), store.mean_nll(), rel_tol=SAME_MEAN
        )
    if not is_its_own:
        raise HyLoRADAError(f"{path} holds other tokens than its record tells of; remove the folder and run it again.")
    return store


def _equal(records: Iterable[tuple[Key, Record]], of: Callable[[Record], Any], name: str) -> None:
    first = None
    for key, record in records:
        first = first or (key, of(record))
        if of(record) != first[1]:
            raise HyLoRADAError(
                f"{_words(first[0])} and {_words(key)} differ in {name} ({first[1]} and {of(record)}), "
                "so they cannot be compared; load records of one plan."
            )


def machine_key(record: Record) -> str:
    """Tell in one string all of a machine on which the same work gives the same bits."""
    machine = record.machine
    settings = [machine.versions, machine.processor, machine.threads, machine.device, machine.compiled]
    settings.append(machine.half_products)
    return json.dumps([*settings, record.specification.dtype], sort_keys=True)


def _shared(record: Record, name: str) -> Any:
    value = plain(getattr(record.specification, name))
    return {kind: amount for kind, amount in value.items() if kind not in BESIDE} if name == "measures" else value


def _words(key: Key) -> str:
    return f"stage {key[0]!r}" + ("" if key[1] is None else f", seed {key[1]}")


def _list(keys: Iterable[Key]) -> str:
    return "; ".join(_words(key) for key in keys)
