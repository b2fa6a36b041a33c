"""Sentences of the paper about what else was measured: kinds of token, metrics, places and rates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hylorada.metrics import PERPLEXITIES
from hylorada.retrieved import NOT_MEASURABLE
from hylorada.study.paper.sentences.effects import FIRST
from hylorada.study.paper.sentences.names import stage_name
from hylorada.study.plan.ablation import BASE
from hylorada.study.plan.record import KindOfToken
from hylorada.study.plan.studies import check_rows
from hylorada.study.plan.sweeps import RATES
from hylorada.study.records.records import Records
from hylorada.study.results.columns import farthest_boundary, values
from hylorada.study.results.words import count, fixed, joined, percentage, scientific, share_text, thousands

SMALL = 1e-6  # nats
ABOUT = 0.25  # of itself, within which two shares are called alike


def kinds_sentence(records: Records) -> str:
    """Say what share of the first stage's gain falls on layout, beside the share of layout among the tokens."""
    views = {
        stage: [records.record(stage, seed).views.kinds for seed in records.seeds(stage)] for stage in (BASE, FIRST)
    }
    if not all(kinds for each in views.values() for kinds in each):
        return "At this scale the loss was not split by kind of token."
    (base,) = views[BASE]
    gains = {kind: _gain(base[kind], [kinds[kind] for kinds in views[FIRST]]) for kind in base}
    whole = sum(gains.values())
    if abs(whole) < SMALL:
        return "The first stage gains nothing, so that there is no gain to split by kind of token."
    share, tokens = gains["layout"] / whole, base["layout"].token_share
    than = "about as much as" if abs(share / tokens - 1) <= ABOUT else "more than" if share > tokens else "less than"
    return (
        f"Of the gain of rsLoRA, {share_text(share)} falls on layout (white space, punctuation, mark-up), which is "
        f"{share_text(tokens)} of the tokens: {than} its part."
    )


def metrics_sentence(records: Records) -> str:
    """Say how far apart the perplexities of the untouched base are on one text."""
    record = records.record(BASE, None)
    results, lines = record.results, record.measures.lines
    phrases = {name: metric.phrase for name, metric in PERPLEXITIES.items() if metric.phrase and results.get(name)}
    levels = [f"{fixed(results[name])} {phrase}" for name, phrase in phrases.items()]
    sentence = f"Of the untouched base and one text, perplexity is {joined(levels)}"
    if lines is None:
        return f"{sentence}."
    published = fixed(lines.results["published_perplexity"])
    return f"{sentence}; by the published metric on the published lines it is {published}."


def retrieval_sentence(places: Records | None) -> str:
    """Say what the untouched base retrieves, whether that can be measured, and how far the arms lie apart."""
    of_base = None if places is None else places.record(BASE, None).measures.retrieval
    if places is None or not of_base:
        return "At this scale retrieval by depth was not measured."
    trained = [record for (stage, _), record in places.by_run.items() if stage != BASE]
    clauses, alike = [], []
    for kind, label in (("key_value", "listed values"), ("passkey", "passkeys")):
        base = of_base[kind]
        shares = [record.measures.retrieval[kind].share for record in trained]
        trials = sum(place.trials for place in base.places)
        told = f"{share_text(base.share)} of {trials} {label}, where chance is {share_text(base.chance)}"
        if base.verdict == NOT_MEASURABLE:
            told += ", which is chance at every depth, so that nothing can be measured"
        elif shares:
            low, high = share_text(min(shares)), share_text(max(shares))
            ends = low if low == high else f"{low} at the least, {high} at the most"
            told += f" (trained runs, {_of_seeds(places, 'questions')}: {ends})"
        clauses.append(told)
        alike.append(all(share == base.share for share in shares))
    ending = " All arms retrieve the same, so that this test does not tell them apart." if all(alike) else ""
    return f"The untouched base retrieves {joined(clauses)}.{ending}"


def contrast_sentence(places: Records | None) -> str:
    """Say the contrast C of the untouched base, and the least and the most of the trained arms."""
    if places is None:
        return "At this scale places in the window were not compared."
    contrasts = values(places, "contrast", {})
    trained = [value for stage, value in contrasts.items() if stage != BASE]
    base = contrasts[BASE]
    if not trained or not all(isinstance(value, float) for value in (base, *trained)):
        return "The records of places in the window hold no contrast."
    low, high = min(trained), max(trained)
    sign = "easier" if base < 0 else "harder"
    return (
        f"𝐶 is {fixed(base, 3)} nats on the untouched base, where the middle third is {sign} than the others, and "
        f"in the trained arms, {_of_seeds(places, 'articles')}, {fixed(low, 3)} nats at the least and {fixed(high, 3)} "
        "at the most."
    )


def _of_seeds(records: Records, things: str) -> str:
    """Say of how many seeds the least and the most of some arms are: of one they are no interval over seeds."""
    seeds = records.most_seeds
    return f"one seed each, so over these {things} alone" if seeds == 1 else f"{count(seeds)} seeds each"


def boundary_sentence(ablation: Records) -> str:
    """Say how far training moves the learned boundaries of the ablation, of how many positions, in how many steps."""
    stage = "learned_buckets"
    check_rows("ablation", stage)
    records = [ablation.record(stage, seed) for seed in ablation.seeds(stage)]
    moved = [farthest_boundary(record) for record in records]
    if not records or any(value is None for value in moved):
        return "The records do not hold the learned boundaries."
    positions, steps = records[0].specification.adapter.max_positions, records[0].training.steps
    return (
        f"In the ablation's {steps} steps the farthest that a learned boundary moves is {max(moved):.2g} tokens, of "
        f"{positions} positions."
    )


