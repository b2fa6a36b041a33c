"""Run the benchmark, keep what it measured as a record, and write the records of a folder as one page of tables."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch

from hylorada.bench.against import check_against
from hylorada.bench.competitors import Setting, check_context, import_peft_package
from hylorada.bench.goals import goals
from hylorada.bench.sections import SECTIONS, Row
from hylorada.errors import HyLoRADAError, near
from hylorada.files import make_folder, write_json, written_beside
from hylorada.reading import read_json
from hylorada.wide_products import wide_products

LOG = logging.getLogger(__name__)
ABOUT = """Written by `hylorada bench` from the records beside it. All competitors of a table ran in turn in one run,
each round in another order; a ratio is the median over the rounds, its quartiles in brackets, below 1 is faster (or
smaller) than what it is held to. Absolute times are for scale only. Both sides start from the same frozen base and take
AdamW steps on the model's own loss, without dropout; LoRA, rsLoRA, DoRA and HyLoRADA adapt the same layers with the
same rank and scale. Both hold the adapter in float32. PEFT, as it comes, then multiplies in float32 too, where this
library multiplies in the base's dtype; "adapter as base" is PEFT told to hold the adapter in the base's dtype, which
saves that and gives up the masters. Peak memory is what a call allocates through torch beyond what was there: neither
the weights nor the optimiser's state. "Of the machine's products" is the share of a step's time in which the processor
could do the step's matrix products, at the speed that it showed in the same round. Beside the code before, each side is
a process of its own, with the memory allocator that it comes with."""
KINDS = ("cpu", "cpu-widened", "cpu-float32", "cuda", "cuda-float32")  # of machine and dtype, as `_kind` names them
RECORDS = [f"{kind}{how}" for kind in KINDS for how in ("", "-compiled")]


def run_benchmark(setting: Setting, machine: dict[str, Any], only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure all sections, or those named; return the record.

    machine: what ran it (versions, processor, allocator), kept in the record.

    Raises:
        HyLoRADAError: a section is not known, the model is not there, or PEFT is not.
    """
    for name in only:
        if name not in SECTIONS:
            raise HyLoRADAError(f"section {name!r} is not in the benchmark; {near(name, SECTIONS)}")
    versions = machine["versions"] | {"peft": import_peft_package().__version__}
    if setting.against is None and "before" in only:
        raise HyLoRADAError("the section 'before' needs --against, a checkout of the code before.")
    known_by = None if setting.against is None else check_against(Path(setting.against))
    check_context(setting)
    record = {"setting": asdict(setting) | {"against": known_by}, "machine": machine | {"versions": versions}}
    record["sections"] = {}
    record["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    for name, (title, measure) in SECTIONS.items():
        if name in only if only else name != "before" or setting.against:
            LOG.info("%s ...", title)
            with wide_products():  # for us and for PEFT, whose code shares this process
                record["sections"][name] = measure(setting, _tell(title))
            torch.cuda.empty_cache()
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    return record


def save(record: dict[str, Any], folder: Path) -> Path:
    """Write a record to a folder under the name of its kind, and the folder's page anew; return the page."""
    make_folder(folder)
    write_json(folder / f"{_kind(record)}{'-compiled' * record['setting']['compiled']}.json", record)
    records = [
        read_json(path, setting=dict, machine=dict, sections=dict)
        for path in (folder / f"{name}.json" for name in RECORDS)
        if path.is_file()
    ]
    with written_beside(folder / "README.md") as beside:
        beside.write_text(page(records), encoding="utf-8")
    return folder / "README.md"


def page(records: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown page of some records."""
    lines = [
        "# What each part costs",
        "",
        *wrap(ABOUT, 120),
    ]
    for record in records:
        lines += ["", f"## {_heading(record)}", "", _described(record)]
        reached = goals(record)
        if reached:
            lines += ["", *_table(reached)]
        for name, (title, measure) in SECTIONS.items():  # in this order, whatever the file's
            if rows := record["sections"].get(name):
                lines += ["", f"### {title}", "", measure.__doc__, "", *_table([_shown(row) for row in rows])]
    return "\n".join(lines) + "\n"


def _heading(record: dict[str, Any]) -> str:
    setting = record["setting"]
    device = "CPU" if setting["device"] == "cpu" else record["machine"]["device"]
    dtype = "" if setting["dtype"] == "bfloat16" else f" in {setting['dtype']}"
    if units := record["machine"].get("half_products"):
        dtype = f" without bfloat16 units, by its {units}"
    return f"{device}{dtype}{', compiled' if setting['compiled'] else ''}"


def _kind(record: dict[str, Any]) -> str:
    """Name device and dtype as a file's name does; a processor without bfloat16 units is a kind of its own."""
    setting = record["setting"]
    dtype = "" if setting["dtype"] == "bfloat16" else f"-{setting['dtype']}"
    return f"{setting['device']}{'-widened' if record['machine'].get('half_products') else dtype}"


def _described(record: dict[str, Any]) -> str:
    setting, machine = record["setting"], record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(machine["versions"].items()))
    memory = f"memory by {machine['allocator']}; " if "allocator" in machine else ""  # earlier records do not tell
    before = f"the code before is commit {setting['against']}; " if setting.get("against") else ""
    return (
        f"{Path(setting['model']).name} in {setting['dtype']}, {setting['tokens']} tokens a step, "
        f"rank {setting['rank']}, {setting['rounds']} rounds; {machine['processor']}, {machine['threads']} thread(s); "
        f"{memory}{before}{versions}; "
        f"{record['started'][:10]}."
    )


def _shown(row: Row) -> dict[str, str]:
    """Return a row as it is printed."""
    shown = {"": row["name"], "ms": f"{row['milliseconds']:,.1f}"}
    shown["time, ratio"] = f"{_spread(row['ratio'])} of {row['against']}"
    if "second_ratio" in row:
        shown[f"over {row['second_against']}"] = _spread(row["second_ratio"])
    if "peak_mib" in row:
        shown["peak MiB"] = f"{row['peak_mib']:,.1f}"
    if "memory_ratio" in row:
        shown["memory, ratio"] = f"{row['memory_ratio']:.2f}"
    if "largest_relative_error" in row:
        shown["largest relative difference"] = f"{row['largest_relative_error']:.1e}"
    if "of_machine" in row:
        shown["of the machine's products"] = f"{100 * row['of_machine']['median']:.0f} %"
    if "trained" in row:
        shown["trained"] = f"{row['trained']:,}"
    return shown


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _table(rows: list[dict[str, str]]) -> list[str]:
    names = list(rows[0])
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *[list(row.values()) for row in rows]]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _tell(title: str) -> Callable[[int], None]:
    return lambda done: LOG.info("%s: %d rounds", title, done)
