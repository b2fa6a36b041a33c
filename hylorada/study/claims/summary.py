"""What follows from the claims and the table of both protocols, in sentences which the numbers choose.

Changes are percent of perplexity, below zero is better: a published "improvement of 17.07 %" is a change of -17.07 %.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hylorada.errors import HyLoRADAError
from hylorada.study.claims.catalogue import Headlines
from hylorada.study.claims.verdict import FAILS, GROUPS, HOLDS, OPEN, VERDICTS, verdict_group
from hylorada.study.plan.ablation import STAGES
from hylorada.study.results.words import joined, percentage, plural, why_none

STACK = "landmarks"  # the best published stage
CLAIMED, CORRECTED = "published", "corpus"  # sides of the table of both protocols


@dataclass(frozen=True)
class Step:
    """One step of the ablation as claimed and as measured; a change is None where it was not measured."""

    stage: str
    claim: Mapping[str, Any]
    claimed: float
    as_published: "Change | None"
    corrected: "Change | None"


@dataclass(frozen=True)
class Change:
    """A measured change of perplexity in percent. low, high: None for want of what `lacking` says."""

    mean: float
    low: float | None
    high: float | None
    resolved: bool
    lacking: str = ""


def steps(claims: Sequence[Mapping[str, Any]], headlines: Headlines, protocols: pd.DataFrame) -> list[Step]:
    """Return the five steps with what was claimed, and what the table of both protocols has for them."""
    by_id = {claim["id"]: claim for claim in claims}
    five = []
    for stage, name in headlines.steps.items():
        claim = _claim(by_id, name)
        sides = [_change(protocols, side, stage) for side in (CLAIMED, CORRECTED)]
        five.append(Step(stage, claim, -_number(claim), *sides))
    return five


def was_claimed(claims: Sequence[Mapping[str, Any]], headlines: Headlines) -> str:
    """Say what the documents claim: how many statements, and the largest change."""
    sources = {document(claim) for claim in claims}
    stack = _claim({claim["id"]: claim for claim in claims}, headlines.stack)
    return (
        f"{len(claims)} statements in {len(sources)} {plural('document', len(sources))}. "
        f"The best stage, {_name(STACK)}, is said to {_moves(-_number(stack))} against the untrained model."
    )


def was_found(protocols: pd.DataFrame, side: str, changes: Sequence[Change | None], amount: str = "") -> str:
    """Say what a procedure gave for the best stage, and how many steps it tells from nothing.

    amount: how much of it was run, as "3 of 125 steps", where that is not all. What stops before its last step decides
    nothing, which is said first.
    """
    if side not in protocols:
        return "Not run at this scale."
    undecided = ""
    if side == CLAIMED and protocols["published_short"].any():
        undecided = "Not decided at this budget, whose training stops early. "
    level = protocols.set_index("stage")[side]
    change = 100 * (level[STACK] / level["base"] - 1)
    after = f", after {amount}," if amount else ""
    whole = f"{undecided}The same stage{after} {_measured_moves(change)} against the untouched base."
    measured = [change for change in changes if change is not None]
    if all(change.low is None for change in measured):
        lacking = why_none(int(protocols[f"{side}_seeds"].max()))
        return f"{whole} With {lacking} of each no step can be told from chance."
    resolved = [change for change in measured if change.resolved]
    better = sum(change.mean < 0 for change in resolved)
    told = f"{len(resolved)} of {len(measured)} steps can be told from chance"
    directions = f": {better} lower perplexity, {len(resolved) - better} raise it" if resolved else ""
    if resolved and better in (0, len(resolved)):
        directions = f", {'lowering' if better else 'raising'} perplexity"
    return f"{whole} {told}{directions}."


def what_follows(counts: Mapping[str, int], five: Sequence[Step]) -> str:
    """Say how many statements hold, fail and stay open, and what of the five steps is left."""
    groups = dict.fromkeys(GROUPS, 0)
    undecided = []
    order = [name.lower() for name in VERDICTS]
    for verdict, count in sorted(counts.items(), key=lambda item: order.index(item[0].lower())):
        groups[verdict_group(verdict)] += count
        if count and verdict_group(verdict) == OPEN:
            undecided.append(f"{count} {verdict.lower()}")
    because = f" ({', '.join(undecided)})" if undecided else ""
    standing = [step for step in five if step.corrected and step.corrected.resolved and _same_side(step)]
    against = [step for step in five if step.corrected and step.corrected.resolved and not _same_side(step)]
    parts = [
        f"{groups[HOLDS]} of {sum(groups.values())} statements hold, {groups[FAILS]} do not, "
        f"and {groups[OPEN]} stay open{because}.",
    ]
    if standing:
        parts.append(f"Under the corrected procedure {_list(standing)} {_verb(standing)} in the claimed direction.")
    if against:
        parts.append(f"Under the corrected procedure {_list(against)} {_verb(against)} against the claimed direction.")
    if not standing and not against:
        parts.append("Under the corrected procedure none of the five steps can be told from chance here.")
    return " ".join(parts)


def document(claim: Mapping[str, Any]) -> str:
    """Return the document that a claim stands in, without the place in it."""
    return claim["source"].split(",")[0]


def _claim(by_id: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    if name not in by_id:
        raise HyLoRADAError(f"the claims lack {name}, which the summary speaks of; run `hylorada claims` again.")
    return by_id[name]


def _number(claim: Mapping[str, Any]) -> float:
    """Return what was claimed as a number, also where it is written with its unit."""
    number = re.match(r"-?\d+(\.\d+)?", str(claim["claimed"]).replace("\N{MINUS SIGN}", "-"))
    if number is None:
        raise HyLoRADAError(f"claim {claim['id']} is {claim['claimed']!r}, and the summary needs its number.")
    return float(number[0])


def _change(protocols: pd.DataFrame, side: str, stage: str) -> Change | None:
    if side not in protocols:
        return None
    row = protocols.set_index("stage").loc[stage]
    single = pd.isna(row[f"{side}_low"])
    low, high = (None, None) if single else (float(row[f"{side}_low"]), float(row[f"{side}_high"]))
    lacking = why_none(int(row[f"{side}_seeds"])) if single else ""
    return Change(float(row[f"{side}_step"]), low, high, bool(row[f"{side}_resolved"]), lacking)


def _same_side(step: Step) -> bool:
    return (step.corrected.mean < 0) == (step.claimed < 0)


def _moves(change: float) -> str:
    return f"{'lower' if change < 0 else 'raise'} perplexity by {percentage(abs(change))}"


def _measured_moves(change: float) -> str:
    if abs(change) < 0.005:
        return "leaves perplexity as it was, to two decimals,"
    return f"{'lowers' if change < 0 else 'raises'} perplexity by {percentage(abs(change))}"


def _name(stage: str) -> str:
    return STAGES[stage].in_words


def _list(some: Sequence[Step]) -> str:
    return joined(_name(step.stage) for step in some)


def _verb(some: Sequence[Step]) -> str:
    return "moves perplexity" if len(some) == 1 else "move perplexity"
