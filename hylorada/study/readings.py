"""Sentences of the paper about what else was measured: kinds of token, metrics, places, rates and cost. LaTeX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hylorada.retrieval import NOT_MEASURABLE
from hylorada.study.records import Records
from hylorada.study.sentences import FIRST, count, joined, stage_name
from hylorada.study.studies import RATES
from hylorada.study.tables import BASE, escape, fixed, scientific

METRICS = {  # of one model on one text
    "perplexity": "over the corpus",
    "geometric_perplexity": "as geometric",
    "arithmetic_perplexity": "as arithmetic mean of articles",
    "word_perplexity": "by word",
    "byte_perplexity": "by byte",
}
SMALL = 1e-6  # nats
ABOUT = 0.25  # of itself, within which two shares are called alike


def kinds_sentence(records: Records) -> str:
    """Say what share of the first stage's gain falls on layout, beside the share of layout among the tokens."""
    views = {
        stage: [records.record(stage, seed)["views"].get("kinds") for seed in records.seeds(stage)]
        for stage in (BASE, FIRST)
    }
    if not all(kinds for found in views.values() for kinds in found):
        return "At this scale the loss was not split by kind of token."
    (base,) = views[BASE]
    gains = {kind: _gain(base[kind], [kinds[kind] for kinds in views[FIRST]]) for kind in base}
    whole = sum(gains.values())
    if abs(whole) < SMALL:
        return "The first stage gains nothing, so that there is no gain to split by kind of token."
    share, tokens = gains["layout"] / whole, base["layout"]["token_share"]
    than = "about as much as" if abs(share / tokens - 1) <= ABOUT else "more than" if share > tokens else "less than"
    return (
        f"Of the gain of rsLoRA, {_percent(share)} falls on layout (white space, punctuation, mark-up), which is "
        f"{_percent(tokens)} of the tokens: {than} its part."
    )


def metrics_sentence(records: Records) -> str:
    """Say how far apart the perplexities of the untouched base are on one text."""
    record = records.record(BASE, None)
    results, lines = record["results"], record["measures"].get("lines")
    found = [f"{fixed(results[name])} {words}" for name, words in METRICS.items() if results.get(name)]
    said = f"Of the untouched base and one text, perplexity is {joined(found)}"
    if lines is None:
        return f"{said}."
    published = fixed(lines["results"]["published_perplexity"])
    return f"{said}; by the published metric on the published lines it is {published}."


def retrieval_sentence(places: Records | None) -> str:
    """Say what the untouched base retrieves, whether that can be measured, and how far the arms lie apart."""
    asked = {} if places is None else places.record(BASE, None)["measures"].get("retrieval", {})
    if places is None or not asked:
        return "At this scale retrieval by depth was not measured."
    trained = [record for (stage, _), record in places.by_run.items() if stage != BASE]
    said = []
    for kind, label in (("key_value", "listed values"), ("passkey", "passkeys")):
        found = asked[kind]
        shares = [record["measures"]["retrieval"][kind]["share"] for record in trained]
        trials = sum(place["trials"] for place in found["places"])
        told = f"{_percent(found['share'])} of {trials} {label}, where chance is {_percent(found['chance'])}"
        if found["verdict"] == NOT_MEASURABLE:
            told += ", which is chance at every depth, so that nothing can be measured"
        elif shares:
            low, high = _percent(min(shares)), _percent(max(shares))
            told += f" (trained arms {low})" if low == high else f" (trained arms {low} to {high})"
        said.append(told)
    return f"The untouched base retrieves {joined(said)}."


