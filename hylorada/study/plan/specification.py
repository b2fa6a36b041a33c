"""What a run is asked to do, whole and typed: all that its identity hangs on. Needs no torch."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from hylorada.config import HyLoRADAConfig
from hylorada.study.plan.protocol import Protocol
from hylorada.study.sources.lines import Lines
from hylorada.typed import QUIET, plain, read


@dataclass(frozen=True, kw_only=True)
class NamedProtocol(Protocol):
    """A protocol, cut to its scale, under its name in `hylorada.study.plan.protocols.PROTOCOLS`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class EvaluationText:
    """How the main text is scored: windows of `max_length` tokens at every `stride`, `batch_size` at a time.

    dtype: that of the base and of all products while it is scored; None: that of the training.
    """

    max_length: int
    stride: int
    batch_size: int
    dtype: Literal["float32", "bfloat16"] | None = field(default=None, metadata=QUIET)


@dataclass(frozen=True, kw_only=True)
class Articles(EvaluationText):
    """The first `articles` of a split, the beginning of each; None: all of them, and whole."""

    articles: int | None
    tokens_per_article: int | None
    split: str = "test"


@dataclass(frozen=True, kw_only=True)
class LinesAsked:
    """Lines of a published protocol, each cut at `max_length` tokens; `min_tokens` is of the published metric."""

    lines: Lines
    max_length: int
    min_tokens: int


@dataclass(frozen=True, kw_only=True)
class LinesText(LinesAsked, EvaluationText):
    """The main text of a published protocol: its lines."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run asks of `hylorada.trainer.TrainingConfig`, field by field; what is not here has its default there."""

    seed: int
    learning_rate: float
    position_bias_lr: float
    landmark_lr: float
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float | None
    batch_size: int
    gradient_accumulation_steps: int
    num_epochs: int
    checkpoint_every: int
    embedding_lr: float | None = None  # with the next one younger than the first records
    lr_schedule: str | None = None
    allow_empty_steps: bool = field(default=False, metadata=QUIET)
    magnitude_lr: float | None = field(default=None, metadata=QUIET)


@dataclass(frozen=True, kw_only=True)
class Specification:
    """One run, asked for.

    base, corpus: what their names stand for (`hylorada.study.sources.identity.source_identity`). code: the digest of
    the code that runs. measures: by name, how much of each (see `hylorada.study.plan.settings.AMOUNTS`). adapter and
    training: None for the untouched base. train_tokens: None where a run takes all its text, or lines. compile: what of
    the base is compiled (`hylorada.pieces`), or nothing.
    """

    stage: str
    base: dict[str, Any]
    corpus: dict[str, Any]
    code: str
    dtype: str
    block_tokens: int
    evaluation: Articles | LinesText
    adapter: HyLoRADAConfig | None
    training: Training | None
    train_tokens: int | None
    protocol: NamedProtocol | None = None  # with the next one younger than the first records
    measures: dict[str, int | None | LinesAsked] = field(default_factory=dict)
    compile: Literal["pieces"] | None = field(default=None, metadata=QUIET)

    @classmethod
    def from_json(cls, values: Any) -> "Specification":
        """Read what `to_json` gave (HyLoRADAError for anything else)."""
        return read(cls, values, "specification")

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return plain(self)

    @property
    def trained_tokens(self) -> int | None:
        """Tokens, padding counted, of one epoch of the training; None where it takes all there are."""
        if self.training is None:
            return 0
        lines = self.protocol.training_text if self.protocol else None
        return self.train_tokens if lines is None else lines.count * self.block_tokens

    @property
    def scored_in(self) -> str:
        """The dtype of the base while texts are scored."""
        return self.evaluation.dtype or self.dtype

    @cached_property
    def identity(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return _digest(self.to_json())

    @property
    def essence(self) -> str:
        """SHA-256 of all but the digest of the code: equal for the same run of older or newer code."""
        return _digest(replace(self, code="").to_json())

    @property
    def but_for_seed(self) -> "Specification":
        """The same with one seed for all: equal for the runs of one row."""
        return self if self.training is None else replace(self, training=replace(self.training, seed=0))


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
