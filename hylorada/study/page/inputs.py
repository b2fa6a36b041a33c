"""What the page shows, read from the files of one scale: claims, tables, figures, records."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.files import read_json
from hylorada.study.claims.catalogue import load_catalogue
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.page.page import Figure, page_html, write_page
from hylorada.study.page.tables import SUMMARIES, Runs, Table, read_table, study_table
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.archive import Archive, read_archive
from hylorada.study.results.rows import BENCHMARK, BOTH, TABLES, tables_of

PUBLISHED_NUMBERS = "published_numbers"  # the figure that `hylorada claims` draws
PUBLISHED_CAPTION = (
    "How far apart are published perplexities that differ in name only? A mark a figure, over that of the untouched "
    "base, in rows of what the models behind them did; below, our own seeds of the same procedure."
)


def make_page(settings: Settings, records: Path, claims: Path, tables: Path, figures: Path, out: Path) -> list[str]:
    """Write the page of a scale to `out`; return the names of its figures that were not there to show.

    tables, figures: the folders of `hylorada table` and `hylorada figure`.

    Raises:
        HyLoRADAError: the claims, the folder of figures, a table or a record of the scale is missing, or the claims are
            of another scale.
    """
    if not figures.is_dir():
        raise HyLoRADAError(f"{figures} is no folder of figures; run `hylorada figure`, or name one.")
    judged = read_json(claims)
    if judged["scale"] != settings.scale:
        raise HyLoRADAError(
            f"{claims} is of scale {judged['scale']!r}, and {settings.scale!r} is asked for; "
            f"run `hylorada claims --scale {settings.scale}`."
        )
    archive = read_archive(records)
    runs = {name: _recorded(plan(settings, name), archive) for name in settings.tables}
    behind = runs | {BOTH: _of_both(runs), BENCHMARK: {}}
    frames = {
        name: read_table(tables / f"{name}.csv", behind[reads] or None)
        for name in tables_of(settings)
        if (reads := TABLES[name].reads) in behind
    }
    shown = {name: _table(name, frame, behind[TABLES[name].reads]) for name, frame in frames.items()}
    used = dict.fromkeys(record.name for rows in runs.values() for records in rows.values() for record in records)
    used |= dict.fromkeys(name for claim in judged["claims"] for name in claim["records"])
    known = [*figures_of(settings), PUBLISHED_NUMBERS]
    drawn = {name: _figure(name, figures / f"{name}.png") for name in known if (figures / f"{name}.png").is_file()}
    folder = Path(os.path.relpath(records, out.parent)).as_posix()
    headlines, recorded = load_catalogue().headlines, {name: archive.named(name) for name in used}
    write_page(out, page_html(judged, headlines, frames["protocols"], shown, drawn, recorded, folder))
    return [name for name in known if name not in drawn]


def _table(name: str, frame: pd.DataFrame, runs: Runs) -> Table:
    if name in SUMMARIES:
        return SUMMARIES[name](frame, runs)
    return study_table(name, frame, STUDIES[name].title, STUDIES[name].question, runs)


def _recorded(planned: dict[str, list[Run]], archive: Archive) -> Runs:
    return {row: [_record(run, archive) for run in runs] for row, runs in planned.items()}


def _of_both(runs: dict[str, Runs]) -> Runs:
    """Return the records behind a stage under both protocols."""
    published = runs.get("as_published", {})
    return {
        stage: [*published.get(AS_PUBLISHED_ROWS[stage], []), *records] for stage, records in runs["ablation"].items()
    }


def _record(run: Run, archive: Archive) -> dict[str, Any]:
    record = archive.of(run)
    if record is None:
        raise HyLoRADAError(f"{archive.folder} holds no record of {run.name}; run `hylorada run` with this scale.")
    return record


def _figure(name: str, path: Path) -> Figure:
    title = STUDIES[name].title if name in STUDIES else name.replace("_", " ").capitalize()
    caption = PUBLISHED_CAPTION if name == PUBLISHED_NUMBERS else FIGURES[name].caption
    return Figure(title, caption, path.read_bytes())
