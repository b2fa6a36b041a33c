"""A scale of the study as frozen, checked settings: `config/<scale>.yaml` -> `Settings`. Needs no torch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypedDict, get_type_hints

import yaml
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassFieldValidationError

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near
from hylorada.methods import METHODS
from hylorada.study.protocols import PROTOCOLS
from hylorada.study.rows import Row
from hylorada.study.sources import project_root
from hylorada.study.stages import STAGES
from hylorada.study.studies import STUDIES, rows_by_base

COUNTS = (
    *("test_articles", "evaluation_batch", "batch_size", "gradient_accumulation_steps"),
    *("num_epochs", "checkpoint_every", "threads", "train_lines"),
)
MEASURES = {  # beside the main text, and what their amount counts
    "lines": "lines of the published evaluation; null: as many as published",
    "end_token": "texts over which p(end of text) is taken; null: all",
    "shifts": "articles scored at four places of the window; null: all",
    "retrieval": "trials at each depth of key-value retrieval and passkey",
}
POSITIVE = ("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "max_grad_norm")
BUDGET = (  # what a scale may give a study apart from the ablation's
    *("seeds", "train_tokens", "num_epochs", "test_articles", "test_tokens_per_article"),
    *("evaluation_batch", "batch_size", "gradient_accumulation_steps", "checkpoint_every"),
    *("train_lines", "measures"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run, on what, and for how long; each key is explained in `config/micro.yaml`.

    studies: for each its budget: settings in BUDGET that replace those of the scale, and `rows`, patterns of the names
    of the rows that it keeps.

    Raises:
        HyLoRADAError: a value of the wrong kind, or two that contradict each other.
    """

    scale: str
    base: str
    bases: list[str]
    corpus: str
    dtype: Literal["bfloat16", "float32"]
    target_modules: list[str]
    adapter: dict[str, Any]
    protocol: str
    block_tokens: int
    train_tokens: int | None
    train_lines: int | None
    line_tokens: int
    evaluation_split: Literal["test", "validation"]
    test_articles: int | None
    test_tokens_per_article: int | None
    evaluation_stride: int
    evaluation_batch: int
    measures: dict[str, int | None]
    batch_size: int
    gradient_accumulation_steps: int
    num_epochs: int
    learning_rate: float
    tuned_rates: dict[str, float]
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
        for name in ("seeds", "target_modules", "bases"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise self._error(f"{name}: {values} must name at least one, each once")
        if not 0 <= min(self.seeds) <= max(self.seeds) < 2**32:
            wrong = min(self.seeds) if min(self.seeds) < 0 else max(self.seeds)
            raise self._error(f"seeds: {wrong} is not allowed; use 0 to {2**32 - 1}")
        if self.protocol not in PROTOCOLS:
            raise self._error(f"protocol: {self.protocol!r} is not known; {near(self.protocol, PROTOCOLS)}")
        if self.line_tokens < 2:
            raise self._error(f"line_tokens: {self.line_tokens} leaves nothing to predict; use 2 or more")
        for name, amount in self.measures.items():
            if name not in MEASURES:
                raise self._error(f"measures: {name!r} is not known; {near(name, MEASURES)}")
            if amount is None and name == "retrieval" or amount is not None and amount < 1:
                raise self._error(f"measures, {name}: {amount} is no amount; use 1 or more ({MEASURES[name]})")
        if "shifts" in self.measures and PROTOCOLS[self.protocol].evaluation_text is not None:
            raise self._error(
                f"measures: shifts need texts as long as a window, and the protocol {self.protocol!r} scores single "
                "lines; leave shifts out"
            )
        self._check_adapter()
        for arm, rate in self.tuned_rates.items():
            if arm not in ARMS:
                raise self._error(f"tuned_rates: {arm!r} is no stage or method; {near(arm, ARMS)}")
            if not 0 < rate < math.inf:
                raise self._error(f"tuned_rates, {arm}: {rate} is not allowed; use a positive number")
        for study, budget in self.studies.items():
            self._check_study(study, budget)

    def _check_adapter(self) -> None:
        """Every trained row takes these fields, so those that a scale sets elsewhere have one place alone."""
        allowed = [field.name for field in fields(HyLoRADAConfig) if field.name not in ELSEWHERE]
        for name in self.adapter:
            if name not in allowed:
                raise self._error(f"adapter: {name!r} cannot be set here; {near(name, allowed)}")
        try:
            replace(HyLoRADAConfig(), **self.adapter)
        except HyLoRADAError as error:
            raise self._error(f"adapter: {str(error).removesuffix('.')}") from None

    def _check_study(self, study: str, budget: dict[str, Any]) -> None:
        if study not in STUDIES:
            raise self._error(f"studies: {study!r} is not known; {near(study, STUDIES)}")
        for name in budget:
            if name not in (*BUDGET, "rows"):
                raise self._error(f"studies, {study}: {name!r} is no budget; {near(str(name), (*BUDGET, 'rows'))}")
        try:
            for row in self.rows(study).values():
                replace(self.for_study(study), **row.changes)
        except HyLoRADAError as error:
            raise HyLoRADAError(f"in the study {study!r}: {error}") from None

    def for_study(self, study: str) -> "Settings":
        """Return the settings of a study's rows before their own changes (HyLoRADAError for one the scale lacks)."""
        if study not in self.studies:
            raise HyLoRADAError(f"study {study!r} is not in scale {self.scale!r}; {near(study, self.studies)}")
        budget = {name: value for name, value in self.studies[study].items() if name != "rows"}
        return replace(self, **budget, studies={})

    def rows(self, study: str) -> dict[str, Row]:
        """Return the rows of a study that the scale keeps, by name.

        Raises:
            HyLoRADAError: a pattern of `rows` keeps none, or a row is left without the one it is held against.
        """
        rows = STUDIES[study].rows or rows_by_base(self.bases)
        patterns = self.studies[study].get("rows", ["*"])
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise self._error(f"studies, {study}, rows: {patterns!r} is no list of names or patterns")
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in rows):
                raise self._error(f"studies, {study}, rows: {pattern!r} keeps no row; {near(pattern, rows)}")
        kept = {name: row for name, row in rows.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
        for name, row in kept.items():
            if row.against is not None and row.against not in kept:
                raise self._error(
                    f"studies, {study}, rows: {name!r} is held against {row.against!r}, which is left out; keep both"
                )
        return kept

    def _error(self, text: str) -> HyLoRADAError:
        return HyLoRADAError(f"scale {self.scale!r}, {text}.")


ELSEWHERE = ("lora_target_modules", "gradient_checkpointing")  # fields of an adapter that are settings of their own
ARMS = tuple(dict.fromkeys((*list(STAGES)[1:], *METHODS)))  # what can have a learning rate of its own
SCHEMA = TypedDict("SCHEMA", get_type_hints(Settings))


def load_settings(scale: str, changes: Mapping[str, Any] | None = None) -> Settings:
    """Read the scale of that name from config/, or the file of that path when it ends in .yaml.

    changes: settings that replace those of the scale, and of every budget that has them.

    Raises:
        HyLoRADAError: no such scale or file, no YAML, a missing or unknown key, or what `Settings` refuses.
    """
    folder = project_root() / "config"
    path = Path(scale) if scale.endswith((".yaml", ".yml")) else folder / f"{scale}.yaml"
    if not path.is_file():
        names = [p.stem for p in folder.glob("*.yaml")]
        raise HyLoRADAError(f"scale {scale!r} is not there; {near(scale, names)}, or the path of a .yaml file")
    values = _read_yaml(path)
    known = [field.name for field in fields(Settings) if field.name != "scale"]
    for name in values:
        if name not in known:
            raise HyLoRADAError(f"{path}: {name!r} is no setting; {near(str(name), known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise HyLoRADAError(f"{path}: {', '.join(missing)} missing; config/micro.yaml explains each.")
    for name, value in (changes or {}).items():
        if name not in known:
            raise HyLoRADAError(f"--set {name}: there is no such setting; {near(name, known)}")
        values[name] = value
        if isinstance(values["studies"], dict):  # else `Settings` says what is wrong with it
            values["studies"] = {study: _without(budget, name) for study, budget in values["studies"].items()}
    kinds = get_type_hints(Settings)
    values = {
        name: _as_number(value) if kinds[name] in (float, float | None) else value for name, value in values.items()
    }
    return Settings(scale=path.stem, **values)


def read_changes(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `name=value` pairs, each value as YAML reads it (HyLoRADAError for one of another form)."""
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise HyLoRADAError(f"--set {pair!r} is no NAME=VALUE; write, for example, num_epochs=3")
        try:
            changes[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise HyLoRADAError(f"--set {name}: {value!r} is no value that YAML can read") from None
    return changes


def _as_number(value: Any) -> Any:
    """Return a number that YAML reads as a whole one or, for want of a point as in 1e-3, as text; the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, where the last one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping (ConstructorError for a repeated key)."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values: Any = yaml.load(path.read_text(), Loader=_EachKeyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HyLoRADAError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise HyLoRADAError(f"{path} holds no settings; it must map names to values, as config/micro.yaml does.")
    return values


def _without(budget: Any, name: str) -> Any:
    return {key: value for key, value in budget.items() if key != name} if isinstance(budget, dict) else budget
