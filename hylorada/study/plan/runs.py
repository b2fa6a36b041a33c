"""From settings to runs: what each run is, and the identity that tells it from every other. Needs no torch.

Rows of one name, settings, data and code are one run; a row of another name whose settings come out as those of a stage
of the ablation is that stage's run.

A run's identity is the hash of its resolved settings, its data and the code it depends on: two runs of one identity
are the same run, and a record is never taken for one made with other settings, data or code.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.study.plan.ablation import RSLORA, STAGES, arm_of
from hylorada.study.plan.digest import code_digest
from hylorada.study.plan.protocol import GIVEN, Protocol, adapter_config, fitted, training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.rows import Row
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.specification import (
    Articles,
    LinesAsked,
    LinesText,
    NamedProtocol,
    Specification,
    Training,
)
from hylorada.study.plan.studies import STUDIES
from hylorada.study.sources.identity import source_identity

OF_TRAINING = (  # settings that are fields of `TrainingConfig`
    *("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "weight_decay", "warmup_ratio"),
    *("max_grad_norm", "batch_size", "gradient_accumulation_steps", "num_epochs", "checkpoint_every"),
)
WRITTEN_OUT = (  # what a scale says of these stands in the protocol of a run, as in the first records; of others, GIVEN
    *("position_bias_lr", "embedding_lr", "weight_decay", "warmup_ratio", "max_grad_norm"),
)
RUN_CODE = "hylorada.study.run.execute"  # what a record depends on is this module and all that it imports

LONG = 2**10  # tokens: a process that trains on fewer takes longer to start than to train


@dataclass(frozen=True)
class Run:
    """One training and evaluation. seed: None for the untouched base model, which has nothing random."""

    stage: str  # or the row of another table
    seed: int | None
    specification: Specification
    base: str  # a name of `hylorada.study.sources.registry`
    corpus: str
    row: str  # of the table that asks for it: the stage, or a row whose settings come out as the stage's

    @property
    def identity(self) -> str:
        """SHA-256 of the specification, in hexadecimal."""
        return self.specification.identity

    @property
    def name(self) -> str:
        """`<stage>[-seed<k>]-<first 8 digits of the identity>`: the name of the record's folder."""
        return "-".join([self.stage] + [f"seed{self.seed}"] * (self.seed is not None) + [self.identity[:8]])

    def folder(self, records: Path) -> Path:
        """Where the record lies in a folder of records."""
        return Path(records) / self.name


def plan(settings: Settings, study: str) -> dict[str, list[Run]]:
    """Return the runs of each row of a study, in the order of the table, with the budget that the scale gives it.

    Raises:
        HyLoRADAError: the scale does not have this study.
    """
    own = settings.for_study(study)
    return {name: _runs_of_row(own, name, row) for name, row in settings.rows(study).items()}


def all_runs(settings: Settings) -> dict[str, Run]:
    """Return every run of a scale by name, the ablation's first; what two studies share comes once."""
    plans = [plan(settings, study) for study in settings.tables]
    return {run.name: run for planned in plans for runs in planned.values() for run in runs}


def unfinished(runs: Iterable[Run], records: Path) -> list[Run]:
    """Return the runs that have no record yet, or of whose work something is left beside it."""
    there = [path.name for path in Path(records).glob(".*.work*")]  # with what a killed process was removing
    at_work = {name.lstrip(".").partition(".")[0] for name in there}
    return [run for run in runs if run.name in at_work or not (run.folder(records) / "record.json").is_file()]


def cells(settings: Settings) -> dict[str, list[Run]]:
    """Return what one process runs at a time, by name: what is new in a study, or in a row of one that is long.

    Where the runs of a scale are short, its ablation has one process and all other studies share another.
    """
    long = settings.train_tokens is None or settings.train_tokens * settings.num_epochs >= LONG
    groups: list[tuple[str, list[Run]]] = []
    for study in settings.tables:
        rows = plan(settings, study)
        groups += rows.items() if STUDIES[study].by_row and long else [(study, sum(rows.values(), []))]
    if not long:
        (name, runs), *others = groups
        groups = [(name, runs), ("studies", sum((more for _, more in others), []))]
    taken: set[str] = set()
    new_runs = {}
    for name, runs in groups:
        own = list({run.name: run for run in runs if run.name not in taken}.values())
        taken |= {run.name for run in own}
        if own:
            new_runs[cell_name(name, own)] = own
    return new_runs


def cell_name(name: str, runs: list[Run]) -> str:
    """Name the file that says all runs of a cell are done, after all their identities."""
    together = sha256("".join(run.identity for run in runs).encode()).hexdigest()
    return f"{name}-{together[:8]}"


def _runs_of_row(own: Settings, key: str, row: Row) -> list[Run]:
    """Return the runs of a row: those of a stage where its changes leave that stage's settings as they are."""
    changed = own.of_row(row)
    runs = _runs(changed, key, row.adapter, arm_of(key, row))
    for stage in (name for name, stage in STAGES.items() if stage.adapter == row.adapter and name != key):
        same = _runs(own, stage, row.adapter, stage)
        if [run.specification for run in same] == [replace(run.specification, stage=stage) for run in runs]:
            return [replace(run, row=key) for run in same]
    return runs


