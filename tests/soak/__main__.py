"""The long campaigns: `python tests/soak [--every N] [--examples N] [--minutes N]`, which `make soak` calls.

They kill each verb that writes, and fill its disk, at every one of its file-system events, damage every file that is
read, and try whatever may be typed. What each case came to is kept as it goes, so that a stopped soak goes on; at the
end docs/reliability.md is written from it. The exit status is 1 where a case was not as it must be.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from damage import damaged
from properties import PROPERTIES
from repository import ROOT
from strikes import strikes
from workshop import Case, Workshop

from hylorada.study.plan.digest import code_digest
from report import text


def main() -> int:
    """Go through all cases, or as many as there is time for; write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only every so many events and damages (1: all)")
    parser.add_argument("--examples", type=int, default=500, help="of what may be typed, for each property (500)")
    parser.add_argument("--minutes", type=float, default=180, help="after which no further case is begun (180)")
    parser.add_argument("--kept", type=Path, default=ROOT / "results" / "soak.jsonl", help="what each case came to")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md", help="the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.kept.parent.mkdir(parents=True, exist_ok=True)
    found, end = _kept(options.kept), time.monotonic() + 60 * options.minutes
    with TemporaryDirectory() as folder, options.kept.open("a", encoding="utf-8") as kept:
        workshop = Workshop(Path(folder) / "soak")
        workshop.make_inputs()
        left = (
            (key, check) for *key, check in _all(workshop, options.every, options.examples) if tuple(key) not in found
        )
        for (campaign, case), check in left:
            if time.monotonic() > end:
                print("soak: the time is over; the same command goes on from here")
                return 1
            said = found[campaign, case] = check().replace(folder, "")
            kept.write(json.dumps([campaign, case, said]) + "\n")
            kept.flush()
            if said:
                print(f"{campaign}, {case}: {said}", flush=True)
    options.page.write_text(text(found, options.every, options.examples), encoding="utf-8")
    options.kept.unlink()
    print(f"{len(found)} cases, {sum(map(bool, found.values()))} of them not as they must be: {options.page}")
    return 1 if any(found.values()) else 0


def _all(workshop: Workshop, every: int, examples: int) -> Iterator[Case]:
    """Yield campaign, case, and what tries it: it returns what was found, nothing where all is well."""
    for name, check in PROPERTIES.items():
        yield "what is typed", name, partial(_failure, check, examples)
    yield from strikes(workshop, every)
    yield from damaged(workshop, every)


def _failure(check: Callable[[int], None], examples: int) -> str:
    try:
        check(examples)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ""


def _kept(path: Path) -> dict[tuple[str, str], str]:
    """Return what a soak of the same code has found so far; its first line says of which code it is."""
    code = code_digest("hylorada.cli")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines or json.loads(lines[0]) != code:
        path.write_text(json.dumps(code) + "\n", encoding="utf-8")
        return {}
    return {(campaign, case): said for campaign, case, said in map(json.loads, lines[1:])}


if __name__ == "__main__":
    sys.exit(main())
