"""What a check finds about a statement, and the words for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

REPRODUCED = "REPRODUCED"
DIRECTION_ONLY = "DIRECTION ONLY"
NOT_REPRODUCED = "NOT REPRODUCED"
INCONCLUSIVE = "INCONCLUSIVE"
ABSOLUTE_VALUE = "ABSOLUTE VALUE"
MATCH = "MATCH"
WITHIN_ROUNDING = "WITHIN ROUNDING"
MISMATCH = "MISMATCH"
CONTRADICTED = "CONTRADICTED"
STRUCTURAL_ZERO = "STRUCTURAL ZERO"
NOT_MEASURABLE = "NOT MEASURABLE"
UNTRACEABLE = "UNTRACEABLE"
PLAN = "PLAN"
NOT_RUN = "NOT RUN AT THIS SCALE"

VERDICTS = {  # in the order of the tables, each with what it says
    REPRODUCED: "the interval excludes zero on the published side, and the published effect is one that a run may give",
    DIRECTION_ONLY: "the interval excludes zero on the published side, and no run gives the published effect",
    NOT_REPRODUCED: "the interval excludes zero on the other side, or the effect is too small to be of interest",
    INCONCLUSIVE: "none of these: more seeds would be needed",
    ABSOLUTE_VALUE: "the published level is one that a run may give",
    MATCH: "follows from its inputs, a count, a fact of the code or a measured cost, at the published digits",
    WITHIN_ROUNDING: "follows from its inputs when these are any that round to the published ones",
    MISMATCH: "does not follow from its inputs, or a count, a fact of the code or a measured cost is another",
    CONTRADICTED: "cannot hold together with another published statement",
    STRUCTURAL_ZERO: "the part does nothing in the published procedure, so any effect is chance",
    NOT_MEASURABLE: "no perplexity, or no thing that could be measured",
    UNTRACEABLE: "no run, log or derivation is given; rests on reading the documents",
    PLAN: "an intention, a setting of an example, or a date; rests on reading the documents",
    NOT_RUN: "needs a run that this scale does not have",
}
HOLDS = (MATCH, WITHIN_ROUNDING)  # a check that finds these leaves the verdict to the next one, where there is one
TRANSFERS, DOES_NOT_TRANSFER, UNDECIDED = "transfers", "does not transfer", "undecided"


@dataclass(frozen=True)
class Column:
    """A verdict under one protocol, or about another base, and the numbers behind it."""

    verdict: str
    detail: str


@dataclass(frozen=True)
class Finding:
    """What one check found. reason: a clause with the computed numbers.

    records: names of the runs it rests on. command: what makes them, or repeats the computation, empty for neither.
    passes: it is a remark, and the verdict only where no other check finds one.
    """

    verdict: str
    reason: str
    columns: dict[str, Column] = field(default_factory=dict)
    records: tuple[str, ...] = ()
    command: str = "hylorada claims"
    passes: bool = False


def settle(findings: Sequence[Finding]) -> Finding:
    """Return the verdict of several checks in their order: the first that does not hold decides, else the last.

    Columns and records of all of them are kept, and the reasons are joined.
    """
    deciding = next((f for f in findings if f.verdict not in HOLDS and not f.passes), None)
    if deciding is None:
        deciding = next((f for f in reversed(findings) if not f.passes), findings[-1])
    said = findings[: findings.index(deciding) + 1]
    said = [*said, *(f for f in findings[len(said) :] if f.passes)]
    columns = {name: column for finding in findings for name, column in finding.columns.items()}
    records = tuple(dict.fromkeys(name for finding in findings for name in finding.records))
    return Finding(deciding.verdict, "; ".join(f.reason for f in said), columns, records, deciding.command)
