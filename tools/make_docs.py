"""Make what can be read without running anything: `make docs`, or `python tools/make_docs.py`.

From the kept records of the largest scale in data/reference: docs/paper.pdf, docs/index.html, docs/result.png, and in
README.md what stands between `<!-- made: result -->` and `<!-- end -->`. docs/made.json says of which records they are.
"""

import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from artifact_table import filled

from hylorada.cli import main as hylorada
from hylorada.errors import HyLoRADAError
from hylorada.files import sha256_of, write_json, written_beside
from hylorada.study.checkout import project_root
from hylorada.study.claims import summary
from hylorada.study.claims.judgement import Judgement, judge
from hylorada.study.figures.rows import FIGURES
from hylorada.study.page.pictures import with_palette
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.kept import kept_scale, largest_kept
from hylorada.study.results.protocols import protocol_table

DOCS, REFERENCE = project_root() / "docs", project_root() / "data" / "reference"
README, MADE = project_root() / "README.md", DOCS / "made.json"
RESULT = "effects"  # the figure that the README shows
PICTURE, PAPER, PAGE = DOCS / "result.png", DOCS / "paper.pdf", DOCS / "index.html"


def digest_of(records: Path) -> str:
    """Return the SHA-256 of the names and contents of all records in a folder, in hexadecimal."""
    files = [path for path in sorted(records.glob("*/*")) if path.suffix in (".json", ".npz")]
    told = "".join(f"{path.relative_to(records).as_posix()} {sha256_of(path)}\n" for path in files)
    return sha256(told.encode()).hexdigest()


def result(judgement: Judgement) -> str:
    """Return what was claimed and what came out, as Markdown with the figure of all effects."""
    evidence, headlines = judgement.evidence, judgement.catalogue.headlines
    protocols = protocol_table(evidence.records("as_published"), evidence.records("ablation"))
    claims = [judgement.row(claim) for claim in judgement.catalogue]
    five = summary.steps(claims, headlines, protocols)
    corrected = summary.was_found(protocols, summary.CORRECTED, [step.corrected for step in five])
    told = {
        "Claimed": summary.was_claimed(claims, headlines),
        "Measured": corrected,
        "What holds": summary.what_follows(judgement.counts, five),
    }
    lines = [f"![{FIGURES[RESULT].caption}]({PICTURE.relative_to(README.parent).as_posix()})\n"]
    lines += [f"- **{heading}.** {text}" for heading, text in told.items()]
    return "\n".join(lines) + f"\n\nThese are records of the scale `{judgement.settings.scale}`.\n"


def make(scale: str, folder: Path) -> None:
    """Make paper, page and figures of a scale in a scratch folder, and put what is read into docs.

    Raises:
        HyLoRADAError: a step ended with an error, which it has printed.
    """
    records = REFERENCE / scale
    tables, figures, claims = folder / "tables", folder / "figures", folder / "claims.json"
    of_scale = ["--scale", scale, "--records", str(records)]
    drawn = ["--figures", str(figures)]
    csv = [str(tables / f"{name}.csv") for name in ("ablation", "claims")]
    steps = (
        ["table", *of_scale, "--out", str(folder), "--csv", csv[0]],
        ["claims", *of_scale, "--out", str(folder), "--json", str(claims), "--csv", csv[1], *drawn],
        ["figure", *of_scale, "--out", str(figures)],
        ["paper", "--generated", str(folder), *drawn, "--out", str(folder / PAPER.name)],
    )
    for step in steps:
        _run(step)
    shutil.copyfile(folder / PAPER.name, PAPER)
    with written_beside(PICTURE) as beside:
        beside.write_bytes(with_palette((figures / f"{RESULT}.png").read_bytes()))
    beside_page = ["--claims", str(claims), "--tables", str(tables), "--paper", str(PAPER), *drawn]
    _run(["page", *of_scale, *beside_page, "--out", str(PAGE)])


def _run(step: list[str]) -> None:
    if hylorada(step):
        raise HyLoRADAError(f"`hylorada {step[0]}` did not end well; nothing in docs is new.")


def main() -> None:
    """Make everything anew."""
    scale = kept_scale(largest_kept(REFERENCE))
    with tempfile.TemporaryDirectory() as scratch:
        make(scale, Path(scratch))
    judgement = judge(load_settings(scale), REFERENCE / scale)
    part = result(judgement)
    text = filled(README.read_text(encoding="utf-8"), {"result": part})
    with written_beside(README) as beside:
        beside.write_text(text, encoding="utf-8")
    made = {path.relative_to(README.parent).as_posix(): sha256_of(path) for path in (PAPER, PAGE, PICTURE)}
    write_json(MADE, {"scale": scale, "records": digest_of(REFERENCE / scale), "made": made})
    print(*made, README.name, sep="\n")


if __name__ == "__main__":
    try:
        main()
    except HyLoRADAError as error:
        sys.exit(f"make_docs: {error}")
