"""The chain behind a figure, a table, a claim or a run: command, runs, settings, data, code, machine, times."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from hylorada.errors import HyLoRADAError, near
from hylorada.files import read_json
from hylorada.study.archive import Archive, read_archive
from hylorada.study.lineage import in_common, is_present_code, lineage
from hylorada.study.plan import Run, all_runs, plan, plan_study
from hylorada.study.records import Records
from hylorada.study.settings import Settings
from hylorada.study.stages import STAGES

ABLATION = "ablation"
CLAIM = re.compile(r"[A-Z]{2}-\d{3}")
DIGEST = re.compile(
    r"of digest ([0-9a-f]{64})|name=\"records-digest\" content=\"([0-9a-f]{64})\"|\"records_digest\": \"(\w{64})\""
)
Plan = dict[str, list[Run]]


@dataclass(frozen=True)
class Output:
    """A kind of file that the study makes. of: "name" when its name says which table, else what all it is made of."""

    pattern: str
    command: str  # with {} for the name
    rule: str
    of: str = "name"


OUTPUTS = (  # the first that fits counts
    Output("figures/*.pdf", "hylorada figure {}", "figure"),
    Output("figures/*.png", "hylorada figure {}", "figure"),
    Output("tables/studies.tex", "hylorada table", "table", "all"),
    Output("tables/claims.tex", "hylorada claims", "claims", "claims"),
    Output("tables/contradictions.tex", "hylorada claims", "claims", "claims"),
    Output("tables/claims.csv", "hylorada claims", "claims", "claims"),
    Output("results/claims.json", "hylorada claims", "claims", "claims"),
    Output("tables/protocols.*", "hylorada table", "table", "both"),
    Output("tables/efficiency.*", "hylorada table", "table", ABLATION),
    Output("tables/cost.*", "hylorada table", "table", "benchmark"),
    Output("tables/*.tex", "hylorada table", "table"),
    Output("tables/*.csv", "hylorada table", "table"),
    Output("paper/numbers.tex", "hylorada table", "table", ABLATION),
    Output("paper/main.pdf", "hylorada paper", "paper", "all"),
    Output("results/index.html", "hylorada page", "page", "all"),
    Output("results/cells/*.json", "hylorada run", "run", "cell"),
    Output("results/report.html", "snakemake --report results/report.html", "report", "all"),
)
IN_LINE = ("seed", "time")  # said beside the name of each run
RUN_FILES = ("record.json", "nll.npz", "lines.npz", "adapter")


def why(what: str, settings: Settings, records: Path, claims: Path, row: str | None = None) -> list[str]:
    """Return lines that lead from `what` to the runs it rests on, and from them to all that made them.

    what: a file of the study, a record's folder or file, or the id of a claim. row: only this row of a table and the
    one it is held against.

    Raises:
        HyLoRADAError: this kind of file is not known, the file or the claim is not there, or there is no such row.
    """
    path = Path(what)
    if CLAIM.fullmatch(what):
        return _claim(what, claims, read_archive(records))
    if (folder := _run_folder(path)) is not None:
        return _run(folder)
    output = next((output for output in OUTPUTS if PurePath(path).match(output.pattern)), None)
    if output is None:
        known = ", ".join(dict.fromkeys(output.pattern for output in OUTPUTS))
        raise HyLoRADAError(
            f"{what} is no output of the study; known are {known}, a folder of a record, and a claim as AF-050."
        )
    if not path.is_file():
        raise HyLoRADAError(f"{what} is not there; `{output.command.format(path.stem)}` makes it.")
    archive = read_archive(records)
    planned = _only(_planned(output, path, settings), row, _against(settings, path.stem, row))
    made = f"{output.command.format(path.stem)} --scale {settings.scale}" * (output.rule not in ("paper", "report"))
    lines = [what, f"├─ made by  {made or output.command}   (rule {output.rule})"]
    if output.of == "claims":
        lines.append(f"├─ from     {claims.name} judges the claims; ask `hylorada why AF-050` for one of them")
    found, missing = _found(planned, archive)
    lines += [f"├─ state    {line}" for line in _state(path, output, planned, found, missing, archive)]
    return [*lines, *_tree(_labels(settings, planned), found, missing, archive, brief=output.of in ("all", "claims"))]


def _claim(name: str, claims: Path, archive: Archive) -> list[str]:
    judged = read_json(claims)
    by_id = {claim["id"]: claim for claim in judged["claims"]}
    if name not in by_id:
        ends = {
            part: [each for each in sorted(by_id) if each.startswith(part)] for part in {each[:3] for each in by_id}
        }
        spans = ", ".join(f"{ids[0]} to {ids[-1]}" for _, ids in sorted(ends.items()))
        raise HyLoRADAError(f"{claims} has no claim {name}; it has claims from {spans}.")
    claim = by_id[name]
    lines = [
        f"{name}  {claim['quantity']}: {claim['claimed']}",
        f"├─ stands   {claim['source']}; setting {claim['setting']}",
        f"├─ verdict  {claim['verdict']}: {claim['reason']}",
    ]
    lines += [f"├─ {title:8} {told['verdict']}: {told['detail']}" for title, told in claim["columns"].items()]
    if claim["contradicted_by"]:
        lines.append(f"├─ against  {', '.join(claim['contradicted_by'])}")
    if claim["command"]:
        lines.append(f"├─ made by  {claim['command']}")
    if not claim["records"]:
        return [*lines, "└─ no run   this verdict rests on no run"]
    records = [archive.named(record) for record in claim["records"]]
    late = [record["name"] for record in records if archive.path(record).stat().st_mtime > claims.stat().st_mtime]
    if late:
        lines.append(f"├─ state    {claims} is OLDER than {_some(late)}; run `hylorada claims` again")
    by_row: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_row.setdefault(record["specification"]["stage"], []).append(record)
    return [*lines, *_tree({row: row for row in by_row}, by_row, {}, archive)]


def _run(folder: Path) -> list[str]:
    record = read_json(folder / "record.json")
    archive = Archive(folder.parent, {record["name"]: record}, {})
    row = record["specification"]["stage"]
    command = f"hylorada run --runs {record['name']}"
    lines = [str(folder), f"├─ made by  {command} with its scale   (rule run)"]
    return [*lines, *_tree({row: row}, {row: [record]}, {}, archive)]


def _run_folder(path: Path) -> Path | None:
    folder = path.parent if path.name in RUN_FILES else path
    return folder if (folder / "record.json").is_file() else None


def _planned(output: Output, path: Path, settings: Settings) -> Plan:
    """Return the runs behind a file by row; rows of two tables that are the same runs come once."""
    name = path.stem
    if output.of == "cell":
        runs = all_runs(settings)
        return {row["name"]: [runs[row["name"]]] for row in read_json(path) if row["name"] in runs}
    named = {ABLATION: lambda: plan(settings)} | {study: _of_study(settings, study) for study in settings.studies}
    if output.of == ABLATION:
        return named[ABLATION]()
    if output.of in ("all", "claims"):
        together: Plan = {}
        for study, make in named.items():
            for row, runs in make().items():
                key = row if together.get(row, runs) == runs else f"{study}: {row}"
                together[key] = runs
        return together
    if name in named:
        return named[name]()
    from hylorada.study.figures import FIGURES

    if output.rule == "figure" and name in FIGURES:
        return named[ABLATION]()
    allowed = [*named, *(FIGURES if output.rule == "figure" else ())]
    raise HyLoRADAError(f"scale {settings.scale!r} makes no {output.rule} {name!r}; {near(name, allowed)}")


def _of_study(settings: Settings, name: str) -> Callable[[], Plan]:
    return lambda: plan_study(settings, name)


def _against(settings: Settings, table: str, row: str | None) -> str | None:
    """Return the row that a row of a table is held against."""
    if table in settings.studies:
        rows = settings.rows(table)
        return rows[row].against if row in rows else None
    return STAGES[row].on if row in STAGES else None


def _only(planned: Plan, row: str | None, against: str | None) -> Plan:
    if row is None:
        return planned
    if row not in planned:
        raise HyLoRADAError(f"--row {row!r} is no row of this table; {near(row, planned)}")
    return {name: runs for name, runs in planned.items() if name in (row, against)}


def _found(planned: Plan, archive: Archive) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[str]]]:
    """Return the records by row, and by row the names of runs that have none."""
    found = {row: [record for run in runs if (record := archive.of(run))] for row, runs in planned.items()}
    missing = {row: [run.name for run in runs if archive.of(run) is None] for row, runs in planned.items()}
    return found, missing


def _state(
    path: Path,
    output: Output,
    planned: Plan,
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    missing: Mapping[str, Sequence[str]],
    archive: Archive,
) -> list[str]:
    """Say whether a file is of these records, as far as the file and the times of both tell."""
    told = []
    records = [record for row in found.values() for record in row]
    if absent := [name for names in missing.values() for name in names]:
        told.append(f"{len(absent)} of its runs have no record in {archive.folder}: {_some(absent)}")
    late = [record["name"] for record in records if archive.path(record).stat().st_mtime > path.stat().st_mtime]
    if late:
        told.append(f"OLDER than {len(late)} of its {len(records)} records ({_some(late)}); make it again")
    other = _other_records(path, output, found)
    if other:
        told.append(other)
    if not told:
        told.append(f"newer than all of its {len(records)} records" + ", and of their numbers" * (other == ""))
    return told


def _other_records(path: Path, output: Output, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Say how a file shows that it is of other records; "" when it is of these, None when it cannot tell."""
    if path.suffix == ".csv" and output.of == "name":
        table = pd.read_csv(path).set_index("stage")
        for row, records in found.items():
            expected = (
                float(np.exp(np.mean([record["results"]["mean_nll"] for record in records]))) if records else None
            )
            if row not in table.index:
                return f"made from OTHER records: it has no row {row}"
            if expected is not None and not np.isclose(table.loc[row, "perplexity"], expected, rtol=1e-9):
                shown = f"{row} has perplexity {table.loc[row, 'perplexity']:.6g}, they {expected:.6g}"
                return f"made from OTHER records: {shown}"
        return ""
    if output.of == ABLATION and (said := DIGEST.search(path.read_text())):
        by_run = {(row, record["name"]): record for row, records in found.items() for record in records}
        digest = Records(by_run, {}).digest
        named = next(filter(None, said.groups()))
        return (
            "" if named == digest else f"made from OTHER records: it names digest {named[:12]}, theirs is {digest[:12]}"
        )
    return None


