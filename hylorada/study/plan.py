"""From settings to runs: what each run is, and the identity that tells it from every other. Needs no torch.

A run's identity is the hash of its resolved settings, its data and the code it depends on: two runs of one identity
are the same run, and a record is never taken for one made with other settings, data or code.
"""

import json
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.study.provenance import code_digest
from hylorada.study.settings import Settings
from hylorada.study.sources import source_identity
from hylorada.study.stages import STAGES

RUN_CODE = "hylorada.study.runs"  # what a record depends on is this module and all that it imports


@dataclass(frozen=True)
class Run:
    """One training and evaluation. seed: None for the untouched base model, which has nothing random."""

    stage: str
    seed: int | None
    specification: dict[str, Any]

    @property
    def identity(self) -> str:
        """SHA-256 of the specification, in hexadecimal."""
        return sha256(json.dumps(self.specification, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """`<stage>[-seed<k>]-<first 8 digits of the identity>`: the name of the record's folder."""
        return "-".join([self.stage] + [f"seed{self.seed}"] * (self.seed is not None) + [self.identity[:8]])

    def folder(self, records: Path) -> Path:
        """Where the record lies in a folder of records."""
        return Path(records) / self.name


def plan(settings: Settings) -> dict[str, list[Run]]:
    """Return the runs of each stage, in the order of the table."""
    return {name: [_run(settings, name, seed) for seed in _seeds(settings, name)] for name in settings.stages}


def cell_name(runs: list[Run]) -> str:
    """Name the file that says all runs of a stage are done, after all their identities."""
    together = sha256("".join(run.identity for run in runs).encode()).hexdigest()
    return f"{runs[0].stage}-{together[:8]}"


def _seeds(settings: Settings, stage: str) -> list[int | None]:
    return [None] if STAGES[stage].adapter is None else list(settings.seeds)


def _run(settings: Settings, stage: str, seed: int | None) -> Run:
    adapter = STAGES[stage].adapter
    specification = {
        "stage": stage,
        "base": _identity("model", settings.base),
        "corpus": _identity("corpus", settings.corpus),
        "code": _code(),
        "dtype": settings.dtype,
        "block_tokens": settings.block_tokens,
        "evaluation": {
            "max_length": settings.block_tokens,
            "stride": settings.evaluation_stride,
            "batch_size": settings.evaluation_batch,
            "articles": settings.test_articles,
            "tokens_per_article": settings.test_tokens_per_article,
        },
        "adapter": None,
        "training": None,
        "train_tokens": None,
    }
    if adapter is not None:
        specification["train_tokens"] = settings.train_tokens
        specification["adapter"] = adapter.to_dict() | {
            "lora_target_modules": settings.target_modules,
            "max_positions": settings.block_tokens,  # buckets over the length in use
            "gradient_checkpointing": settings.gradient_checkpointing,
        }
        specification["training"] = {
            "learning_rate": settings.learning_rate,
            "position_bias_lr": settings.position_bias_lr,
            "landmark_lr": settings.landmark_lr,
            "weight_decay": settings.weight_decay,
            "warmup_ratio": settings.warmup_ratio,
            "max_grad_norm": settings.max_grad_norm,
            "batch_size": settings.batch_size,
            "gradient_accumulation_steps": settings.gradient_accumulation_steps,
            "num_epochs": settings.num_epochs,
            "checkpoint_every": settings.checkpoint_every,
            "seed": seed,
        }
    return Run(stage, seed, specification)


@cache
def _identity(kind: str, name: str) -> dict[str, Any]:
    return source_identity(kind, name)


@cache
def _code() -> str:
    return code_digest(RUN_CODE)
