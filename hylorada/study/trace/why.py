"""The chain behind a figure, a table, a claim or a run: command, runs, settings, data, code, machine, times."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hylorada.errors import HyLoRADAError, near
from hylorada.study.checkout import project_root
from hylorada.study.claims.judged import read_judged
from hylorada.study.plan.record import Record, read_record
from hylorada.study.plan.settings import Settings
from hylorada.study.records.archive import Archive, read_archive
from hylorada.study.records.lineage import in_common, is_present_code, lineage
from hylorada.study.results.cost import read_benchmark
from hylorada.study.results.rows import ALL, BENCHMARK
from hylorada.study.trace.freshness import later_than, some, state
from hylorada.study.trace.outputs import CLAIMS, Plan, find_output, held_against, reads, runs_behind

CLAIM = re.compile(r"[A-Z]{2}-\d{3}")
DIGESTS = re.compile(r"(?<=\w)-[0-9a-f]{8}\b|; (?:weights|tokens) sha256 [0-9a-f]+|digest [0-9a-f]+, ")
COMMIT = re.compile(r"\b([0-9a-f]{7})[0-9a-f]{33}\b")
COMMAND = "hylorada run --runs"  # which takes names as they are
IN_LINE = ("seed", "time")  # said beside the name of each run
RUN_FILES = ("record.json", "nll.npz", "lines.npz", "adapter")


def why(
    what: str, settings: Settings, records: Path, claims: Path, row: str | None = None, ids: bool = False
) -> list[str]:
    """Return lines that lead from `what` to the runs it rests on, and from them to all that made them.

    what: a file of the study, a record's folder or file, or the id of a claim. row: only this row of a table and the
    one it is held against. ids: with digests of records, weights, text and code, which else stand in commands alone.

    Raises:
        HyLoRADAError: this kind of file is not known, the file or the claim is not there, or there is no such row.
    """
    first, *lines = _chain(what, settings, records, claims, row)
    return [first, *(line if ids or COMMAND in line else _by_name(line) for line in lines)]


def _chain(what: str, settings: Settings, records: Path, claims: Path, row: str | None) -> list[str]:
    path = Path(what)
    if CLAIM.fullmatch(what):
        return _claim(what, claims, read_archive(records))
    if (folder := _run_folder(path)) is not None:
        return _run(folder)
    output = find_output(path)
    made_of = reads(output, path.stem, settings)
    lines = [what, f"├─ made by  {output.made_by(path.stem, settings.scale)}   (rule {output.rule})"]
    if made_of == BENCHMARK:
        return [*lines, *_benchmark(project_root() / "benchmarks" / "cpu.json")]
    if made_of == CLAIMS:
        lines.append("├─ from     the claims, each judged; `hylorada why` tells of one of them by its id")
    archive = read_archive(records)
    planned = runs_behind(made_of, path, settings)
    if row is not None:
        planned = _only(planned, row, held_against(made_of, row, settings))
    by_row, missing = _found(planned, archive)
    lines += [f"├─ state    {line}" for line in state(path, by_row, missing, archive)]
    return [*lines, *_tree(_labels(settings, planned), by_row, missing, archive, brief=made_of in (ALL, CLAIMS))]


def _claim(name: str, claims: Path, archive: Archive) -> list[str]:
    judged = read_judged(claims)
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
    if late := later_than(claims, records, archive):
        lines.append(f"├─ state    {claims} is OLDER than {some(late)}; run `hylorada claims` again")
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record.specification.stage, []).append(record)
    return [*lines, *_tree({row: row for row in by_row}, by_row, {}, archive)]


def _run(folder: Path) -> list[str]:
    record = read_record(folder / "record.json")
    archive = Archive(folder.parent, {record.name: record}, {})
    row = record.specification.stage
    command = f"hylorada run --runs {record.name}"
    lines = [str(folder), f"├─ made by  {command} with its scale   (rule run)"]
    return [*lines, *_tree({row: row}, {row: [record]}, {}, archive)]


def _run_folder(path: Path) -> Path | None:
    folder = path.parent if path.name in RUN_FILES else path
    return folder if (folder / "record.json").is_file() else None


def _benchmark(path: Path) -> list[str]:
    """Tell of the benchmark's record, whose numbers come from no run of the study."""
    record = read_benchmark(path)
    machine, setting = record["machine"], record["setting"]
    return [
        f"├─ from     {path.parent.name}/{path.name}, which `hylorada bench` wrote",
        f"├─ setting  {', '.join(f'{name} {value}' for name, value in setting.items() if value is not None)}",
        f"├─ machine  {machine['processor']}, {machine['threads']} of {machine['cores']} cores, {machine['device']}",
        f"├─ versions {', '.join(f'{name} {version}' for name, version in machine['versions'].items())}",
        f"└─ time     {record['started']} to {record['finished']}",
    ]


