"""A scale of the study as frozen, checked settings: `config/<scale>.yaml` -> `Settings`. Needs no torch."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_type_hints

import yaml
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassFieldValidationError

from hylorada.errors import HyLoRADAError, near
from hylorada.study.sources import project_root
from hylorada.study.studies import STUDIES

COUNTS = (
    *("test_articles", "evaluation_batch", "batch_size", "gradient_accumulation_steps"),
    *("num_epochs", "checkpoint_every", "threads"),
)
POSITIVE = ("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "max_grad_norm")
BUDGET = (  # what a scale may give a study apart from the ablation's
    *("seeds", "train_tokens", "num_epochs", "test_articles", "test_tokens_per_article"),
    *("evaluation_batch", "batch_size", "gradient_accumulation_steps", "checkpoint_every"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run, on what, and for how long; each key is explained in `config/micro.yaml`.

    Raises:
        HyLoRADAError: a value of the wrong kind, or two that contradict each other.
    """

    scale: str
    base: str
    corpus: str
    dtype: Literal["bfloat16", "float32"]
    target_modules: list[str]
    block_tokens: int
    train_tokens: int | None
    evaluation_split: Literal["test", "validation"]
    test_articles: int | None
    test_tokens_per_article: int | None
    evaluation_stride: int
    evaluation_batch: int
    batch_size: int
    gradient_accumulation_steps: int
    num_epochs: int
    learning_rate: float
    position_bias_lr: float
    landmark_lr: float
    embedding_lr: float
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float
    gradient_checkpointing: bool
    checkpoint_every: int
    threads: int
    seeds: list[int]
    studies: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        try:
            validate_typed_dict(SCHEMA, asdict(self))
        except StrictDataclassFieldValidationError as error:
            raise HyLoRADAError(f"scale {self.scale!r}: {' '.join(str(error).split())}") from None
        for name in COUNTS:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise self._error(f"{name}: {getattr(self, name)} is too small; use 1 or more")
        for name in POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise self._error(f"{name}: {getattr(self, name)} is not allowed; use a positive number")
        if not 0 <= self.warmup_ratio < 1 or not 0 <= self.weight_decay < math.inf:
            raise self._error("warmup_ratio must be a share below 1, weight_decay not negative")
        if self.block_tokens < 2:
            raise self._error(f"block_tokens: {self.block_tokens} leaves nothing to predict; use 2 or more")
        if self.train_tokens is not None and (self.train_tokens < 1 or self.train_tokens % self.block_tokens):
            raise self._error(f"train_tokens: {self.train_tokens} is no multiple of block_tokens: {self.block_tokens}")
        if self.test_tokens_per_article is not None and self.test_tokens_per_article < 2:
            raise self._error(f"test_tokens_per_article: {self.test_tokens_per_article} scores nothing; use 2 or more")
        if not 1 <= self.evaluation_stride <= self.block_tokens:
            raise self._error(
                f"evaluation_stride: {self.evaluation_stride} is not in 1 to block_tokens: {self.block_tokens}"
            )
        for name, values in (("seeds", self.seeds), ("target_modules", self.target_modules)):
            if not values or len(set(values)) != len(values):
                raise self._error(f"{name}: {values} must name at least one, each once")
        for study, budget in self.studies.items():
            self._check_study(study, budget)

    def _check_study(self, study: str, budget: dict[str, Any]) -> None:
        if study not in STUDIES:
            raise self._error(f"studies: {study!r} is not known; {near(study, STUDIES)}")
        for name in budget:
            if name not in BUDGET:
                raise self._error(f"studies, {study}: {name!r} is no budget; {near(str(name), BUDGET)}")
        try:
            for row in STUDIES[study].rows.values():
                replace(self, **budget | row.changes, studies={})
        except HyLoRADAError as error:
            raise HyLoRADAError(f"in the study {study!r}: {error}") from None

    def _error(self, text: str) -> HyLoRADAError:
        return HyLoRADAError(f"scale {self.scale!r}, {text}.")


SCHEMA = TypedDict("SCHEMA", get_type_hints(Settings))


def load_settings(scale: str) -> Settings:
    """Read the scale of that name from config/, or the file of that path when it ends in .yaml.

    Raises:
        HyLoRADAError: no such scale or file, no YAML, a missing or unknown key, or what `Settings` refuses.
    """
    folder = project_root() / "config"
    path = Path(scale) if scale.endswith((".yaml", ".yml")) else folder / f"{scale}.yaml"
    if not path.is_file():
        names = [p.stem for p in folder.glob("*.yaml")]
        raise HyLoRADAError(f"scale {scale!r} is not there; {near(scale, names)}, or the path of a .yaml file")
    try:
        values: Any = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HyLoRADAError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise HyLoRADAError(f"{path} holds no settings; it must map names to values, as config/micro.yaml does.")
    known = [field.name for field in fields(Settings) if field.name != "scale"]
    for name in values:
        if name not in known:
            raise HyLoRADAError(f"{path}: {name!r} is no setting; {near(str(name), known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise HyLoRADAError(f"{path}: {', '.join(missing)} missing; config/micro.yaml explains each.")
    return Settings(scale=path.stem, **values)
