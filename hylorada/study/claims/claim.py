"""One published statement, and its value as published: digits, range or tuple, unit."""

from dataclasses import dataclass
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.study.results.words import MINUS, SPACE

RANGES = ("estimate", "guideline", "general", "separate benchmark", "planned")  # settings whose pairs are two ends
PERPLEXITY_DECIMALS = 2
SAVED = "percent saved"  # the unit of a change of perplexity as published: above zero is better
SYMBOLS = {"percent": "%", SAVED: "%"} | dict.fromkeys(  # a unit that only repeats what the quantity says is not shown
    (
        *(
            "text",
            "flag",
            "date",
            "mixed",
            "versions",
            "rank",
            "alpha",
            "gate",
            "weight",
            "scale",
            "norm",
            "probability",
        ),
        *("learning rate", "weight decay", "normalised position"),
    ),
    "",
)


@dataclass(frozen=True)
class Claim:
    """One statement. value: as published, a number, a text, or a list that is a range or a tuple.

    check, note: what reading the documents can settle, for what no program can. judged_by: the checks that settle the
    rest, as plain data, see `rules.py`. written_decimals: digits behind the point, where a number in YAML has fewer.
    is_tuple: two values of a setting in RANGES that are yet no two ends.
    """

    id: str
    source: str
    quantity: str
    setting: str
    value: Any
    unit: str
    relative_to: str | None
    kind: str
    check: str
    contradicted_by: tuple[str, ...]
    note: str
    judged_by: Any = None
    written_decimals: int | None = None
    is_tuple: bool = False

    @property
    def number(self) -> float:
        """The value as a number.

        Raises:
            HyLoRADAError: it is none.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise HyLoRADAError(f"claim {self.id} is {self.value!r}, no number; give its rule another check.")
        return self.value

    @property
    def values(self) -> list[Any]:
        """The value, or its parts, as a list."""
        return self.value if isinstance(self.value, list) else [self.value]

    @property
    def decimals(self) -> int:
        """Digits behind the point as published."""
        if self.written_decimals is not None:
            return self.written_decimals
        if self.kind == "ppl":
            return PERPLEXITY_DECIMALS
        return len(repr(self.number).partition(".")[2]) if isinstance(self.value, float) else 0

    @property
    def digit(self) -> float:
        """What one unit of the last published digit is worth: 0.01 for 17.07, 1,000 for 811K, 100 for 12.5K."""
        if self.decimals or self.kind != "params":
            return 10.0**-self.decimals
        number = abs(int(self.number))
        for unit, least in ((1_000_000, 1_000_000), (100_000, 1_000_000), (1_000, 1_000), (100, 10_000)):
            if number >= least and number % unit == 0:
                return float(unit)
        return 1.0

    @property
    def is_range(self) -> bool:
        """Whether the value is two ends."""
        return len(self.values) == 2 and self.setting in RANGES and not self.is_tuple

    @property
    def shown(self) -> str:
        """The value as a reader has it, with its unit."""
        joined = " to " if self.is_range else ", "
        text = joined.join(self._part(value) for value in self.values)
        return " ".join(filter(None, [text, SYMBOLS.get(self.unit, self.unit)]))

    @property
    def as_change(self) -> str:
        """What was published as perplexity saved, as a change of it: below zero is better. Nothing for all else."""
        if self.unit != SAVED:
            return ""
        changes = [self._part(value) for value in self.values]
        signed = (f"+{text[1:]}" if text[0] == "-" else MINUS + text for text in changes)
        return f"{' to '.join(signed)}{SPACE}%"

    def _part(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(self.value, list) or not 1e-3 <= abs(value) < 1e6:
            return str(value)
        return f"{value:.{self.decimals}f}"