def _only(planned: Plan, row: str, against: str | None) -> Plan:
    if row not in planned:
        raise HyLoRADAError(f"--row {row!r} is no row of this table; {near(row, planned)}")
    return {name: runs for name, runs in planned.items() if name in (row, against)}


def _found(planned: Plan, archive: Archive) -> tuple[dict[str, list[Record]], dict[str, list[str]]]:
    """Return the records by row, and by row the names of runs that have none."""
    by_row = {row: [record for run in runs if (record := archive.of(run))] for row, runs in planned.items()}
    missing = {row: [run.name for run in runs if archive.of(run) is None] for row, runs in planned.items()}
    return by_row, missing


def _labels(settings: Settings, planned: Iterable[str]) -> dict[str, str]:
    studies = reversed(settings.tables)  # a row of the ablation is called as there, wherever else it stands
    labels = {name: row.label for study in studies for name, row in settings.rows(study).items()}
    return {row: labels.get(row.split(": ")[-1], row) for row in planned}


def _tree(
    labels: Mapping[str, str],
    by_row: Mapping[str, Sequence[Record]],
    missing: Mapping[str, Sequence[str]],
    archive: Archive,
    brief: bool = False,
) -> list[str]:
    """Return the rows with their runs, each with what it alone says, and below what all of them have in common.

    brief: only name the runs; where they differ, say in how many ways.
    """
    told = {record.name: lineage(record) for records in by_row.values() for record in records}
    shared = in_common([_without(each, IN_LINE) for each in told.values()]) if told else {}
    lines = [f"├─ records  {archive.folder}"]
    if brief:
        for row, label in labels.items():
            names = [record.name for record in by_row.get(row, [])]
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
        of_row = [told[record.name] for record in by_row.get(row, [])]
        row_shared = _without(in_common(of_row), (*shared, *IN_LINE)) if of_row else {}
        lines += [f"│  │  {heading:8} {text}" for heading, text in row_shared.items()]
        for record in by_row.get(row, []):
            says = told[record.name]
            seed = f"seed {says['seed']}, " if "seed" in says else ""
            old = "" if is_present_code(record) else "; by other code than the present"
            lines.append(
                f"│  ├─ {record.name}: {seed}perplexity {record.results['perplexity']:.4f}, {says['time']}{old}"
            )
            known = {*shared, *row_shared, *IN_LINE}
            lines += [f"│  │     {heading:8} {text}" for heading, text in says.items() if heading not in known]
        lines += [f"│  ├─ {name}: NO RECORD; `hylorada run --runs {name}` makes it" for name in missing.get(row, [])]
    ends = ["├─"] * (len(shared) - 1) + ["└─"]
    return [*lines, *(f"{end} {heading:8} {text}" for end, (heading, text) in zip(ends, shared.items(), strict=True))]


def _by_name(line: str) -> str:
    """Return a line without digests, and with the first digits of a commit."""
    return COMMIT.sub(r"\1", DIGESTS.sub("", line))


def _without(told: Mapping[str, str], headings: Iterable[str]) -> dict[str, str]:
    return {heading: text for heading, text in told.items() if heading not in headings}