def _labels(settings: Settings, planned: Iterable[str]) -> dict[str, str]:
    labels = {name: row.label for study in settings.studies for name, row in settings.rows(study).items()}
    labels |= {name: stage.label for name, stage in STAGES.items()}
    return {row: labels.get(row.split(": ")[-1], row) for row in planned}


def _tree(
    labels: Mapping[str, str],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    missing: Mapping[str, Sequence[str]],
    archive: Archive,
    brief: bool = False,
) -> list[str]:
    """Return the rows with their runs, each with what it alone says, and below what all of them have in common.

    brief: only name the runs; where they differ, say in how many ways.
    """
    told = {record["name"]: lineage(record) for records in found.values() for record in records}
    shared = in_common([_without(each, IN_LINE) for each in told.values()]) if told else {}
    lines = [f"├─ records  {archive.folder}"]
    if brief:
        for row, label in labels.items():
            names = [record["name"] for record in found.get(row, [])]
            none = f"; {len(missing[row])} without a record" * bool(missing.get(row))
            lines.append(f"├─ {row}  ({label}): {', '.join(names)}{none}")
        heads = dict.fromkeys(head for each in told.values() for head in _without(each, (*shared, *IN_LINE)))
        ways = {head: len({each.get(head) for each in told.values()}) for head in heads}
        lines += [
            f"├─ {heading:8} in {count} ways; name a table or a run to see them" for heading, count in ways.items()
        ]
        labels = {}
    for row, label in labels.items():
        lines.append(f"├─ {row}" + f"  ({label})" * (label != row))
        by_row = [told[record["name"]] for record in found.get(row, [])]
        row_shared = _without(in_common(by_row), (*shared, *IN_LINE)) if by_row else {}
        lines += [f"│  │  {heading:8} {text}" for heading, text in row_shared.items()]
        for record in found.get(row, []):
            says = told[record["name"]]
            seed = f"seed {says['seed']}, " if "seed" in says else ""
            old = "" if is_present_code(record) else "; by other code than the present"
            lines.append(
                f"│  ├─ {record['name']}: {seed}perplexity {record['results']['perplexity']:.4f}, {says['time']}{old}"
            )
            known = {*shared, *row_shared, *IN_LINE}
            lines += [f"│  │     {heading:8} {text}" for heading, text in says.items() if heading not in known]
        lines += [f"│  ├─ {name}: NO RECORD; `hylorada run --runs {name}` makes it" for name in missing.get(row, [])]
    ends = ["├─"] * (len(shared) - 1) + ["└─"]
    return [*lines, *(f"{end} {heading:8} {text}" for end, (heading, text) in zip(ends, shared.items(), strict=True))]


def _without(told: Mapping[str, str], headings: Iterable[str]) -> dict[str, str]:
    return {heading: text for heading, text in told.items() if heading not in headings}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