def end_sentence(fixes: Records | None) -> str:
    """Say what counting the padding in the loss does to the probability of the end where text goes on."""
    stages = ("published_rslora", "padding_masked_rslora")
    if fixes is None or not set(stages) <= set(fixes.stages):
        return "At this scale the probability of the end token was not measured."
    found = [_mean(fixes, stage, "end_token") for stage in stages]
    if any(value is None for value in found):
        return "At this scale the probability of the end token was not measured."
    padded, masked = found
    if masked < padded:
        said = (
            "Trained with the padding in the loss, rsLoRA expects the end of a text that goes on "
            f"{padded / masked:.2g} times as often as with the padding masked"
        )
    else:
        said = "Padding in the loss does not make rsLoRA expect the end of a text that goes on more often"
    return f"{said} ({scientific(padded)} against {scientific(masked)} a token)."


def still_sentence(published: Records | None) -> str:
    """Say how many magnitudes a base type without masters leaves where they were."""
    stage = "published_magnitude"
    if published is None or stage not in published.stages:
        return "At this scale the published magnitudes were not trained."
    moved = [published.record(stage, seed)["moved"].get("magnitude") for seed in published.seeds(stage)]
    shares = [1 - one["changed"] / one["entries"] for one in moved if one]
    if not shares:
        return "The records do not say how many magnitudes moved."
    share = float(np.mean(shares))
    if share == 1:
        return "Under the published procedure not one magnitude moves: steps finer than the base's type are lost."
    if share < 0.01:
        return "Under the published procedure nearly every magnitude moves from where it started."
    return (
        f"Under the published procedure, {fixed(100 * share, 1)}\\,\\% of the magnitudes end just where they started: "
        "steps finer than the base's type are lost."
    )


def frozen_sentence(published: Records | None) -> str:
    """Say what training does to landmarks whose module is in no optimiser."""
    stage = "published_learned_buckets"
    if published is None or stage not in published.stages:
        return "At this scale the published learnable buckets were not run."
    moved = [published.record(stage, seed)["moved"].get("landmark") for seed in published.seeds(stage)]
    if not all(moved):
        return "The records do not say whether the module of learnable buckets moved."
    largest = max(one["largest"] for one in moved)
    if largest == 0:
        return (
            "The module of learnable buckets is in no optimiser there: when training ends, not one of its numbers has "
            "moved, and the stage adds fixed noise."
        )
    return f"Under the published procedure the module of learnable buckets moved, by up to {scientific(largest)}."


def boundary_sentence(buckets: Records | None) -> str:
    """Say how far training moves the learned boundaries, of how many positions."""
    stage = "learned_buckets"
    if buckets is None or stage not in buckets.stages:
        return "At this scale the learned boundaries were not looked at."
    farthest, positions = 0.0, 0
    for seed in buckets.seeds(stage):
        record = buckets.record(stage, seed)
        learned = record["learned"].get("landmark.boundaries")
        if learned is None:
            return "The records do not hold the learned boundaries."
        positions = record["specification"]["adapter"]["max_positions"]
        moved = np.abs(np.sort(learned) - np.linspace(0, 1, len(learned) + 2)[1:-1]).max() * positions
        farthest = max(farthest, float(moved))
    return f"No learned boundary ends farther than {farthest:.2g} tokens from its start, of {positions} positions."


def rates_sentence(best: pd.DataFrame | None, tried: int) -> str:
    """Say which rate is best for each arm, and for how many of them it is an edge of the grid.

    best: of `hylorada.study.rates.best_rates`, None where the scale has no sweep. tried: rates of the sweep.
    """
    if best is None:
        return "At this scale no rates were compared."
    by_rate = [(rate, joined(map(escape, found["label"]))) for rate, found in best.groupby("rate")]
    told = "; ".join(f"{scientific(rate)} for {arms}" for rate, arms in by_rate)
    grid = "the whole grid" if tried == len(RATES) else f"{count(tried)} rates of the grid of {count(len(RATES))}"
    edges = int(best["on_edge"].sum())
    ending = "No best rate is an edge of what was tried."
    if edges:
        ending = f"For {count(edges)} of {count(len(best))} arms that is an edge, and a better one may lie beyond."
    return f"Over {grid}, the lowest validation perplexity is at {told}. {ending}"


