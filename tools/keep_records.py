"""Copy the records of a study into a folder that is kept: `python tools/keep_records.py [--begun] SCALE [FROM [TO]]`.

Only what a scale plans is copied, without adapters; a file beside the records says that they are kept while the code
goes on (`hylorada.study.records.archive.KEPT`). With --begun, of a study that is not finished, that file is BEGUN: it
names the commit whose code made the records, which alone takes them for its own and goes on from them.
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
BEGUN = "begun.json"


def keep(scale: str, source: Path, target: Path, begun: bool = False) -> int:
    """Replace `target` by the records of a scale's runs in `source`; return how many there are.

    begun: some runs may have none.

    Raises:
        HyLoRADAError: a planned run has no record, or with `begun` none has one, or they are of several commits.
    """
    planned = all_runs(load_settings(scale)).values()
    missing = [run.name for run in unfinished(planned, source)]
    runs = [run for run in planned if run.name not in missing]
    if missing and not begun:
        raise HyLoRADAError(
            f"{source} lacks {len(missing)} runs of {scale}, the first {missing[0]}; finish them first."
        )
    if not runs:
        raise HyLoRADAError(f"{source} has no run of {scale}; make some first, with the code of this checkout.")
    records = {run.name: read_record(run.folder(source) / "record.json") for run in runs}
    made_by = {record.git.commit for record in records.values()}
    if begun and len(made_by) > 1:
        raise HyLoRADAError(f"the runs of {scale} in {source} are of {len(made_by)} commits; go on with one of them.")
    trained = sum(record.training.targets for record in records.values() if record.training)
    with written_beside(target) as beside:
        for run in runs:
            (beside / run.name).mkdir(parents=True)
            for file in FILES:
                if (run.folder(source) / file).is_file():
                    shutil.copyfile(run.folder(source) / file, beside / run.name / file)
        kept = {"scale": scale, "runs": len(runs), "trained_tokens": trained}
        if begun:
            write_json(beside / BEGUN, kept | {"of": len(planned), "made_by": made_by.pop()})
        else:
            write_json(beside / KEPT, kept | {"kept_at": git_state(project_root()).commit})
    return len(runs)


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--begun"]
    scale, *folders = given or ["micro"]
    places = [Path("results/runs"), project_root() / "data" / "reference" / scale]
    source, target = [Path(folder) for folder in folders] + places[len(folders) :]
    try:
        print(f"{keep(scale, source, target, '--begun' in sys.argv)} records in {target}")
    except HyLoRADAError as error:
        sys.exit(f"keep_records: {error}")
