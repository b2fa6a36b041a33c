"""What a study and a row of it are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hylorada.config import HyLoRADAConfig

PERPLEXITY, BITS_PER_BYTE = "perplexity", "bits_per_byte"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. adapter: what is trained, None for the untouched base. label: its name in the table.

    changes: settings of the scale that it replaces. against: the row of the same table that its effect is taken
    against, None for none. arm: the stage or method whose tuned learning rate it takes, None for the one that `arm_of`
    finds. short: what a sentence calls it, the label where it is empty. series, x: the line of a figure that it is a
    point of, and where on it. adds: what it has that the row before has not. source: where that comes from.
    not_neutral: why a fresh adapter moves the logits, empty when it does not. stays: the parts that cannot merge into
    the weights.
    """

    label: str
    adapter: HyLoRADAConfig | None
    changes: dict[str, Any] = field(default_factory=dict)
    against: str | None = None
    arm: str | None = None
    short: str = ""
    series: str = ""
    x: float | None = None
    adds: str = ""
    source: str = ""
    not_neutral: str = ""
    stays: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """What a sentence calls it."""
        return self.short or self.label


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table. question: what it asks, in a sentence. rows: by name, in the order of the table; none for those that a
    scale makes of its bases.

    level: in what its rows are compared, a key of `hylorada.study.results.levels.LEVELS`; BITS_PER_BYTE where they have
    tokenizers of their own. varies: what its rows may differ in beside the adapter, as
    `hylorada.study.records.records.check_alike` names it. shows: further columns of its table, of
    `hylorada.study.results.columns`. by_row: its rows are long enough that each is a process of its own.
    """

    title: str
    question: str
    rows: dict[str, Row] = field(default_factory=dict)
    level: str = PERPLEXITY
    varies: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    by_row: bool = False


def against_of(rows: Mapping[str, Row]) -> dict[str, str | None]:
    """Return, for each row, the one that its effect is taken against."""
    return {name: row.against for name, row in rows.items()}


def references(against: Iterable[str | None]) -> list[str]:
    """Return the rows that others are held against, each once; of `against_of` or of a frame's column."""
    return list(dict.fromkeys(name for name in against if name))


def untouched(rows: Mapping[str, Row]) -> set[str]:
    """Return the rows that train nothing: an effect against one of them is what fine-tuning gives."""
    return {name for name, row in rows.items() if row.adapter is None}
