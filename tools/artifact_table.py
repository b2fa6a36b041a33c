"""Write the parts of ARTIFACT.md that hold numbers: `python tools/artifact_table.py`.

A part stands between `<!-- made: NAME -->` and `<!-- end -->`. Its numbers come from the kept records of the largest
scale in data/reference, from the statements as judged by them, and from the tables of sources and scales.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from hylorada.files import written_beside
from hylorada.study.checkout import project_root
from hylorada.study.claims.judgement import Judgement, judge
from hylorada.study.claims.tables import verdict_table
from hylorada.study.paper.absences import absences
from hylorada.study.paper.verdicts import IN_WORDS, KIND_WORDS
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.kept import kept_scale, largest_kept
from hylorada.study.records.records import Records, study_records
from hylorada.study.results.compute import compute_table
from hylorada.study.results.effects import is_adjusted
from hylorada.study.results.levels import LEVELS, level_of
from hylorada.study.results.tables import study_table
from hylorada.study.sources.registry import CORPORA, MODELS

REFERENCE = project_root() / "data" / "reference"
PART = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HUB = "hub:"


def kept() -> tuple[Settings, Path]:
    """Return the kept scale that trained most, and the folder of its records."""
    folder = largest_kept(REFERENCE)
    return load_settings(kept_scale(folder)), folder


def reference() -> tuple[Settings, dict[str, Records]]:
    """Return that scale and its kept records by study."""
    settings, folder = kept()
    return settings, {name: study_records(settings, name, folder) for name in settings.tables}


def parts(settings: Settings, studies: dict[str, Records], judgement: Judgement) -> Iterator[tuple[str, str]]:
    """Yield every part by its name, as Markdown."""
    yield "machine", machine(studies)
    yield "runs", runs(settings, studies)
    yield "verdicts", verdicts(judgement)
    yield "scales", scales()
    yield "deviations", deviations(settings, studies)
    yield "licences", licences()


def machine(studies: dict[str, Records]) -> str:
    """Say on what the kept records were made, and what they took."""
    found = {record.name: record for each in studies.values() for record in each.by_run.values()}
    total = compute_table(studies).set_index("study").loc["all"]
    minutes = (total["training"] + total["scoring"]) / 60
    machines = {
        f"{of.processor}, {of.cores} cores, {of.system}, {of.threads} thread a process, "
        f"Python {of.versions['python']}, PyTorch {of.versions['torch']}"
        for of in (record.machine for record in found.values())
    }
    commits = {record.git.commit[:7] for record in found.values()}
    return (
        f"- Runs: {len(found)}, of commit {', '.join(sorted(commits))}.\n"
        f"- Machine: {'; '.join(sorted(machines))}.\n"
        f"- Training and scoring: {minutes:.0f} minutes in all, the wall-clock of each process added up, whatever else "
        "the machine did; one process a core runs at a time.\n"
        f"- Memory: {total['memory']:.1f} GiB at most in a process.\n"
    )


def runs(settings: Settings, studies: dict[str, Records]) -> str:
    """Return one row a table of the paper: question, command, runs, time, file, and what to expect."""
    compute = compute_table(studies).set_index("study")
    rows = []
    for name, found in studies.items():
        table = study_table(found, settings.rows(name), level=STUDIES[name].level, adjusted=is_adjusted(found, name))
        took = compute.loc[name]
        rows.append(
            [
                f"**{took['title']}.** {STUDIES[name].question}",
                f"`hylorada run --study {name}`",
                str(took["runs"]),
                f"{(took['training'] + took['scoring']) / 60:.1f}",
                f"`paper/tables/{name}.tex`",
                expected(table),
                "`hylorada compare`",
            ]
        )
    heads = ["question", "command", "new runs", "minutes", "file", "expected", "compare by"]
    return _table(heads, rows)


def expected(table: pd.DataFrame) -> str:
    """Say what a table holds: resolved steps or estimates where it has seeds, else its lowest and highest level."""
    steps = table[table["against"] != ""]
    if steps["effect_low"].notna().any():
        shown = steps[steps["resolved"]] if steps["adjusted"].all() else steps
        told = [
            f"{row.label} {row.effect:+.2f} % ({row.effect_low:+.2f} to {row.effect_high:+.2f})"
            for row in shown.itertuples()
        ]
        if not steps["adjusted"].all():
            return f"{len(steps)} estimates, not adjusted: {', '.join(told)}"
        return f"of {len(steps)} steps these are resolved: {', '.join(told) or 'none'}"
    name, level = level_of(table), LEVELS[level_of(table)]
    low, high = (table.loc[table[name].agg(side)] for side in ("idxmin", "idxmax"))
    least, most = (f"{row[name]:.{level.decimals}f} ({row['label']})" for row in (low, high))
    return f"{level.head} {least} to {most}"


def verdicts(judgement: Judgement) -> str:
    """Return how many statements have each verdict, by kind and by protocol."""
    table = verdict_table(judgement)
    columns = KIND_WORDS | {"all": "all"} | {name: words for name, words in IN_WORDS.items() if table[name].any()}
    rows = [[row["verdict"].lower(), *(str(row[name] or "") for name in columns)] for _, row in table.iterrows()]
    return _table(["verdict", *columns.values()], rows)


def scales() -> str:
    """Return one row a scale: base, text, runs, and whether a hub is needed."""
    rows = []
    for path in sorted((project_root() / "config").glob("*.yaml")):
        settings = load_settings(path.stem)
        names = [settings.base, settings.corpus]
        sources = [name.removeprefix(HUB).split("@")[0].split(":")[0] for name in names]
        hub = "the hub" if any(name.startswith(HUB) for name in names) else "a package index"
        hub = "nowhere: made on the spot, and shipped" if settings.base.startswith("tiny") else hub
        seeds = f"{len(settings.seeds)}"
        rows.append([f"`{path.stem}`", *sources, seeds, str(len(all_runs(settings))), hub])
    return _table(["scale", "base", "text", "seeds of the ablation", "runs", "sources from"], rows)


def deviations(settings: Settings, studies: dict[str, Records]) -> str:
    """Return what the kept records leave out of the full study, as a list."""
    return "".join(f"- {sentence}\n" for sentence in absences(settings, studies))


def licences() -> str:
    """Return the licence of every model and text that has a name."""
    return _table(
        ["source", "what it is", "licence"],
        ([f"`{name}`", row.description, row.licence] for name, row in (MODELS | CORPORA).items()),
    )


def filled(text: str, made: dict[str, str]) -> str:
    """Put parts in their places; KeyError for a place without a part."""
    return PART.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n{found[3]}", text)


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Write all parts anew."""
    settings, studies = reference()
    judgement = judge(*kept())
    path: Path = project_root() / "ARTIFACT.md"
    text = filled(path.read_text(encoding="utf-8"), dict(parts(settings, studies, judgement)))
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