def grid_sentence() -> str:
    """Say which grid of rates all methods share."""
    return f"The one grid of rates for all methods has {count(len(RATES))} values, {scientific(RATES[0])} to " + (
        f"{scientific(RATES[-1])}."
    )


def cost_sentence(table: pd.DataFrame) -> str:
    """Say what a step of the stack costs; table: of `hylorada.study.tables_cost.cost_table`."""
    row = table.set_index("method")
    ours, dora, peft = (row.loc[name] for name in ("our HyLoRADA", "our DoRA", "PEFT DoRA"))
    faster = "less" if dora["step"] < peft["step"] else "no less"
    return (
        f"A training step of the whole stack takes {fixed(ours['step'])} times as long as one of rsLoRA with "
        f"{fixed(ours['memory'])} times its memory. DoRA takes {fixed(dora['step'])} times, {faster} than the "
        f"{fixed(peft['step'])} of the PEFT library. With the weights merged, the stack's inference takes "
        f"{fixed(ours['merged'])} times the base's; without, {fixed(ours['inference'])} times."
    )


def groups_sentence(benchmark: Mapping[str, Any]) -> str:
    """Say what attention in groups costs against whole attention at the longest measured length."""
    rows = {row["name"]: row for row in benchmark["sections"]["attention"]}
    longest = [name for name in rows if name.endswith("in groups")][-1]
    first = [name for name in rows if name.endswith("in groups")][0]
    tokens = [int(name.split()[0].replace(",", "")) for name in (first, longest)]
    growth = np.log(rows[longest]["milliseconds"] / rows[first]["milliseconds"]) / np.log(tokens[1] / tokens[0])
    shape = "in proportion to length" if abs(growth - 1) < 0.15 else f"as length to the power {growth:.2f}"
    return (
        f"At {longest.split()[0].replace(',', chr(92) + ',')} tokens a layer's attention in groups takes "
        f"{_percent(rows[longest]['ratio']['median'])} of the time of whole attention; its time grows {shape}."
    )


def best_stage_sentence(table: pd.DataFrame) -> str:
    """Say which stage has the lowest mean; table: of `ablation_table`."""
    best = table.loc[table["perplexity"].idxmin()]
    if best["stage"] == BASE:
        return "No stage has a lower mean than the untouched base."
    return (
        f"The lowest mean is that of the stage {stage_name(best['stage'])}, {fixed(best['perplexity'])}, at "
        f"{fixed(best['effect_on_base'])}\\,\\% against the base."
    )


def share_sentence(table: pd.DataFrame) -> str:
    """Say how much of the best stage's gain over the base the first stage has; table: of `ablation_table`."""
    rows = table.set_index("stage")
    first, best = -rows.loc[FIRST, "effect_on_base"], -rows["effect_on_base"].min()
    if first <= 0 or best <= 0:
        return "Here it does not lower perplexity by itself."
    if rows["effect_on_base"].idxmin() == FIRST:
        return f"Here no stage has a lower mean than it has alone, {fixed(first)}\\,\\% below the base."
    return (
        f"Here it alone lies {fixed(first)}\\,\\% below the base, where the best stage lies {fixed(best)}\\,\\% below."
    )


def _gain(base: Mapping[str, Any], trained: list[Mapping[str, Any]]) -> float:
    if not base["tokens"]:
        return 0.0
    return base["token_share"] * float(np.mean([base["mean_nll"] - kinds["mean_nll"] for kinds in trained]))


def _mean(records: Records, stage: str, measure: str) -> float | None:
    found = [records.record(stage, seed)["measures"].get(measure) for seed in records.seeds(stage)]
    return float(np.mean([one["mean"] for one in found])) if all(found) else None


def _percent(share: float) -> str:
    return rf"{fixed(100 * share, 0 if abs(share) >= 0.1 else 1)}\,\%"
