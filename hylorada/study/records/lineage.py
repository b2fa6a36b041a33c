"""What a record says of where its numbers come from, in words: settings, data, code, machine, times."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.study.plan.digest import code_digest
from hylorada.study.plan.record import Commit, Machine, Record
from hylorada.study.plan.runs import RUN_CODE
from hylorada.study.plan.specification import LinesText, Specification
from hylorada.study.sources.registry import find_corpus, find_model
from hylorada.typed import plain

DIGITS = 12  # of a digest, enough to tell two apart


def lineage(record: Record) -> dict[str, str]:
    """Return what made a record, a line by its heading; a heading that says nothing of this run is left out."""
    spec, machine = record.specification, record.machine
    told = {
        "protocol": spec.protocol and spec.protocol.name,  # older records know no protocol
        "adapter": _adapter(spec.adapter),
        "training": _training(spec),
        "seed": "" if spec.training is None else str(spec.training.seed),
        "scored": _scored(spec, record.results),
        "base": f"{_source('model', spec.base)}; weights sha256 {record.data.model_sha256[:DIGITS]}",
        "text": f"{_source('corpus', spec.corpus)}; tokens sha256 {record.data.tokens_digest[:DIGITS]}",
        "code": f"digest {spec.code[:DIGITS]}, {'the' if is_present_code(record) else 'not the'} present code",
        "commit": _commit(record.git),
        "machine": _machine(machine),
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "time": _time(record),
    }
    return {heading: text for heading, text in told.items() if text}


def is_present_code(record: Record) -> bool:
    """Whether the code that made a record is that of this checkout."""
    return record.specification.code == _present_code()


def in_common(told: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the headings under which all records that say anything say the same: the base has no training to tell."""
    heads = dict.fromkeys(heading for each in told for heading in each)
    values = {heading: {each[heading] for each in told if heading in each} for heading in heads}
    return {heading: texts.pop() for heading, texts in values.items() if len(texts) == 1}


@cache
def _present_code() -> str:
    return code_digest(RUN_CODE)


def _adapter(adapter: HyLoRADAConfig | None) -> str:
    if adapter is None:
        return "none: the untouched base model"
    own, usual = adapter.to_dict(), HyLoRADAConfig().to_dict()
    idle = () if adapter.s2_attn_enabled else ("s2_group_size",)
    told = [name for name in sorted(own) if name in ("lora_rank", "lora_alpha") or own[name] != usual[name]]
    return _settings({name: own[name] for name in told if name not in idle})


def _training(spec: Specification) -> str:
    if spec.training is None:
        return ""
    lines = spec.protocol.training_text if spec.protocol else None
    tokens = "all tokens" if spec.train_tokens is None else f"{spec.train_tokens:,} tokens"
    if lines is not None:
        tokens = f"{lines.count:,} lines"
    others = {name: value for name, value in sorted(plain(spec.training).items()) if name != "seed"}
    return f"{tokens} in blocks of {spec.block_tokens:,}, {spec.dtype}; {_settings(others)}"


def _scored(spec: Specification, results: Mapping[str, Any]) -> str:
    asked = spec.evaluation
    seen = f"{results['scored_tokens']:,} tokens of "
    if isinstance(asked, LinesText):
        seen += f"the first {asked.lines.count:,} {asked.lines.split} lines that qualify"
    else:
        seen += f"{results['articles']} {asked.split} articles"
    return f"{seen}, windows of {asked.max_length:,}, stride {asked.stride:,}"


def _source(kind: str, identity: Mapping[str, Any]) -> str:
    """Name a source with its description and licence; a local folder has no name in a record."""
    if "name" in identity:
        row = (find_model if kind == "model" else find_corpus)(identity["name"])
        return f"{identity['name']} ({row.description}; {row.licence})"
    if "repository" in identity:
        part = f":{identity['configuration']}" if identity["configuration"] else ""
        return f"{identity['repository']}{part} at {identity['revision'][:DIGITS]} (licence as its repository says)"
    return "a local folder (licence the user's)"


def _commit(git: Commit) -> str:
    if git.commit is None:
        return "not made in a git checkout"
    return git.commit + (", with changes that were not committed" if git.changed else "")


def _machine(machine: Machine) -> str:
    threads = machine.threads
    processor = f"{machine.processor}, {machine.cores} cores, {threads} thread{'s' * (threads != 1)}"
    device = "" if machine.device == "cpu" else f"{machine.device} beside "
    memory = f", memory by {machine.allocator}" if machine.allocator else ""
    compiled = f", compiled: {machine.compiled}" if machine.compiled else ""
    products = f", bfloat16 multiplied by {machine.half_products}" if machine.half_products else ""
    return f"{device}{processor}, {machine.system}{memory}{compiled}{products}"


def _time(record: Record) -> str:
    parts = f"{record.evaluation_seconds:.0f} s scoring"
    if record.training:
        parts = f"{record.training.seconds:.0f} s training, {parts}"
    peak = ", ".join(f"{value:.2f} GiB of {name} memory" for name, value in record.peak_memory_gib.items())
    when = datetime.fromisoformat(record.finished)
    return f"{parts}, {peak}, done {when:%Y-%m-%d %H:%M} {when:%Z}"


def _settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={' '.join(value) if isinstance(value, list) else value}" for name, value in values.items())
