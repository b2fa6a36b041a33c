"""Sentences of the paper about what the published procedure does to single parts."""

import numpy as np

from hylorada.study.plan.published import AS_PUBLISHED_ROWS
from hylorada.study.plan.record import EndToken
from hylorada.study.plan.studies import check_rows
from hylorada.study.records.records import Records
from hylorada.study.results.protocols import largest_difference
from hylorada.study.results.words import count, percentage, plural, scientific


def zero_sentence(published: Records | None) -> str:
    """Say how far the stage with the position bias lies from the one before it under the published procedure."""
    if published is None:
        return "The published procedure was not run at this scale."
    seeds, largest = len(published.seeds(AS_PUBLISHED_ROWS["magnitude"])), largest_difference(published)
    runs = f"{count(seeds)} {plural('pair', seeds)} of runs at equal seed"
    if largest == 0:
        return (
            "Under the published procedure the stage with position bias equals the stage before it bit for bit: in "
            f"{runs} the largest difference of the loss of any token is zero."
        )
    return (
        "Under the published procedure the stage with position bias differs from the stage before it, which it should "
        f"not: in {runs} by up to {scientific(largest)} nats for a token."
    )


def end_sentence(fixes: Records | None, published: Records | None) -> str:
    """Say what counting the padding in the loss does to the probability of the end where text goes on."""
    stages = ("published_rslora", "padding_masked_rslora")
    check_rows("single_fixes", *stages)
    absent = "At this scale the probability of the end token was not measured."
    if fixes is None or not set(stages) <= set(fixes.stages):
        return absent
    measured = [_end_tokens(fixes, stage) for stage in stages]
    if not all(measured):
        return absent
    padded, masked = (float(np.mean([end.mean for end in ends])) for ends in measured)
    factors = [end.perplexity_factor for ends in measured for end in ends]  # None: infinite
    raised = "without bound" if None in factors else f"by {percentage(100 * (max(factors) - 1), 3)} at most"
    if masked < padded:
        clause = (
            "Trained with the padding in the loss, rsLoRA expects the end of a text that goes on "
            f"{padded / masked:.2g} times as often as with the padding masked"
        )
    else:
        clause = "Padding in the loss does not make rsLoRA expect the end of a text that goes on more often"
    of_base = [] if published is None else _end_tokens(published, AS_PUBLISHED_ROWS["base"])
    untouched = f"; the untouched base: {scientific(np.mean([end.mean for end in of_base]))}" if of_base else ""
    return (
        f"{clause} ({scientific(padded)} against {scientific(masked)} a token{untouched}). What is spent on the end "
        f"raises perplexity {raised}."
    )


def passed_sentence(fixes: Records | None) -> str:
    """Say what becomes of positions that are passed to a bias without single-precision masters."""
    stage, reference = "positions_passed_position_bias", "published_position_bias"
    check_rows("single_fixes", stage, reference)
    if fixes is None or not {stage, reference} <= set(fixes.stages):
        return "At this scale positions were not passed alone."
    record = fixes.record(stage, fixes.seeds(stage)[0])
    moved = record.moved["position_bias"]
    clause = f"With positions passed alone, {moved.changed} of the {moved.entries} numbers of the bias move"
    pairs = [(fixes.nll(stage, s).nll, fixes.nll(reference, s).nll) for s in fixes.seeds(stage)]
    if any(not np.array_equal(one, other) for one, other in pairs):
        return f"{clause}."
    clause += f", by at most {scientific(moved.largest)}, and yet no token's loss does"
    half_a_step = {"bfloat16": 2.0**-9, "float16": 2.0**-12}.get(record.specification.dtype, 0.0)
    if moved.largest / 2 < half_a_step:  # the gate is a half at the start
        clause += ": a factor so close to one is one in the base's type, so that this fix needs single precision too"
    return f"{clause}."


def still_sentence(published: Records | None) -> str:
    """Say how many magnitudes a base type without masters leaves where they were."""
    stage = AS_PUBLISHED_ROWS["magnitude"]
    if published is None or stage not in published.stages:
        return "At this scale the published magnitudes were not trained."
    moved = [published.record(stage, seed).moved.get("magnitude") for seed in published.seeds(stage)]
    shares = [1 - one.changed / one.entries for one in moved if one]
    if not shares:
        return "The records do not say how many magnitudes moved."
    share = float(np.mean(shares))
    if share == 1:
        return "Under the published procedure not one magnitude moves: steps finer than the base's type are lost."
    if share < 0.01:
        return "Under the published procedure nearly every magnitude moves from where it started."
    return (
        f"Under the published procedure, {percentage(100 * share, 1)} of the magnitudes end just where they started: "
        "steps finer than the base's type are lost."
    )


def frozen_sentence(published: Records | None) -> str:
    """Say what training does to landmarks whose module is in no optimiser."""
    stage = AS_PUBLISHED_ROWS["learned_buckets"]
    if published is None or stage not in published.stages:
        return "At this scale the published learnable buckets were not run."
    moved = [published.record(stage, seed).moved.get("landmark") for seed in published.seeds(stage)]
    if not all(moved):
        return "The records do not say whether the module of learnable buckets moved."
    largest = max(one.largest for one in moved)
    if largest == 0:
        return (
            "The module of learnable buckets is in no optimiser there: when training ends, not one of its numbers has "
            "moved, and the stage adds fixed noise."
        )
    return f"Under the published procedure the module of learnable buckets moved, by up to {scientific(largest)}."


def _end_tokens(records: Records, stage: str) -> list[EndToken]:
    """Return what was measured of the end token by each seed of a stage; none where one seed was not measured."""
    ends = [records.record(stage, seed).measures.end_token for seed in records.seeds(stage)]
    return ends if all(ends) else []
