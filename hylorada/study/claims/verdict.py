"""What a check finds about a statement, and the words for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hylorada.errors import HyLoRADAError, near

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

TRANSFERS, DOES_NOT_TRANSFER, UNDECIDED = "transfers", "does not transfer", "undecided"
GROUPS = HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Meaning:
    """What a verdict says, and what it means for the statement. group: one of `GROUPS`."""

    says: str
    group: str


VERDICTS = {  # in the order of the tables
    REPRODUCED: Meaning(
        "the interval excludes zero on the published side, and the published effect is one that a run may give", HOLDS
    ),
    DIRECTION_ONLY: Meaning(
        "the interval excludes zero on the published side, and no run gives the published effect", OPEN
    ),
    NOT_REPRODUCED: Meaning(
        "the interval excludes zero on the other side, or the effect is too small to be of interest", FAILS
    ),
    INCONCLUSIVE: Meaning("none of these: more seeds would be needed", OPEN),
    ABSOLUTE_VALUE: Meaning("the published level is one that a run may give", HOLDS),
    MATCH: Meaning(
        "follows from its inputs, a count, a fact of the code or a measured cost, at the published digits", HOLDS
    ),
    WITHIN_ROUNDING: Meaning("follows from its inputs when these are any that round to the published ones", HOLDS),
    MISMATCH: Meaning(
        "does not follow from its inputs, or a count, a fact of the code or a measured cost is another", FAILS
    ),
    CONTRADICTED: Meaning("cannot hold together with another published statement", FAILS),
    STRUCTURAL_ZERO: Meaning("the part does nothing in the published procedure, so any effect is chance", FAILS),
    NOT_MEASURABLE: Meaning("no perplexity, or no thing that could be measured", OPEN),
    UNTRACEABLE: Meaning("no run, log or derivation is given; rests on reading the documents", OPEN),
    PLAN: Meaning("an intention, a setting of an example, or a date; rests on reading the documents", OPEN),
    NOT_RUN: Meaning("needs a run that this scale does not have", OPEN),
}
ELSEWHERE = {TRANSFERS: HOLDS, DOES_NOT_TRANSFER: FAILS, UNDECIDED: OPEN}  # on another base or text, with the group
PASSED_ON = (MATCH, WITHIN_ROUNDING)  # a check that finds these leaves the verdict to the next one, where there is one
_BY_PLAIN_WORDS = {name.lower(): meaning.group for name, meaning in VERDICTS.items()} | ELSEWHERE


def verdict_group(verdict: str) -> str:
    """Say whether a verdict means that a statement holds, fails or stays open.

    Raises:
        HyLoRADAError: the verdict is neither one of `VERDICTS` nor of `ELSEWHERE`.
    """
    plain = verdict.lower()
    if plain not in _BY_PLAIN_WORDS:
        raise HyLoRADAError(f"verdict {verdict!r} is not known; {near(plain, _BY_PLAIN_WORDS)}")
    return _BY_PLAIN_WORDS[plain]


def verdicts_in_words(text: str) -> str:
    """Return a text with its verdicts in small letters, as a sentence has them."""
    for word in sorted(VERDICTS, key=len, reverse=True):
        text = text.replace(word, word.lower())
    return text


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
    deciding = next((each for each in findings if each.verdict not in PASSED_ON and not each.passes), None)
    if deciding is None:
        deciding = next((each for each in reversed(findings) if not each.passes), findings[-1])
    told = findings[: findings.index(deciding) + 1]
    told = [*told, *(each for each in findings[len(told) :] if each.passes)]
    columns = {name: column for finding in findings for name, column in finding.columns.items()}
    records = tuple(dict.fromkeys(name for finding in findings for name in finding.records))
    return Finding(deciding.verdict, "; ".join(each.reason for each in told), columns, records, deciding.command)
