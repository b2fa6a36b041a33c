"""What the paper says of the published statements as a whole: macros, whose words the verdicts choose."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from hylorada.files import written_beside
from hylorada.study import findings
from hylorada.study.claims.catalogue import Catalogue
from hylorada.study.claims.evidence import ABLATION
from hylorada.study.claims.finding import DOES_NOT_TRANSFER, TRANSFERS, UNDECIDED
from hylorada.study.claims.judgement import Judgement
from hylorada.study.power import FAMILY_ERROR, POWER
from hylorada.study.sentences import count
from hylorada.study.tables import escape, fixed
from hylorada.study.tables_protocols import protocol_table

MACROS = (  # what `claims_values` gives
    *("HyClaims", "HyContradictions", "HySameDay", "HyClaimedSentence", "HyPublishedFoundSentence"),
    *("HyCorrectedFoundSentence", "HyFollowsSentence", "HyVerdictsSentence", "HyTransferSentence", "HyNoiseSentence"),
)


def write_claims_numbers(judgement: Judgement, path: Path) -> None:
    """Write the macros that the text of the paper names; the first line names the records they came from."""
    lines = [f"% made by `hylorada claims` from the records of digest {judgement.digest}"]
    lines += [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in claims_values(judgement).items()]
    with written_beside(path) as beside:
        beside.write_text("\n".join(lines) + "\n")


def claims_values(judgement: Judgement) -> dict[str, str]:
    """Return LaTeX by the name of each macro, without its backslash."""
    catalogue = judgement.catalogue
    rows = [judgement.row(claim) for claim in catalogue]
    corrected = judgement.evidence.records(ABLATION)
    assert corrected is not None
    protocols = protocol_table(judgement.evidence.records("as_published"), corrected)
    steps = findings.steps(rows, protocols)
    published = findings.was_found(protocols, findings.CLAIMED, [step.as_published for step in steps])
    found = findings.was_found(protocols, findings.CORRECTED, [step.corrected for step in steps])
    return {
        "HyClaims": str(len(catalogue.claims)),
        "HyContradictions": str(len(catalogue.contradictions)),
        "HySameDay": str(sum(map(len, catalogue.families.values()))),
        "HyClaimedSentence": plain_tex(findings.was_claimed(rows).partition(". ")[2]),  # the text has said how many
        "HyPublishedFoundSentence": plain_tex(published[0].lower() + published[1:]),
        "HyCorrectedFoundSentence": plain_tex(found[0].lower() + found[1:]),
        "HyFollowsSentence": plain_tex(findings.what_follows(judgement.counts, steps)),
        "HyVerdictsSentence": verdicts_sentence(judgement.counts),
        "HyTransferSentence": transfer_sentence(judgement),
        "HyNoiseSentence": noise_sentence(catalogue),
    }


def verdicts_sentence(counts: dict[str, int]) -> str:
    """Say how many statements hold, do not, and stay open."""
    groups = Counter({group: 0 for group in findings.GROUPS})
    for verdict, number in counts.items():
        groups[findings.verdict_group(verdict)] += number
    hold, fail, rest = (groups[group] for group in findings.GROUPS)
    return f"{hold} hold, {fail} do not, and {rest} stay open."


def noise_sentence(catalogue: Catalogue) -> str:
    """Say how far published numbers lie apart that differ in name only, and what single runs of such a spread tell."""
    families = [np.log([catalogue[name].number for name in names]) for names in catalogue.families.values()]
    spread = [values for values in families if len(values) > 1]
    freedom = sum(len(values) - 1 for values in spread)
    sd = math.sqrt(sum(((values - values.mean()) ** 2).sum() for values in spread) / freedom)
    told = (stats.norm.ppf(1 - FAMILY_ERROR / 2) + stats.norm.ppf(POWER)) * math.sqrt(2) * sd
    claimed = [abs(catalogue[name].number) for name in findings.STEP_CLAIMS.values()]
    below = sum(step < 100 * told for step in claimed)
    share = "all" if below == len(claimed) else count(below) if below else "none"
    verb = "is" if below == 1 else "are"
    return (
        f"Within a family they spread with a standard deviation of {fixed(100 * sd, 1)}\\,\\% ({freedom} degrees of "
        f"freedom). A pair of single runs of that spread tells apart {fixed(100 * told, 1)}\\,\\% and more with a "
        f"chance of {100 * POWER:g}\\,\\%; {share} of the {count(len(claimed))} published steps {verb} smaller."
    )


def transfer_sentence(judgement: Judgement) -> str:
    """Say how many published effects could be tried on another base or text, and how many hold there."""
    tried = [f.columns["transfers"].verdict for f in judgement.findings.values() if "transfers" in f.columns]
    if not tried:
        return "No published effect was tried on another base or text."
    found = Counter(tried)
    if len(found) == 1:
        return f"Tried on another base or text, all {len(tried)} published effects are of one verdict: {tried[0]}."
    words = {TRANSFERS: "transfer", DOES_NOT_TRANSFER: "do not transfer", UNDECIDED: "are undecided"}
    told = ", ".join(f"{number} {words[word]}" for word, number in found.most_common())
    return f"Of {len(tried)} published effects that were tried on another base or text: {told}."


def plain_tex(text: str) -> str:
    """Return LaTeX of a plain sentence, its signs and spaces kept."""
    return escape(text).replace("\N{NO-BREAK SPACE}", r"\,").replace("\N{MINUS SIGN}", "$-$").replace(r" \%", r"\,\%")
