"""Every kind of file that the study makes, as rows of data: which command makes it, and of which runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.reading import hold, read_json
from hylorada.study.figures.rows import figure_row
from hylorada.study.plan.runs import Run, all_runs, plan
from hylorada.study.plan.settings import Settings
from hylorada.study.results.rows import ALL, JUDGED, table_row

NAMED, PUBLISHED, CLAIMS, CELL = "named", "published", "claims", "cell"
Plan = dict[str, list[Run]]


@dataclass(frozen=True)
class Output:
    """A kind of file. of: what it is made of; NAMED when its name says which figure or table.

    Beside what a table reads: PUBLISHED is the ablation by the published protocol, CELL the runs that the file lists.
    """

    pattern: str
    command: str  # with {} for the name
    rule: str
    of: str = NAMED

    def made_by(self, name: str, scale: str) -> str:
        """Return the command that makes the file of that name at a scale."""
        command = self.command.format(name)
        return command if self.rule in ("paper", "report") else f"{command} --scale {scale}"


OUTPUTS = (  # the first that fits counts
    Output("figures/published_numbers.*", "hylorada claims", "claims", PUBLISHED),
    Output("figures/*.pdf", "hylorada figure {}", "figure"),
    Output("figures/*.png", "hylorada figure {}", "figure"),
    *(Output(f"tables/{name}.*", "hylorada claims", "claims", CLAIMS) for name in (*JUDGED, "claims_numbers")),
    Output("results/claims.json", "hylorada claims", "claims", CLAIMS),
    Output("tables/floats.tex", "hylorada table", "table", ALL),
    Output("tables/absent.tex", "hylorada table", "table", ALL),
    Output("tables/*.tex", "hylorada table", "table"),
    Output("tables/*.csv", "hylorada table", "table"),
    Output("paper/numbers.tex", "hylorada table", "table", "ablation"),
    Output("paper/main.pdf", "hylorada paper", "paper", ALL),
    Output("results/index.html", "hylorada page", "page", ALL),
    Output("results/cells/*.json", "hylorada run", "run", CELL),
    Output("results/report.html", "snakemake --report results/report.html", "report", ALL),
)


def find_output(path: Path) -> Output:
    """Return the kind of a file.

    Raises:
        HyLoRADAError: it is none of `OUTPUTS`, or it is not there.
    """
    output = next((output for output in OUTPUTS if path.match(output.pattern)), None)
    if output is None:
        known = ", ".join(output.pattern for output in OUTPUTS)
        raise HyLoRADAError(
            f"{path} is no output of the study; known are {known}, a folder of a record, and the id of a claim."
        )
    if not path.is_file():
        raise HyLoRADAError(f"{path} is not there; `{output.command.format(path.stem)}` makes it.")
    return output


def reads(output: Output, name: str, settings: Settings) -> str:
    """Return what a file is made of: the ablation, a study, the benchmark, or several of them.

    Raises:
        HyLoRADAError: the scale has no such figure or table.
    """
    if output.of != NAMED:
        return output.of
    if output.rule == "figure":
        return ALL if (row := figure_row(settings, name)).beside else row.reads
    return table_row(settings, name).reads


def runs_behind(made_of: str, path: Path, settings: Settings) -> Plan:
    """Return the runs behind a file by row; rows of two tables that are the same runs come once."""
    match made_of:
        case "benchmark":
            return {}
        case "cell":
            runs = all_runs(settings)
            return {row["name"]: [runs[row["name"]]] for row in _summary(path) if row["name"] in runs}
        case "both":
            return _together(settings, ["as_published"] * ("as_published" in settings.studies))
        case "published":
            return plan(settings, "as_published") if "as_published" in settings.studies else {}
        case "all" | "claims":
            return _together(settings, list(settings.studies))
    return plan(settings, made_of)


def _summary(path: Path) -> list[dict[str, Any]]:
    rows = read_json(path, list)
    for row in rows:
        hold(row, path, name=str)
    return rows


def held_against(made_of: str, row: str, settings: Settings) -> str | None:
    """Return the row that a row of a table is held against."""
    rows = settings.rows(made_of if made_of in settings.tables else "ablation")
    return rows[row].against if row in rows else None


def _together(settings: Settings, studies: list[str]) -> Plan:
    together = plan(settings, "ablation")
    for study in studies:
        for row, runs in plan(settings, study).items():
            together[row if together.get(row, runs) == runs else f"{study}: {row}"] = runs
    return together
