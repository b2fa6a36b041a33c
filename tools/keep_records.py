"""Copy the records of a finished study into a folder that is kept: `python tools/keep_records.py SCALE [FROM [TO]]`.

Only what a scale plans is copied, without adapters; a file beside the records says that they are kept while the code
goes on (`hylorada.study.records.archive.KEPT`).
"""

import shutil
import sys
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.files import write_json, written_beside
from hylorada.study.checkout import project_root
from hylorada.study.plan.record import read_record
from hylorada.study.plan.runs import all_runs, unfinished
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import KEPT
from hylorada.study.run.machine import git_state

FILES = ("record.json", "nll.npz", "lines.npz")


def keep(scale: str, source: Path, target: Path) -> int:
    """Replace `target` by the records of a scale's runs in `source`; return how many there are.

    Raises:
        HyLoRADAError: a planned run has no record.
    """
    runs = all_runs(load_settings(scale)).values()
    if missing := [run.name for run in unfinished(runs, source)]:
        raise HyLoRADAError(
            f"{source} lacks {len(missing)} runs of {scale}, the first {missing[0]}; finish them first."
        )
    trained = 0
    with written_beside(target) as beside:
        for run in runs:
            training = read_record(run.folder(source) / "record.json").training
            trained += training.targets if training else 0
            (beside / run.name).mkdir(parents=True)
            for file in FILES:
                if (run.folder(source) / file).is_file():
                    shutil.copyfile(run.folder(source) / file, beside / run.name / file)
        kept_at = git_state(project_root())["commit"]
        kept = {"scale": scale, "runs": len(runs), "trained_tokens": trained, "kept_at": kept_at}
        write_json(beside / KEPT, kept)
    return len(runs)


if __name__ == "__main__":
    scale, *folders = sys.argv[1:] or ["micro"]
    places = [Path("results/runs"), project_root() / "data" / "reference" / scale]
    source, target = [Path(folder) for folder in folders] + places[len(folders) :]
    try:
        print(f"{keep(scale, source, target)} records in {target}")
    except HyLoRADAError as error:
        sys.exit(f"keep_records: {error}")
