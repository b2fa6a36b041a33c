"""What the page shows, read from the files of one scale: claims, tables, figures, records, paper."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.reading import reading
from hylorada.study.claims.catalogue import load_catalogue
from hylorada.study.claims.judged import read_judged
from hylorada.study.figures.rows import FIGURES, figures_of
from hylorada.study.page.page import page_html, write_page
from hylorada.study.page.pictures import with_palette
from hylorada.study.page.results import Figure, Result
from hylorada.study.page.runs import run_words
from hylorada.study.page.tables import SUMMARIES, Runs, Table, read_table, study_table
from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.record import Record
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.archive import Archive, read_archive
from hylorada.study.results.rows import BENCHMARK, BOTH, TABLES, tables_of

PUBLISHED_NUMBERS = "published_numbers"  # the figure that `hylorada claims` draws
PUBLISHED_CAPTION = (
    "How far apart are published perplexities that differ in name only? A mark a figure, over that of the untouched "
    "base, in rows of what the models behind them did; below, where it was run to its end, our own seeds of it."
)


def make_page(
    settings: Settings, records: Path, claims: Path, tables: Path, figures: Path, paper: Path, out: Path
) -> list[str]:
    """Write the page of a scale to `out`; return the names of its figures that were not there to show.

    tables, figures: the folders of `hylorada table` and `hylorada figure`. paper: the PDF, which may be missing.

    Raises:
        HyLoRADAError: the claims, the folder of figures, a table or a record of the scale is missing, or the claims are
            of another scale or rest on a run that the scale does not have.
    """
    if not figures.is_dir():
        raise HyLoRADAError(f"{figures} is no folder of figures; run `hylorada figure`, or name one.")
    judged = read_judged(claims)
    if judged["scale"] != settings.scale:
        raise HyLoRADAError(
            f"{claims} is of scale {judged['scale']!r}, and {settings.scale!r} is asked for; "
            f"run `hylorada claims --scale {settings.scale}`."
        )
    archive = read_archive(records)
    runs = {name: _recorded(plan(settings, name), archive) for name in settings.tables}
    words = _words(settings, runs)
    if strange := [name for claim in judged["claims"] for name in claim["records"] if name not in words]:
        raise HyLoRADAError(
            f"the claims rest on {strange[0]}, which has no record here; run `hylorada claims` with the same records."
        )
    behind = runs | {BOTH: _of_both(runs), BENCHMARK: {}}
    known = [*figures_of(settings), PUBLISHED_NUMBERS]
    drawn = {name: _figure(name, figures / f"{name}.png") for name in known if (figures / f"{name}.png").is_file()}
    names = [name for name in tables_of(settings) if TABLES[name].reads in behind]
    frames = {name: read_table(tables / f"{name}.csv", behind[TABLES[name].reads] or None) for name in names}
    new, shown = _new_runs(settings, runs), set()
    results = []
    for name in names:
        its = [figure for figure in drawn if _stands_with(figure) == TABLES[name].reads and figure not in shown]
        shown.update(its)
        table, csv = _table(name, frames[name], behind[TABLES[name].reads]), (tables / f"{name}.csv").read_bytes()
        results.append(Result(name, table, csv, [drawn[figure] for figure in its], new.get(name, {})))
    paper_link = _seen_from(out, paper) if paper.is_file() else None
    headlines, folder = load_catalogue().headlines, _seen_from(out, records)
    write_page(out, page_html(judged, headlines, frames["protocols"], results, words, folder, paper_link))
    return [name for name in known if name not in drawn]


def _table(name: str, frame: pd.DataFrame, runs: Runs) -> Table:
    if name in SUMMARIES:
        return SUMMARIES[name](frame, runs)
    return study_table(name, frame, STUDIES[name].title, STUDIES[name].question, runs)


def _stands_with(figure: str) -> str:
    """Return what the table beside a figure reads."""
    return BOTH if figure == PUBLISHED_NUMBERS else FIGURES[figure].reads


def _seen_from(page: Path, path: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def _recorded(planned: dict[str, list[Run]], archive: Archive) -> Runs:
    return {row: [_record(run, archive) for run in runs] for row, runs in planned.items()}


def _words(settings: Settings, runs: Mapping[str, Runs]) -> dict[str, tuple[str, str]]:
    """Return the table and the words of each run, by its name: where two tables share a run, of the first."""
    words: dict[str, tuple[str, str]] = {}
    for study, label, record in _labelled(settings, runs):
        words.setdefault(record.name, (STUDIES[study].title, run_words(record, label)))
    return words


def _new_runs(settings: Settings, runs: Mapping[str, Runs]) -> dict[str, dict[str, list[Record]]]:
    """Return, for each table, its runs that no table before it has, by the label of their row."""
    new: dict[str, dict[str, list[Record]]] = {}
    seen: set[str] = set()
    for study, label, record in _labelled(settings, runs):
        if record.name not in seen:
            new.setdefault(study, {}).setdefault(label, []).append(record)
        seen.add(record.name)
    return new


def _labelled(settings: Settings, runs: Mapping[str, Runs]) -> Iterable[tuple[str, str, Record]]:
    for study, rows in runs.items():
        labels = {name: row.label for name, row in settings.rows(study).items()}
        for name, records in rows.items():
            for record in records:
                yield study, labels[name], record


def _of_both(runs: dict[str, Runs]) -> Runs:
    """Return the records behind a stage under both protocols."""
    published = runs.get("as_published", {})
    return {
        stage: [*published.get(AS_PUBLISHED_ROWS[stage], []), *records] for stage, records in runs["ablation"].items()
    }


def _record(run: Run, archive: Archive) -> Record:
    record = archive.of(run)
    if record is None:
        raise HyLoRADAError(f"{archive.folder} holds no record of {run.name}; run `hylorada run` with this scale.")
    return record


def _figure(name: str, path: Path) -> Figure:
    caption = PUBLISHED_CAPTION if name == PUBLISHED_NUMBERS else FIGURES[name].caption
    with reading(path, "PNG", "run `hylorada figure` again"):
        return Figure(name, caption, with_palette(path.read_bytes()))
