"""What a study and a row of it are, and the rows that several studies have."""

from dataclasses import dataclass, field
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.methods import METHODS, method_config
from hylorada.study.plan.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. adapter: None for the untouched base. changes: settings of the scale that it replaces.

    against: the row of the same table that its effect is taken against, None for none. arm: the stage or method whose
    tuned learning rate it takes, None for the one that `arm_of` finds.
    """

    label: str
    adapter: HyLoRADAConfig | None
    changes: dict[str, Any] = field(default_factory=dict)
    against: str | None = None
    arm: str | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table. question: what it asks, in a sentence. rows: by name, in the order of the table; none for those that a
    scale makes of its bases.

    varies: what its rows may differ in beside the adapter, as `hylorada.study.records.records.check_alike` names it.
    shows: further columns of its table, of `hylorada.study.results.columns`.
    """

    title: str
    question: str
    rows: dict[str, Row] = field(default_factory=dict)
    varies: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()


UNTOUCHED = Row(label=STAGES["base"].label, adapter=None)


def stage_row(name: str, label: str | None = None, against: str | None = None) -> Row:
    """Return a stage of the ablation as a row, by default under its own label."""
    return Row(label=label or STAGES[name].label, adapter=STAGES[name].adapter, against=against)


def method_row(name: str, against: str | None = "rslora", **changes: Any) -> Row:
    """Return a method of the comparison as a row. changes: settings of the scale that it replaces."""
    return Row(label=METHODS[name].label, adapter=method_config(name), changes=changes, against=against, arm=name)


def arm_of(name: str, row: Row) -> str:
    """Return the arm of the sweep whose learning rate a row takes: its own, or that of the nearest stage.

    A row without one of its own is the low-rank update alone, `rslora`, or a variant of the stack, `landmarks`.
    """
    if row.arm or name in STAGES or row.adapter is None:
        return row.arm or name
    beside = ("use_dora_magnitude", "position_bias_enabled", "landmark_enabled")
    return "landmarks" if any(getattr(row.adapter, part) for part in beside) else "rslora"
