"""What the paper says of the published statements as a whole: macros, whose words the verdicts choose."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from hylorada.files import written_beside
from hylorada.study.claims import summary
from hylorada.study.claims.catalogue import Catalogue
from hylorada.study.claims.judgement import Judgement
from hylorada.study.claims.thresholds import log_ratio
from hylorada.study.claims.verdict import (
    DOES_NOT_TRANSFER,
    GROUPS,
    NOT_RUN,
    OPEN,
    TRANSFERS,
    UNDECIDED,
    verdict_group,
)
from hylorada.study.paper.latex import set_macros
from hylorada.study.results.power import FAMILY_ERROR, POWER
from hylorada.study.results.protocols import protocol_table
from hylorada.study.results.statistics import percent
from hylorada.study.results.words import count, percentage, plural

MACROS = (  # what `claims_values` gives
    *("HyClaims", "HyContradictions", "HySameDay", "HyClaimedSentence", "HyPublishedFoundSentence"),
    *("HyCorrectedFoundSentence", "HyFollowsSentence", "HyVerdictsSentence", "HyTransferSentence", "HyNoiseSentence"),
)


def write_claims_numbers(judgement: Judgement, path: Path) -> None:
    """Write the macros that the text of the paper names; the first line names the records they came from."""
    made = f"% made by `hylorada claims` from the records of digest {judgement.digest}\n"
    with written_beside(path) as beside:
        beside.write_text(made + set_macros(claims_values(judgement)), encoding="utf-8")


def claims_values(judgement: Judgement) -> dict[str, str]:
    """Return plain text by the name of each macro, without its backslash."""
    catalogue = judgement.catalogue
    rows = [judgement.row(claim) for claim in catalogue]
    ablation = judgement.evidence.records("ablation")
    assert ablation is not None
    protocols = protocol_table(judgement.evidence.records("as_published"), ablation)
    steps = summary.steps(rows, catalogue.headlines, protocols)
    cut = judgement.published_cut
    published = summary.was_found(protocols, summary.CLAIMED, [step.as_published for step in steps], cut)
    corrected = summary.was_found(protocols, summary.CORRECTED, [step.corrected for step in steps])
    claimed = summary.was_claimed(rows, catalogue.headlines)
    return {
        "HyClaims": str(len(catalogue.claims)),
        "HyContradictions": str(len(catalogue.contradictions)),
        "HySameDay": str(sum(map(len, catalogue.families.values()))),
        "HyClaimedSentence": claimed.partition(". ")[2],  # the text has said how many
        "HyPublishedFoundSentence": published[0].lower() + published[1:],
        "HyCorrectedFoundSentence": corrected[0].lower() + corrected[1:],
        "HyFollowsSentence": summary.what_follows(judgement.counts, steps),
        "HyVerdictsSentence": verdicts_sentence(judgement),
        "HyTransferSentence": transfer_sentence(judgement),
        "HyNoiseSentence": noise_sentence(catalogue),
    }


def verdicts_sentence(judgement: Judgement) -> str:
    """Say how many statements hold, do not, and stay open; how many are distinct, and how many effects are decided."""
    groups = Counter({group: 0 for group in GROUPS})
    for verdict, number in judgement.counts.items():
        groups[verdict_group(verdict)] += number
    hold, fail, rest = (groups[group] for group in GROUPS)
    parts = [f"{hold} hold, {fail} do not, and {rest} stay open."]
    if waiting := _waiting(judgement):
        parts.append(f"Among the last, {waiting} wait for a run on the model and text that they speak of.")
    parts.append(
        f"Many repeat one another: {judgement.catalogue.distinct} differ in value or in the check that judges them."
    )
    held = [finding.columns.values() for finding in judgement.findings.values() if finding.columns]
    decided = sum(any(verdict_group(column.verdict) != OPEN for column in columns) for columns in held)
    if held:
        parts.append(
            f"Of the {len(held)} about an effect that are held to runs of this copy, these decide "
            f"{count(decided) if decided else 'none'}."
        )
    return " ".join(parts)


def _waiting(judgement: Judgement) -> str:
    """Count the levels and gains that no run of this scale could judge; nothing where there are none."""
    kinds = Counter(judgement.catalogue[name].kind for name, f in judgement.findings.items() if f.verdict == NOT_RUN)
    told = {"level": kinds["ppl"], "gain": kinds["percent"]}
    return " and ".join(f"{number} {plural(thing, number)}" for thing, number in told.items() if number)


def noise_sentence(catalogue: Catalogue) -> str:
    """Say how far published numbers lie apart that differ in name only, and what single runs of such a spread tell."""
    families = [np.log([catalogue[name].number for name in names]) for names in catalogue.families.values()]
    sd, freedom = pooled_sd(families)
    told = detectable_by_pair(sd, freedom)
    less_sd, less_freedom = pooled_sd(without_farthest(families))
    less_told = detectable_by_pair(less_sd, less_freedom)
    claimed = [abs(log_ratio(catalogue[name].number)) for name in catalogue.headlines.steps.values()]
    below, less_below = (sum(step < least for step in claimed) for least in (told, less_told))
    return (
        f"Within a family they spread with a standard deviation of {_ratio(sd)} ({freedom} degrees of freedom), and "
        f"of {_ratio(less_sd)} without the one number that lies farthest off. A 𝑡 test on a pair of single runs of "
        f"that spread finds a difference of {_ratio(told)}, or of {_ratio(less_told)}, with a chance of "
        f"{percentage(100 * POWER, 0)}. Of the {count(len(claimed))} published steps {count(below)}, or "
        f"{count(less_below)}, are smaller."
    )


def pooled_sd(families: Sequence[np.ndarray]) -> tuple[float, int]:
    """Return the standard deviation within families of log perplexities, and its degrees of freedom."""
    spread = [values for values in families if len(values) > 1]
    freedom = sum(len(values) - 1 for values in spread)
    return math.sqrt(sum(((values - values.mean()) ** 2).sum() for values in spread) / freedom), freedom


def without_farthest(families: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the families without the one number that lies farthest from its family's mean."""
    largest = [float(np.abs(values - values.mean()).max()) for values in families]
    index = int(np.argmax(largest))
    values = families[index]
    kept = np.delete(values, np.argmax(np.abs(values - values.mean())))
    return [kept if k == index else other for k, other in enumerate(families)]


def detectable_by_pair(sd: float, freedom: int) -> float:
    """Return the log ratio that a t test on two single runs finds, the spread being known with so much freedom."""
    needed = stats.t.ppf(1 - FAMILY_ERROR / 2, freedom) + stats.t.ppf(POWER, freedom)
    return float(needed * math.sqrt(2) * sd)


def transfer_sentence(judgement: Judgement) -> str:
    """Say how many published effects could be tried on another base or text, and how many hold there."""
    tried = [f.columns["transfers"].verdict for f in judgement.findings.values() if "transfers" in f.columns]
    if not tried:
        return "No published effect was tried on another base or text."
    verdicts = Counter(tried)
    if len(verdicts) == 1:
        return f"Tried on another base or text, all {len(tried)} published effects are of one verdict: {tried[0]}."
    words = {TRANSFERS: "transfer", DOES_NOT_TRANSFER: "do not transfer", UNDECIDED: "are undecided"}
    counts = ", ".join(f"{number} {words[word]}" for word, number in verdicts.most_common())
    return f"Of {len(tried)} published effects that were tried on another base or text: {counts}."


def _ratio(log: float) -> str:
    return percentage(percent(log), 1)
