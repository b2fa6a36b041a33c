"""What a protocol is: one field for each fact of how a study trains and scores. Needs no torch."""

from dataclasses import dataclass, replace
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.study.sources.lines import Lines

GIVEN = "given"  # a value that no protocol fixes: the stage, the arm or the scale says it
OPTIMISER = (  # fields that are those of `TrainingConfig`
    *("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr", "weight_decay"),
    *("lr_schedule", "warmup_ratio", "max_grad_norm", "batch_size", "gradient_accumulation_steps", "num_epochs"),
)


@dataclass(frozen=True)
class Buckets:
    """How positions spread over the buckets of landmarks: fixed ones by `spacing`, learned ones evenly at the start.

    positions, learned_positions: tokens that all buckets together cover.
    """

    spacing: str
    positions: int
    learned_positions: int


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of the table of protocols; its optimiser fields are those of `TrainingConfig`.

    training_text: None is packed blocks of whole articles. block_tokens: length of a row or block. padded: a line is a
    row of its own, filled up to block_tokens. whole_steps: rows that fill no whole step are left out. adapter_dtype:
    "float32" masters, or "base" for the base model's type without masters. landmark_buckets: None is what the adapter's
    configuration says, logarithmic over the length in use. bucket_module_registered: else the learned buckets' module
    is in no optimiser and out of reach of `eval()`, so that its dropout stays on. evaluation_text: None is whole
    articles of the test split. mean_of_lines: the published metric instead of the corpus perplexity. min_tokens: a
    shorter text is skipped.
    """

    label: str
    training_text: Lines | None
    block_tokens: int | str
    padded: bool
    padding_in_loss: bool
    whole_steps: bool
    learning_rate: float | str
    position_bias_lr: float | str
    landmark_lr: float | str
    embedding_lr: float | str
    weight_decay: float | str
    lr_schedule: str
    warmup_ratio: float | str
    max_grad_norm: float | str | None  # None: no clipping
    batch_size: int | str
    gradient_accumulation_steps: int | str
    num_epochs: int | str
    adapter_dtype: str
    positions_reach_bias: bool
    num_landmarks: int | str
    landmark_buckets: Buckets | None
    bucket_module_registered: bool
    pools_over_padding: bool  # in training, by the landmarks that pool
    evaluation_text: Lines | None
    evaluation_tokens: int | str  # window; longer lines are cut there
    mean_of_lines: bool
    min_tokens: int


def fitted(
    protocol: Protocol,
    train_lines: int | None,
    scored_lines: int | None,
    line_tokens: int | None,
    line_characters: int | None = None,
    step_rows: int | None = None,
) -> Protocol:
    """Return a protocol cut to a scale: so many lines to train on and to score, None for as many as published.

    line_tokens: to which lines are cut and filled up, where that is less than published; None: as published.
    line_characters: a shorter line is not trained on, so that a text of shorter lines is padded as much as the
    published one; None: as published. step_rows: rows of one step, None for as many as published. Nothing else changes,
    and nothing in a protocol without lines.

    Raises:
        HyLoRADAError: a step has fewer rows than step_rows, or they are no whole number of its batches.
    """
    if protocol.training_text is None or protocol.evaluation_text is None:
        return protocol
    lines = _counted(protocol.training_text, train_lines)
    if line_characters is not None:
        lines = replace(lines, longer_than=max(lines.longer_than or 0, line_characters))
    return replace(
        protocol,
        **_step(protocol, step_rows),
        training_text=lines,
        evaluation_text=_counted(protocol.evaluation_text, scored_lines),
        block_tokens=min(protocol.block_tokens, line_tokens or protocol.block_tokens),
        evaluation_tokens=min(protocol.evaluation_tokens, line_tokens or protocol.evaluation_tokens),
    )


def _counted(lines: Lines, count: int | None) -> Lines:
    return lines if count is None else replace(lines, count=min(count, lines.count))


def _step(protocol: Protocol, rows: int | None) -> dict[str, int]:
    """Return batch size and passes of a step of so many rows."""
    if rows is None:
        return {}
    size, whole = (
        min(rows, int(protocol.batch_size)),
        int(protocol.batch_size) * int(protocol.gradient_accumulation_steps),
    )
    if rows > whole or rows % size:
        raise HyLoRADAError(
            f"a step of {protocol.label!r} has {whole} rows in batches of {protocol.batch_size}; step_rows={rows} cuts "
            "it to no whole number of them."
        )
    return {"batch_size": size, "gradient_accumulation_steps": rows // size}


def training_config(protocol: Protocol, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `TrainingConfig`: `given`, and over it what the protocol fixes.

    Raises:
        HyLoRADAError: the protocol leaves a field open and `given` lacks it.
    """
    fields = {name: getattr(protocol, name) for name in OPTIMISER}
    if missing := [name for name, value in fields.items() if value == GIVEN and name not in given]:
        raise HyLoRADAError(f"the protocol {protocol.label!r} does not fix {', '.join(missing)}; give them.")
    empty = {"allow_empty_steps": True} if protocol.padded and not protocol.padding_in_loss else {}  # of blank lines
    return given | {name: value for name, value in fields.items() if value != GIVEN} | empty


def adapter_config(protocol: Protocol, adapter: HyLoRADAConfig) -> HyLoRADAConfig:
    """Return the configuration to build a stage's adapter with; the rest of a protocol's facts is for `follow`."""
    return adapter if protocol.num_landmarks == GIVEN else replace(adapter, num_landmarks=protocol.num_landmarks)