def rates_sentence(best: pd.DataFrame | None, means: pd.DataFrame | None, shared: float) -> str:
    """Say each arm's best rate, how far arms lie apart there and at the shared rate, and what is an edge.

    best, means: `best_rates` and `mean_rates` of `hylorada.study.results.rates`, None where the scale has no sweep.
    shared: the rate of the other tables.
    """
    if best is None or means is None:
        return "At this scale no rates were compared."
    by_rate = [(rate, joined(arms["label"])) for rate, arms in best.groupby("rate")]
    told = "; ".join(f"{scientific(rate)} for {arms}" for rate, arms in by_rate)
    tried = means.groupby("arm")["rate"].nunique()
    few, many = (count(int(number)) for number in (tried.min(), tried.max()))
    number = few if few == many else f"{few} to {many}"
    grid = "the whole grid" if tried.min() == len(RATES) else f"{number} rates of the grid of {count(len(RATES))}"
    edges = int(best["on_edge"].sum())
    ending = "No best rate is an edge of what was tried."
    if edges:
        ending = f"For {count(edges)} of {count(len(best))} arms that is an edge, and a better one may lie beyond."
    ordered = best.sort_values("perplexity", kind="stable")
    levels = joined(f"{row['label']} {fixed(row['perplexity'])}" for _, row in ordered.iterrows())
    apart = f"Each at its own, they stand at {levels}"
    at_shared = means[np.isclose(means["rate"], shared)]["perplexity"]
    if len(at_shared) == len(best):
        apart += f", {_apart(best['perplexity'])} from lowest to highest; at the one rate of the tables it is "
        apart += _apart(at_shared)
    return f"Over {grid}, the lowest validation perplexity is at {told}. {ending} {apart}."


def _apart(levels: pd.Series) -> str:
    return percentage(100 * (levels.max() / levels.min() - 1), 1)


def grid_sentence() -> str:
    """Say which grid of rates all methods share."""
    return f"The one grid of rates for all methods has {count(len(RATES))} values, {scientific(RATES[0])} to " + (
        f"{scientific(RATES[-1])}."
    )


def best_stage_sentence(table: pd.DataFrame) -> str:
    """Say which stage has the lowest mean; table: of `ablation_table`."""
    best = table.loc[table["perplexity"].idxmin()]
    if best["stage"] == BASE:
        return "No stage has a lower mean than the untouched base."
    return (
        f"The lowest mean is that of the stage {stage_name(best['stage'])}, {fixed(best['perplexity'])}, at "
        f"{percentage(best['effect_on_base'])} against the base."
    )


def share_sentence(table: pd.DataFrame) -> str:
    """Say how much of the best stage's gain over the base the first stage has; table: of `ablation_table`."""
    rows = table.set_index("stage")
    first, best = -rows.loc[FIRST, "effect_on_base"], -rows["effect_on_base"].min()
    if first <= 0 or best <= 0:
        return "Here it does not lower perplexity by itself."
    if rows["effect_on_base"].idxmin() == FIRST:
        return f"Here no stage has a lower mean than it has alone, {percentage(first)} below the base."
    return f"Here it alone lies {percentage(first)} below the base, where the best stage lies {percentage(best)} below."


def _gain(base: KindOfToken, trained: list[KindOfToken]) -> float:
    if not base.tokens:
        return 0.0
    return base.token_share * float(np.mean([base.mean_nll - kind.mean_nll for kind in trained]))


def cost_sentence(table: pd.DataFrame) -> str:
    """Say what a step of the stack costs; table: of `hylorada.study.results.cost.cost_table`."""
    row = table.set_index("method")
    ours, dora = (row.loc[name] for name in ("our HyLoRADA", "our DoRA"))
    plain, peft, whole = (
        row.loc[f"PEFT {name}"] for name in ("rsLoRA, adapter as base", "DoRA, adapter as base", "DoRA")
    )
    faster = "less" if dora["step"] < peft["step"] else "no less"
    return (
        f"A training step of the whole stack takes {fixed(ours['step'])} times as long as one of rsLoRA with "
        f"{fixed(ours['memory'])} times its memory. DoRA takes {fixed(dora['step'])} times, {faster} than the "
        f"{fixed(peft['step'])} of the PEFT library with the adapter in the base's type ({fixed(whole['step'])} as it "
        f"comes); PEFT's rsLoRA in that type takes {fixed(plain['step'])}. With the weights merged, inference of the "
        f"stack takes {fixed(ours['merged'])} times the base's; without, {fixed(ours['inference'])} times, and token "
        f"by token from a cache {fixed(ours['generation'])} times."
    )


def groups_sentence(benchmark: Mapping[str, Any]) -> str:
    """Say what attention in groups costs against whole attention at the longest measured length."""
    rows = {row["name"]: row for row in benchmark["sections"]["attention"]}
    longest = [name for name in rows if name.endswith("in groups")][-1]
    first = [name for name in rows if name.endswith("in groups")][0]
    tokens = [int(name.split()[0].replace(",", "")) for name in (first, longest)]
    growth = np.log(rows[longest]["milliseconds"] / rows[first]["milliseconds"]) / np.log(tokens[1] / tokens[0])
    memory = rows[longest]["peak_mib"] / rows[longest.replace("in groups", "full")]["peak_mib"]
    shape = "in proportion to length" if abs(growth - 1) < 0.15 else f"as length to the power {growth:.2f}"
    return (
        f"At {thousands(tokens[1])} tokens a layer's attention in groups takes "
        f"{share_text(rows[longest]['ratio']['median'])} of the time of whole attention, and {fixed(memory)} times its "
        f"memory; its time grows {shape}."
    )
