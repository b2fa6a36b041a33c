"""A scale of the study as frozen, checked settings: `config/<scale>.yaml` -> `Settings`. Needs no torch."""

import math
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near
from hylorada.methods import METHODS
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.protocol import GIVEN
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.rows import Row
from hylorada.study.plan.studies import STUDIES, rows_by_base
from hylorada.study.plan.sweeps import PARTS
from hylorada.typed import LARGEST, check_kinds

COUNTS = {  # and the most that can be
    **dict.fromkeys(("test_articles", "evaluation_batch", "batch_size", "gradient_accumulation_steps"), LARGEST),
    **dict.fromkeys(("num_epochs", "checkpoint_every", "train_lines", "line_characters"), LARGEST),
    **{"step_rows": LARGEST, "step_tokens": LARGEST, "threads": 1024, "block_tokens": 2**24, "line_tokens": 2**24},
}
AMOUNTS = {  # beside the main text, and what their amount counts
    "lines": "lines of the published evaluation; null: as many as published",
    "end_token": "texts over which p(end of text) is taken; null: all",
    "shifts": "articles scored at four places of the window; null: all",
    "retrieval": "trials at each depth of key-value retrieval and passkey",
    "placebo": "copies of the reference's adapter that differ by chance alone, each scored again",
    "ceiling": "tokens of each article at which the reach of a part is taken",
}
AT_LEAST_ONE = ("retrieval", "placebo", "ceiling")  # of these there is no "all"
MOST_ASKED = 1_000_000  # of a measure
POSITIVE = ("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "max_grad_norm")
BUDGET = (  # what a scale may give a study apart from the ablation's
    *("seeds", "train_tokens", "num_epochs", "test_articles", "test_tokens_per_article"),
    *("evaluation_batch", "evaluation_dtype", "batch_size", "step_tokens", "gradient_accumulation_steps"),
    *("checkpoint_every", "train_lines", "line_characters", "step_rows", "block_tokens", "evaluation_stride"),
    *("measures", "tuned_rates", "part_rates"),
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
    compile: Literal["pieces", "no"]
    target_modules: list[str]
    adapter: dict[str, Any]
    protocol: str
    block_tokens: int
    train_tokens: int | None
    train_lines: int | None
    line_tokens: int | None
    line_characters: int | None
    step_rows: int | None
    evaluation_split: Literal["test", "validation"]
    test_articles: int | None
    test_tokens_per_article: int | None
    evaluation_stride: int
    evaluation_batch: int
    evaluation_dtype: Literal["bfloat16", "float32"] | None
    measures: dict[str, int | None]
    batch_size: int
    step_tokens: int | None
    gradient_accumulation_steps: int
    num_epochs: int
    learning_rate: float
    tuned_rates: dict[str, float]
    part_rates: dict[str, float]
    position_bias_lr: float
    landmark_lr: float
    embedding_lr: float
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float | None
    gradient_checkpointing: bool
    checkpoint_every: int
    threads: int
    seeds: list[int]
    studies: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        try:
            check_kinds(self)
        except HyLoRADAError as error:
            raise self._error(str(error).removesuffix(".")) from None
        for name, most in COUNTS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise self._error(f"{name}: {value} is {'too small' if value < 1 else 'too large'}; use 1 to {most}")
        for name in POSITIVE:
            value = getattr(self, name)
            if not (value is None or 0 < value < math.inf):
                raise self._error(f"{name}: {value} is not allowed; use a positive number")
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
        if self.line_tokens is not None and self.line_tokens < 2:
            raise self._error(f"line_tokens: {self.line_tokens} leaves nothing to predict; use 2 or more")
        for name, amount in self.measures.items():
            if name not in AMOUNTS:
                raise self._error(f"measures: {name!r} is not known; {near(name, AMOUNTS)}")
            if amount is None and name in AT_LEAST_ONE or amount is not None and not 1 <= amount <= MOST_ASKED:
                raise self._error(f"measures, {name}: {amount} is no amount; use 1 to {MOST_ASKED} ({AMOUNTS[name]})")
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
        for part, rate in self.part_rates.items():
            if part not in PARTS:
                raise self._error(f"part_rates: {part!r} has no rate of its own; {near(part, PARTS)}")
            if not 0 < rate < math.inf:
                raise self._error(f"part_rates, {part}: {rate} is not allowed; use a positive number")
        if self.step_tokens is not None and self.step_tokens % self.block_tokens:
            raise self._error(f"step_tokens: {self.step_tokens} is no multiple of block_tokens: {self.block_tokens}")
        if self.part_rates and PROTOCOLS[self.protocol].position_bias_lr != GIVEN:
            raise self._error(f"part_rates: the protocol {self.protocol!r} fixes the rates of parts; leave them out")
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
        if study == ABLATION:
            raise self._error(f"studies: {study!r} has the budget of the scale itself; leave it out here")
        if study not in STUDIES:
            raise self._error(f"studies: {study!r} is not known; {near(study, STUDIES)}")
        for name in budget:
            if name not in (*BUDGET, "rows"):
                raise self._error(f"studies, {study}: {name!r} is no budget; {near(str(name), (*BUDGET, 'rows'))}")
        try:
            for row in self.rows(study).values():
                self.for_study(study).of_row(row)
        except HyLoRADAError as error:
            raise HyLoRADAError(f"in the study {study!r}: {error}") from None

    @property
    def blocks_of_pass(self) -> int:
        """Blocks of one pass: batch_size, or what makes step_tokens, whatever the length of a block."""
        return self.batch_size if self.step_tokens is None else self.step_tokens // self.block_tokens

    @property
    def tables(self) -> list[str]:
        """The studies that the scale runs, in their order: the ablation, by the scale's own budget, and `studies`."""
        return [ABLATION, *self.studies]

    def for_study(self, study: str) -> "Settings":
        """Return the settings of a study's rows before their own changes (HyLoRADAError for one the scale lacks)."""
        if study not in self.tables:
            raise HyLoRADAError(f"study {study!r} is not in scale {self.scale!r}; {near(study, self.tables)}")
        budget = {name: value for name, value in self.studies.get(study, {}).items() if name != "rows"}
        return replace(self, **budget, studies={})

    def of_row(self, row: Row) -> "Settings":
        """Return the settings of a study with the changes of one of its rows (HyLoRADAError as the class).

        A row whose protocol fixes the rates of parts is trained at those.
        """
        protocol = PROTOCOLS[row.changes.get("protocol", self.protocol)]
        fixed = {} if protocol.position_bias_lr == GIVEN else {"part_rates": {}}
        return replace(self, **fixed | row.changes)

    def rows(self, study: str) -> dict[str, Row]:
        """Return the rows of a study that the scale keeps, by name.

        Raises:
            HyLoRADAError: a pattern of `rows` keeps none, or a row is left without the one it is held against.
        """
        rows = STUDIES[study].rows or rows_by_base(self.bases)
        patterns = self.studies.get(study, {}).get("rows", ["*"])
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


ABLATION = "ablation"  # the study that every scale runs
ELSEWHERE = (  # fields of an adapter that are settings of their own, or follow from one
    *("lora_target_modules", "gradient_checkpointing", "s2_group_size"),
)
ARMS = tuple(dict.fromkeys((*list(STAGES)[1:], *METHODS)))  # what can have a learning rate of its own
