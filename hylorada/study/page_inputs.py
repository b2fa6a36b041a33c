"""What the page shows, read from the files of one scale: claims, tables, figures, records."""

import inspect
import os
from pathlib import Path
from typing import Any

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.files import read_json
from hylorada.study.archive import Archive, read_archive
from hylorada.study.figures import FIGURES, study_rows
from hylorada.study.page import Figure, Table, page_html, write_page
from hylorada.study.plan import Run, plan, plan_study
from hylorada.study.settings import Settings
from hylorada.study.studies import STUDIES

ABLATION = ("Ablation", "What does each stage add to the one that it builds on?")


def make_page(settings: Settings, records: Path, claims: Path, tables: Path, figures: Path, out: Path) -> list[str]:
    """Write the page of a scale to `out`; return the names of its figures that were not there to show.

    tables, figures: the folders of `hylorada table` and `hylorada figure`.

    Raises:
        HyLoRADAError: the claims, a table or a record of the scale is missing, or the claims are of another scale.
    """
    judged = read_json(claims)
    if judged["scale"] != settings.scale:
        raise HyLoRADAError(
            f"{claims} is of scale {judged['scale']!r}, and {settings.scale!r} is asked for; "
            f"run `hylorada claims --scale {settings.scale}`."
        )
    archive = read_archive(records)
    planned = {"ablation": plan(settings)} | {name: plan_study(settings, name) for name in settings.studies}
    shown = {name: _table(name, rows, archive, tables / f"{name}.csv") for name, rows in planned.items()}
    used = dict.fromkeys(name for table in shown.values() for names in table.runs.values() for name in names)
    used |= dict.fromkeys(name for claim in judged["claims"] for name in claim["records"])
    known = [*FIGURES, *settings.studies]
    drawn = {name: _figure(name, figures / f"{name}.png") for name in known if (figures / f"{name}.png").is_file()}
    folder = Path(os.path.relpath(records, out.parent)).as_posix()
    write_page(out, page_html(judged, shown, drawn, {name: archive.named(name) for name in used}, folder))
    return [name for name in known if name not in drawn]


def _table(name: str, planned: dict[str, list[Run]], archive: Archive, path: Path) -> Table:
    title, question = ABLATION if name == "ablation" else (STUDIES[name].title, STUDIES[name].question)
    if not path.is_file():
        raise HyLoRADAError(f"{path} is not there; run `hylorada table` with this scale first.")
    names = {row: [_record(run, archive)["name"] for run in runs] for row, runs in planned.items()}
    rows = pd.read_csv(path, keep_default_na=True)
    if strange := [row for row in rows["stage"] if row not in names]:
        raise HyLoRADAError(f"{path} has the row {strange[0]!r}, which the scale has not; run `hylorada table` again.")
    return Table(title, question, rows, names)


def _record(run: Run, archive: Archive) -> dict[str, Any]:
    record = archive.of(run)
    if record is None:
        raise HyLoRADAError(f"{archive.folder} holds no record of {run.name}; run `hylorada run` with this scale.")
    return record


def _figure(name: str, path: Path) -> Figure:
    if name in FIGURES:
        return Figure(name.replace("_", " ").capitalize(), _said(FIGURES[name]), path.read_bytes())
    return Figure(STUDIES[name].title, f"{STUDIES[name].question} {_said(study_rows)}", path.read_bytes())


def _said(draw: Any) -> str:
    """Return what a figure shows: the description of the function that draws it."""
    return " ".join((inspect.getdoc(draw) or "").split())