def _runs(settings: Settings, name: str, adapter: HyLoRADAConfig | None, arm: str) -> list[Run]:
    seeds = [None] if adapter is None else settings.seeds
    return [
        Run(name, seed, _specification(settings, name, adapter, arm, seed), settings.base, settings.corpus, name)
        for seed in seeds
    ]


def _specification(
    settings: Settings, name: str, adapter: HyLoRADAConfig | None, arm: str, seed: int | None
) -> Specification:
    protocol = _cut(PROTOCOLS[settings.protocol], settings)
    has_lines = protocol.training_text is not None
    block_tokens = protocol.block_tokens if has_lines else settings.block_tokens
    return Specification(
        stage=name,
        base=_identity("model", settings.base),
        corpus=_identity("corpus", settings.corpus),
        code=_code(),
        dtype=settings.dtype,
        compile="pieces" if settings.compile == "pieces" else None,
        protocol=NamedProtocol(name=settings.protocol, **vars(protocol)),
        block_tokens=block_tokens,
        evaluation=_evaluation(settings, protocol),
        measures=_measures(settings, protocol, adapter),
        adapter=adapter and _adapter(settings, protocol, adapter, block_tokens),
        training=None if adapter is None else _training(settings, protocol, adapter, arm, seed),
        train_tokens=None if adapter is None or has_lines else settings.train_tokens,
    )


def _adapter(settings: Settings, protocol: Protocol, adapter: HyLoRADAConfig, block_tokens: int) -> HyLoRADAConfig:
    adapter = replace(adapter, **settings.adapter)
    return replace(
        adapter_config(protocol, adapter),
        lora_target_modules=tuple(settings.target_modules),
        max_positions=adapter.max_positions or block_tokens,  # buckets over the length in use
        s2_group_size=block_tokens // 4,  # as LongLoRA has it
        gradient_checkpointing=settings.gradient_checkpointing,
    )


def _training(settings: Settings, protocol: Protocol, adapter: HyLoRADAConfig, arm: str, seed: int | None) -> Training:
    rate = settings.tuned_rates.get(arm)
    rates = {} if rate is None else {"learning_rate": rate, "landmark_lr": rate}
    named = _rates_of_parts(adapter)
    own = {named[part]: part_rate for part, part_rate in settings.part_rates.items() if part in named}
    given = {name: getattr(settings, name) for name in OF_TRAINING} | {"batch_size": settings.blocks_of_pass}
    return Training(**training_config(protocol, given | rates) | own, seed=seed)


def _rates_of_parts(adapter: HyLoRADAConfig) -> dict[str, str]:
    """Return the field of `TrainingConfig` with the rate of each part that a scale may give one of its own."""
    landmark = "constant" if adapter.landmark_design == "constant" else "landmark"
    return {"magnitude": "magnitude_lr", "position_bias": "position_bias_lr", landmark: "landmark_lr"}


def _cut(protocol: Protocol, settings: Settings) -> Protocol:
    said = {name: getattr(settings, name) for name in WRITTEN_OUT if getattr(protocol, name) == GIVEN}
    cut = fitted(
        protocol,
        settings.train_lines,
        settings.measures.get("lines"),
        settings.line_tokens,
        settings.line_characters,
        settings.step_rows,
    )
    return replace(cut, **said)


def _evaluation(settings: Settings, protocol: Protocol) -> Articles | LinesText:
    """What the main text is: the lines of a published protocol, or articles of the corpus."""
    own = settings.evaluation_dtype in (None, settings.dtype)
    how = {"batch_size": settings.evaluation_batch, "dtype": None if own else settings.evaluation_dtype}
    if protocol.evaluation_text is not None:
        return LinesText(**vars(_lines(protocol)), stride=protocol.evaluation_tokens, **how)
    return Articles(
        **how,
        max_length=settings.block_tokens,
        stride=settings.evaluation_stride,
        split=settings.evaluation_split,
        articles=settings.test_articles,
        tokens_per_article=settings.test_tokens_per_article,
    )


def _measures(
    settings: Settings, protocol: Protocol, adapter: HyLoRADAConfig | None
) -> dict[str, int | None | LinesAsked]:
    """What is measured beside the main text; the published lines are no further measure where they are that text.

    The low-rank update alone, which other rows are held against, is the one that has a placebo.
    """
    measures: dict[str, int | None | LinesAsked] = dict(settings.measures)
    if adapter != RSLORA or protocol.adapter_dtype == "base":  # chance so small is rounded away in short types
        measures.pop("placebo", None)
    if "lines" in measures:
        measures["lines"] = _lines(_cut(PROTOCOLS["as_published"], settings))
        if protocol.training_text is not None:
            del measures["lines"]
    return measures


def _lines(protocol: Protocol) -> LinesAsked:
    return LinesAsked(
        lines=protocol.evaluation_text, max_length=protocol.evaluation_tokens, min_tokens=protocol.min_tokens
    )


@cache
def _identity(kind: str, name: str) -> dict[str, Any]:
    return source_identity(kind, name)


@cache
def _code() -> str:
    return code_digest(RUN_CODE)
