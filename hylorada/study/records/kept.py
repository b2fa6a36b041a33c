"""Scales whose records are kept: folders that `tools/keep_records.py` wrote, and which of them trained most."""

from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.reading import read_json
from hylorada.study.checkout import project_root
from hylorada.study.plan.registered import read_plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.archive import KEPT


def kept_scales(folder: Path) -> list[Path]:
    """Return the folders of kept records below `folder`, that of the most tokens of training last."""
    return sorted((path.parent for path in Path(folder).glob(f"*/{KEPT}")), key=kept_tokens)


def kept_scale(folder: Path) -> str:
    """Return the scale whose records a folder holds (HyLoRADAError where it holds no kept ones)."""
    return _kept(folder, "scale")


def kept_tokens(folder: Path) -> int:
    """Return the tokens that the runs of a kept scale trained on."""
    return _kept(folder, "trained_tokens")


def largest_kept(folder: Path) -> Path:
    """Return `folder` if it holds kept records, else the one below it whose runs trained most.

    Raises:
        HyLoRADAError: there are none.
    """
    if (Path(folder) / KEPT).is_file():
        return Path(folder)
    if not (scales := kept_scales(folder)):
        raise HyLoRADAError(
            f"{folder} holds no kept records ({KEPT}); name a folder that does, such as data/reference, or say whose "
            "they are: RECORDS=FOLDER SCALE=NAME reads FOLDER/NAME."
        )
    return scales[-1]


def full_answer(scale: str, reference: Path | None = None) -> str:
    """Say where the full answer to what a scale asks stands; empty where it is that one, or has another base or text.

    reference: the folder of kept scales, by default that of this checkout.
    """
    reference = project_root() / "data" / "reference" if reference is None else Path(reference)
    quick, full = load_settings(scale), load_settings(read_plan().scale)
    if quick.scale == full.scale or (quick.base, quick.corpus) != (full.base, full.corpus):
        return ""
    told, make = (
        f"{quick.scale} is the quick look; the full answer is that of {full.scale}",
        f"make paper SCALE={full.scale}",
    )
    if (reference / full.scale / KEPT).is_file():
        return f"{told}, from kept records: {make} RECORDS=data/reference"
    return f"{told}, which takes hours: {make}"


def _kept(folder: Path, name: str) -> Any:
    values = read_json(Path(folder) / KEPT)
    if name not in values:
        raise HyLoRADAError(f"{folder}/{KEPT} lacks {name}; keep the records again with tools/keep_records.py.")
    return values[name]
