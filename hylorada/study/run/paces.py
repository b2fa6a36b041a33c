"""How long a run takes, by records of runs like it. Needs no torch.

    seconds = trained tokens · pace of training + scored tokens · pace of scoring + what lies around the two

`Amounts` counts the tokens. A pace is the median over records of one kind: base, dtype, what is compiled, length of a
row or window, rows at once, adapter. Where none is of this kind, those count that agree in all but the last facts, and
where the base or the dtype is another, its pace is scaled: by parameters, by FLOAT32. Records of another machine count
where this one has none of the kind, times the ratio of the two machines in what both have done.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from json import dumps
from math import log
from statistics import median
from typing import Any

from hylorada.study.plan.record import Record
from hylorada.study.plan.runs import Run
from hylorada.study.plan.specification import Specification
from hylorada.study.run.amounts import Amount, Amounts
from hylorada.study.sources.registry import MODELS

FLOAT32 = 3.7  # times as long as in bfloat16, on the machine of the first records
ALIKE = 30  # a base so many times as large or small tells nothing: beside its tokens, a pass has a cost of its own
EXACT = 2  # facts of a kind that must agree for a pace to hold as it is: the base, the dtype
TRAINING, SCORING = "training", "scoring"
ELSEWHERE = "at the pace of the reference records"  # a note: nothing tells how this machine compares to theirs
Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Estimate:
    """seconds: None where nothing tells them. notes: what stood in for records of its kind, in words."""

    seconds: float | None
    notes: frozenset[str] = frozenset()


class Paces:
    """Estimates runs by the records of this machine, and where it has none of a kind, by those of another.

    here: the records of this machine. reference: reads the others, when they are needed. amounts: counts the runs.
    """

    def __init__(self, here: Iterable[Record], reference: Callable[[], list[Record]], amounts: Amounts) -> None:
        self._read, self._amounts = reference, amounts
        self._here = _Measured(list(here), self._amounts)
        self._paces: dict[tuple[str, Kind], Estimate] = {}

    def of(self, run: Run) -> Estimate:
        """Return how long one process takes for a run."""
        amount = self.amount(run)
        seconds, notes = self._around, frozenset[str]()
        for part, tokens in ((TRAINING, amount.trained), (SCORING, amount.scored)):
            if tokens is None:
                return Estimate(None, frozenset({f"{_short(run.corpus)} is not counted before it is fetched"}))
            if tokens:
                pace = self._pace(part, run)
                if pace.seconds is None:
                    return pace
                seconds, notes = seconds + pace.seconds * tokens, notes | pace.notes
        return Estimate(seconds, notes)

    def amount(self, run: Run) -> Amount:
        """Return how much a run does."""
        if not self._amounts.knows(run):
            _ = self._reference  # what it has scored is counted as soon as it is read
        return self._amounts.of(run)

    @cached_property
    def _reference(self) -> "_Measured":
        return _Measured(self._read(), self._amounts)

    @cached_property
    def _around(self) -> float:
        each = self._here.around or self._reference.around
        return median(each) if each else 0.0

    def _pace(self, part: str, run: Run) -> Estimate:
        """Return seconds a token."""
        kind = kind_of(run.specification, part)
        if (part, kind) not in self._paces:
            self._paces[part, kind] = self._exact(part, kind) or self._scaled(part, kind, run.base)
        return self._paces[part, kind]

    def _exact(self, part: str, kind: Kind) -> Estimate | None:
        """Return the pace of the records that share most of a kind, base and dtype at least."""
        for facts in range(len(kind), EXACT - 1, -1):
            for measured in (self._here, self._reference):
                if (part, kind[:facts]) in measured.paces:
                    return self._estimate(measured, part, kind[:facts])
        return None

    def _scaled(self, part: str, kind: Kind, name: str) -> Estimate:
        """Return the pace of another base or dtype, made that of this one; of the same dtype, if there is one."""
        base, dtype = kind[:EXACT]
        sizes = self._reference.sizes | self._here.sizes
        size = sizes.get(base) or getattr(MODELS.get(name), "parameters", None) or self._amounts.parameters(name)
        found = []
        for measured in (self._here, self._reference):
            for _, key in (each for each in measured.paces if each[0] == part and len(each[1]) == EXACT):
                other, its = key
                larger = 1.0 if other == base else size / sizes[other] if size else 0.0
                if 1 / ALIKE < larger < ALIKE:
                    slower = FLOAT32 ** ((dtype == "float32") - (its == "float32"))
                    exact = self._estimate(measured, part, key)
                    notes = set(exact.notes) | ({f"{_short(name)} by its parameters"} if other != base else set())
                    notes |= {f"{dtype} as {slower:.2g} times {its}"} if dtype != its else set()
                    scaled = Estimate(exact.seconds * larger * slower, frozenset(notes))
                    found.append(((its != dtype, other != base, abs(log(larger))), scaled))
        if not found:
            return Estimate(None, frozenset({f"no record is of {_short(name)}, or of a base near its size"}))
        return min(found, key=lambda each: each[0])[1]

    def _estimate(self, measured: "_Measured", part: str, key: Kind) -> Estimate:
        """Return a pace that was measured, of another machine made one of this."""
        pace = median(measured.paces[part, key])
        if measured is self._here:
            return Estimate(pace)
        machine = self._machine(part, key[1])
        return Estimate(pace, frozenset({ELSEWHERE})) if machine is None else Estimate(pace * machine)

    def _machine(self, part: str, dtype: str) -> float | None:
        """Return how many times as long this machine takes for what both did, None where there is nothing.

        Of that it takes what is of this part and dtype, or of one of them, if there is such.
        """
        ratios = defaultdict(list)
        for of, key in self._here.paces.keys() & self._reference.paces.keys():
            ratio = median(self._here.paces[of, key]) / median(self._reference.paces[of, key])
            ratios[of == part, key[1] == dtype].append(ratio)
        return median(ratios[max(ratios)]) if ratios else None


class _Measured:
    """What records say. paces: seconds a token, by part and beginning of a kind. around: seconds beside the parts.

    sizes: parameters by base.
    """

    def __init__(self, records: list[Record], amounts: Amounts) -> None:
        self.records = records
        self.paces: dict[tuple[str, Kind], list[float]] = defaultdict(list)
        self.around: list[float] = []
        self.sizes: dict[str, int] = {}
        amounts.learn(records)
        for record in records:
            self._take(record, amounts.of_record(record))

    def _take(self, record: Record, done: Amount) -> None:
        asked, training = record.specification, record.training
        for part, seconds, tokens in (
            (TRAINING, training and training.seconds, done.trained),
            (SCORING, record.evaluation_seconds, done.scored),
        ):
            kind = kind_of(asked, part)
            for facts in range(EXACT, len(kind) + 1) if tokens else ():
                self.paces[part, kind[:facts]].append(seconds / tokens)
        whole = datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)
        self.around.append(max(0.0, whole.total_seconds() - record.seconds))  # below zero where a stopped run went on
        self.sizes[kind_of(asked, SCORING)[0]] = record.total - record.trainable


def kind_of(asked: Specification, part: str) -> Kind:
    """Return the facts that the pace of a part hangs on, the weightiest first."""
    text, rows = asked.evaluation, asked.training.batch_size if asked.training else 1
    if part == TRAINING:
        how = asked.dtype, asked.compile, asked.block_tokens, rows
    else:
        how = asked.scored_in, asked.compile, text.max_length, text.batch_size
    return dumps(asked.base, sort_keys=True), *how, repr(asked.adapter)


def _short(name: str) -> str:
    """Return the name of a source without its revision."""
    return name.partition("@")[0]
