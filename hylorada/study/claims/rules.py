"""The checks that judge each published statement, made of its `judged_by` in `paper/claims.yaml`.

A check is written there as a word with its arguments: {count: low_rank}, {step: [rslora, base]}, or, by name,
{count: {quantity: low_rank, at_most: 1000}}; a word alone, as plan, takes none. An id among the arguments is the
statement of that id. The first argument of some words is the name of a thing in a table of this package, and no name of
such a table may be left without a statement.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from hylorada.errors import HyLoRADAError, near
from hylorada.study.claims.catalogue import Catalogue
from hylorada.study.claims.checks.arithmetic import NoRatio, recompute
from hylorada.study.claims.checks.clashes import RELATIONS, Clash
from hylorada.study.claims.checks.comparisons import Beyond, holds
from hylorada.study.claims.checks.costs import OPERATIONS, Measured, Merges
from hylorada.study.claims.checks.counts import Counted
from hylorada.study.claims.checks.facts import FACTS
from hylorada.study.claims.checks.growth import GROWING, growth
from hylorada.study.claims.checks.inactive import Inert, Unmoved, not_causal
from hylorada.study.claims.checks.measured import effect, level, step
from hylorada.study.claims.checks.parameters import PARAMETERS
from hylorada.study.claims.checks.reading import Reading
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import PLAN, UNTRACEABLE, Finding

ID = re.compile(r"[A-Z]{2}-\d+")


class Check(Protocol):
    """One way to look at a statement."""

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Look at it."""


@dataclass(frozen=True)
class Word:
    """make: arguments -> check. table: what the first argument names, where that is a thing of this package."""

    make: Callable[..., Check]
    table: Mapping[str, Any] = field(default_factory=dict)


WORDS = {
    "recompute": Word(recompute),
    "no_ratio": Word(NoRatio),
    "count": Word(Counted, PARAMETERS | OPERATIONS),
    "growth": Word(growth, GROWING),
    "merge": Word(Merges),
    "cost": Word(Measured),
    "fact": Word(lambda fact: fact, FACTS),
    "clash": Word(Clash, RELATIONS),
    "step": Word(step),
    "effect": Word(effect),
    "level": Word(level),
    "inert": Word(Inert),
    "unmoved": Word(Unmoved),
    "not_causal": Word(not_causal),
    "better": Word(partial(holds, True)),
    "no_worse": Word(partial(holds, False)),
    "beyond": Word(Beyond),
    "plan": Word(partial(Reading, PLAN)),
    "untraceable": Word(partial(Reading, UNTRACEABLE)),
}


def load_rules(catalogue: Catalogue) -> dict[str, tuple[Check, ...]]:
    """Return the checks of every statement, in their order.

    Raises:
        HyLoRADAError: a statement without a check, a word, name or argument that is not known, or a name that no
            statement uses.
    """
    rules, unused = {}, {word: set(WORDS[word].table) for word in WORDS}
    for claim in catalogue:
        if not isinstance(claim.judged_by, list) or not claim.judged_by:
            raise HyLoRADAError(
                f"no check judges {claim.id}; give its judged_by a list of checks, see paper/claims.yaml."
            )
        try:
            rules[claim.id] = tuple(_check(written, catalogue, unused) for written in claim.judged_by)
        except HyLoRADAError as error:
            raise HyLoRADAError(f"judged_by of {claim.id}: {error}") from None
    for word, names in unused.items():
        if names:
            raise HyLoRADAError(
                f"no statement is judged by {word} of {', '.join(sorted(names))}; give one such a check, or take the "
                "name out of its table in hylorada/study/claims/checks."
            )
    return rules


def _check(written: Any, catalogue: Catalogue, unused: dict[str, set[str]]) -> Check:
    """Return one check, and take the name that it uses from those that are unused."""
    if isinstance(written, str):
        written = {written: []}
    if not isinstance(written, dict) or len(written) != 1:
        raise HyLoRADAError(f"{written!r} is no check; write one as {{word: arguments}}.")
    ((word, arguments),) = written.items()
    if word not in WORDS:
        raise HyLoRADAError(f"the check {word!r} is not known; {near(word, WORDS)}")
    bound = _bound(word, _resolved(arguments, catalogue))
    if table := WORDS[word].table:
        first = next(iter(bound.signature.parameters))
        name = bound.arguments[first]
        if not isinstance(name, str) or name not in table:
            raise HyLoRADAError(f"the {first} {name!r} is not known; {near(str(name), table)}")
        unused[word].discard(name)
        bound.arguments[first] = table[name]
    return WORDS[word].make(*bound.args, **bound.kwargs)


def _bound(word: str, arguments: Any) -> inspect.BoundArguments:
    signature = inspect.signature(WORDS[word].make)
    takes, named, in_order = signature.parameters, {}, ()
    if isinstance(arguments, dict):
        named = arguments
    elif arguments is not None:
        in_order = arguments if isinstance(arguments, tuple) else (arguments,)
    for name in named:
        if name not in takes and not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values()):
            raise HyLoRADAError(f"the check {word!r} takes no {name!r}; {near(name, takes)}")
    try:
        return signature.bind(*in_order, **named)
    except TypeError as error:
        raise HyLoRADAError(f"the check {word!r}: {error}; it takes {', '.join(takes) or 'no argument'}.") from None


def _resolved(value: Any, catalogue: Catalogue) -> Any:
    """Return arguments with each id as its statement, and lists as tuples."""
    if isinstance(value, dict):
        return {name: _resolved(each, catalogue) for name, each in value.items()}
    if isinstance(value, list):
        return tuple(_resolved(each, catalogue) for each in value)
    return catalogue[value] if isinstance(value, str) and ID.fullmatch(value) else value
