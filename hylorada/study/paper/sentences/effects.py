"""Sentences of the paper about effects: the numbers choose the words.

Effects are percent of perplexity, below zero is better.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from hylorada.study.paper.sentences.names import stage_name
from hylorada.study.plan.registered import read_plan
from hylorada.study.plan.rows import Row, untouched
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.studies import STUDIES, check_rows
from hylorada.study.records.records import Records
from hylorada.study.results.effects import stage_means
from hylorada.study.results.reach import with_reach
from hylorada.study.results.results import Results
from hylorada.study.results.statistics import (
    FAMILY_ERROR,
    MARGINS,
    POWER,
    SMALLEST_EFFECT,
    Effect,
    family_of_effects,
    percent,
)
from hylorada.study.results.words import (
    SPACE,
    count,
    fixed,
    joined,
    percentage,
    scientific,
    span,
    thousands,
    why_none,
)
from hylorada.study.sources.registry import MODELS, folder_name

MOST_TOLD = 5  # estimates of a table that a sentence tells
UNTESTABLE = "not testable at this budget"
STACK, FIRST = "landmarks", "rslora"
POOLING = {"original": "original", "per_layer": "per-layer"}  # designs that pool, and what the text calls them
MACROS = {  # macro -> the studies whose effects it tells, of which a scale has one at most
    "HyAblationTunedSentence": ("ablation_tuned",),
    "HyHorizonSentence": ("horizon",),
    "HyPublishedInFullSentence": ("published_in_full",),
    "HySingleFixesSentence": ("single_fixes",),
    "HyLandmarkStudySentence": ("landmark_study",),
    "HyDirectSentence": ("direct",),
    "HyLeaveOneOutSentence": ("leave_one_out",),
    "HyControlsSentence": ("controls",),
    "HyDesignsSentence": ("designs",),
    "HyBucketsSentence": ("buckets",),
    "HyMethodsSentence": ("methods",),
    "HyMethodsCodeSentence": ("methods_code",),
    "HyRanksSentence": ("ranks",),
    "HyModulesSentence": ("modules", "modules_gpt2"),
    "HyContextSentence": ("context",),
    "HyLongContextSentence": ("long_context",),
}


def effect_sentences(results: Results) -> dict[str, str]:
    """Return the sentence about the effects of each study, by macro; also for those that the scale lacks.

    A table of single runs decides nothing, so nothing is said of it: its caption tells why.
    """
    sentences = {}
    for macro, names in MACROS.items():
        name = next((name for name in names if name in results.studies), None)
        if name is None:
            sentences[macro] = f"At this scale the table “{STUDIES[names[0]].title}” was not made."
            continue
        table, rows = results.frame(name), results.settings.rows(name)
        sentences[macro] = effects_sentence(table, rows, f"[table {name}]")
    return sentences


def effects_sentence(table: pd.DataFrame, rows: Mapping[str, Row], where: str) -> str:
    """Say of the rows of a study which effects are resolved; nothing where none has an interval.

    table: as `study_table` makes it of `rows`. where: what the text calls it. Effects against the untouched base are
    left out where there are others. Estimates, which nothing adjusts, are told as such.
    """
    compared = table[table["against"] != ""]
    compared = compared.assign(label=[rows[name].in_words for name in compared["stage"]])
    others = compared[~compared["against"].isin(untouched(rows))]
    compared = others if len(others) else compared
    if compared.empty:
        return f"{where} has the rows, which are held against no other."
    if compared["effect_low"].isna().all():
        return ""
    if not compared["adjusted"].all():
        return _estimated(compared, where)
    resolved = compared[compared["resolved"]]
    groups = {"lower": resolved[resolved["effect"] < 0], "raise": resolved[resolved["effect"] > 0]}
    clauses = [
        f"{joined(map(_told, group.to_dict('records')))} {verb}{'s' * (len(group) == 1)} perplexity"
        for verb, group in groups.items()
        if len(group)
    ]
    rest = len(compared) - len(resolved)
    if not clauses:
        return (
            f"In {where} {f'none of the {count(rest)} effects is' if rest > 1 else 'the one effect is not'} resolved."
        )
    verb = "is" if rest == 1 else "are"
    ending = f"; {count(rest)} further effect{'s' * (rest != 1)} {verb} not resolved" if rest else ""
    return f"In {where} {' and '.join(clauses)}{ending}."


def _estimated(compared: pd.DataFrame, where: str) -> str:
    """Tell estimates with their intervals, of more than MOST_TOLD the lowest and the highest."""
    ordered = compared.sort_values("effect", kind="stable").to_dict("records")
    if len(ordered) <= MOST_TOLD:
        return f"In {where}, estimates without a verdict: {joined(map(_told, ordered))}."
    ends = f"{_told(ordered[0])} is the lowest and {_told(ordered[-1])} the highest"
    return f"Of the {count(len(ordered))} estimates in {where}, which have no verdict, {ends}."


def families_sentence(ablation: Records) -> str:
    """Say which effects are adjusted together, and what the others are."""
    if all(record.plan is None for record in ablation.by_run.values()):
        return (
            f"The steps of the ablation form one family, held to {percentage(100 * FAMILY_ERROR, 0)}, and so do the "
            "rows of each further table."
        )
    registered = read_plan()
    tested = joined(f"“{STUDIES[one.study].title}”" for one in registered.studies if registered.is_primary(one.study))
    return (
        f"The plan has {count(len(registered.primary))} primary families, the effects of {tested}, each held to "
        f"{percentage(100 * registered.error, 0)}. The rest is estimation: each effect has a "
        f"{percentage(100 * (1 - FAMILY_ERROR), 0)} interval of its own, which is not adjusted, and no asterisk. "
        "Where a published statement is judged by an estimated effect, all of its study's are adjusted for that."
    )


def stack_effect(records: Records) -> Effect:
    """Return the effect of the whole stack against its first stage."""
    difference = stage_means(records, STACK) - stage_means(records, FIRST)
    return with_reach(records, family_of_effects({STACK: difference}), {STACK: FIRST})[STACK]


def stack_sentence(effect: Effect) -> str:
    """Say what the whole stack gives over its first stage, rsLoRA alone."""
    value = percent(effect.mean)
    if effect.interval is None:
        return (
            f"The whole stack stands at {percentage(value)} against rsLoRA alone, from {why_none(effect.seeds)} and so "
            "without an interval."
        )
    ends = f"{percentage(value)}, {span(percent(effect.interval.low), percent(effect.interval.high))}"
    if effect.is_resolved:
        verb = "lowers" if value < 0 else "raises"
        small = ", by less than is of interest" if abs(value) < 100 * SMALLEST_EFFECT else ""
        return f"Against rsLoRA alone the whole stack {verb} perplexity ({ends}{small})."
    if effect.is_negligible:
        within = percentage(100 * effect.equivalent_within, 1 if effect.equivalent_within < SMALLEST_EFFECT else 0)
        return f"Against rsLoRA alone the whole stack is equivalent to none within {within} ({ends})."
    if effect.is_untestable:
        return f"Against rsLoRA alone the whole stack moves little ({ends}), which is {UNTESTABLE}."
    return f"Whether the whole stack does better or worse than rsLoRA alone is open ({ends})."


def one_run_sentence(effects: Mapping[str, Effect]) -> str:
    """Say how far a step of one run may lie from the truth, as the seeds of the ablation tell it."""
    widths = {
        name: (percent(effect.one_run.high) - percent(effect.one_run.low)) / 2
        for name, effect in effects.items()
        if effect.one_run is not None
    }
    if not widths:
        return "With one seed an arm, this copy cannot tell how much seeds alone move a number."
    low, high = min(widths.values()), max(widths.values())
    ends = fixed(low) if fixed(low) == fixed(high) else f"{fixed(low)} to {fixed(high)}"
    return (
        f"For a sense of scale: one more run of the ablation would, by its seeds, fall within {ends}{SPACE}% of the "
        f"mean of a step, depending on the step."
    )


def efficiency_sentence(table: pd.DataFrame) -> str:
    """Say of which parts the parameters for one percent of gain are bounded; table: of `efficiency_table`."""
    bounded = table[table["cost"].notna()].sort_values("cost")
    if bounded.empty:
        return "No part has a gain that is resolved, so that parameters per gain are unbounded for all."
    told = joined(f"{row['label']} ({thousands(round(row['cost']))})" for _, row in bounded.iterrows())
    rest = len(table) - len(bounded)
    ending = f"; for the other {count(rest)} they are unbounded, since there may be no gain" if rest else ""
    return f"Parameters for one percent of gain can be told for {told}{ending}."


def pooling_sentence(table: pd.DataFrame | None) -> str:
    """Say what looking at the whole sequence seems to give the two designs that pool; table: of the study `designs`."""
    pairs = {label: (f"{design}_sequence", f"{design}_causal") for design, label in POOLING.items()}
    check_rows("designs", *sum(pairs.values(), ()))
    if table is None or not set(sum(pairs.values(), ())) <= set(table["stage"]):
        return "At this scale the designs that pool were not run both ways."
    level = table.set_index("stage")["perplexity"]
    changes = {label: 100 * (level[sequence] / level[causal] - 1) for label, (sequence, causal) in pairs.items()}
    told = joined(f"{percentage(change)} ({label})" for label, change in changes.items())
    return f"Pooling over the whole sequence instead of the tokens so far moves the measured number by {told}."


def bases_sentence(settings: Settings, table: pd.DataFrame | None) -> str:
    """Say what the study of bases tells, levels in bits a byte; with one base, nothing. table: of the study `bases`.

    An effect is one on its own base, in percent of that base's perplexity and in bits a byte.
    """
    if table is None or len(settings.bases) == 1:
        return "This copy has one base, so that whether the stack fares otherwise on a larger one is open."
    rows, lines = settings.rows("bases"), table.set_index("stage")
    stacks = lines[[rows[name].arm == STACK for name in lines.index]]
    if stacks["effect_low"].isna().all():
        return ""
    bases = {name: folder_name(rows[name].changes["base"], MODELS) for name in lines.index}
    levels = joined(
        f"{fixed(lines['bits_per_byte'][name], 3)} ({bases[name]})"
        for name in lines.index
        if rows[name].adapter is None
    )
    told = joined(_on_base(bases[name], row) for name, row in stacks.iterrows())
    return f"Untouched, the bases stand at {levels} bits a byte. The whole stack gives rsLoRA {told}."


def _on_base(base: str, row: pd.Series) -> str:
    """Say the effect on one base."""
    ends = f"{span(row['effect_low'], row['effect_high'])}; {fixed(row['bits_change'], 4)} bits a byte"
    open_ = ", not resolved" if row["adjusted"] and not row["resolved"] else ""
    return f"{percentage(row['effect'])} of perplexity on {base} ({ends}{open_})"


def _told(row: Mapping[str, object]) -> str:
    return f"{row['label']} ({percentage(row['effect'])}, {span(row['effect_low'], row['effect_high'])})"


def tuning_sentence(settings: Settings, studies: Mapping[str, Records]) -> str:
    """Say how the learning rates were chosen, and those of arms with their own as their records have them."""
    if not settings.tuned_rates:
        return "These rates are the same for every arm and none was tuned, so that an effect is one at these rates."
    asked = [record.specification for records in studies.values() for record in records.by_run.values()]
    rates = {one.stage: one.training.learning_rate for one in asked if one.training}
    told = ", ".join(f"{arm} {scientific(rates[arm])}" for arm in settings.tuned_rates if arm in rates)
    return (
        f"Arms with a rate of their own, chosen on validation articles from one grid for all ({told}), train at that "
        "rate, landmarks included; other arms at those just named."
    )


def ablation_sentence(effects: dict[str, Effect], articles: int) -> str:
    """Say which steps of the ablation are resolved and which way, which are none, and what the others would need.

    A step is resolved when its Holm-adjusted interval and the t interval that checks it both exclude zero, and else
    none when both of its 90 % intervals lie within the smallest effect of interest, and it could have gone beyond it.
    """
    seeds = min(effect.seeds for effect in effects.values())
    if any(effect.interval is None for effect in effects.values()):
        return f"With {why_none(seeds)} an arm no step has an interval, and all {count(len(effects))} are inconclusive."
    better = {name: effect for name, effect in effects.items() if effect.is_resolved and effect.mean < 0}
    worse = {name: effect for name, effect in effects.items() if effect.is_resolved and effect.mean > 0}
    none = {name: effect for name, effect in effects.items() if not effect.is_resolved and effect.is_negligible}
    untestable = {name: effect for name, effect in effects.items() if not effect.is_resolved and effect.is_untestable}
    decided = none.keys() | untestable.keys()
    rest = {name: effect for name, effect in effects.items() if not effect.is_resolved and name not in decided}
    clauses = [
        f"{verb} with {joined(_found(*step) for step in group.items())}"
        for verb, group in (("falls", better), ("rises", worse))
        if group
    ]
    sentences = [f"Perplexity {joined(clauses)}, intervals adjusted after Holm."] if clauses else []
    for margin in MARGINS:
        if held := {name: effect for name, effect in none.items() if effect.equivalent_within == margin}:
            within = percentage(100 * margin, 0 if margin == SMALLEST_EFFECT else 1)
            sentences.append(f"{_steps_are(held)} equivalent to none: perplexity stays within {within} of what it was.")
    if untestable:
        sentences.append(
            f"{_steps_are(untestable)} {UNTESTABLE}: perplexity stays within {percentage(100 * SMALLEST_EFFECT, 0)}, "
            f"and {_reach(untestable.values())}."
        )
    if rest:
        needed = sorted({fixed(percent(effect.detectable or 0.0)) for effect in rest.values()}, key=float)
        sentences.append(
            f"{_steps_are(rest)} inconclusive: at {seeds} seeds and {articles} articles, "
            f"an effect has to be {' to '.join(dict.fromkeys((needed[0], needed[-1])))}{SPACE}% "
            f"to be resolved with a chance of {percentage(100 * POWER, 0)}."
        )
    return " ".join(sentences)


def _reach(effects: Iterable[Effect]) -> str:
    """Say how far effects could have gone at this budget, to first order."""
    known = sorted(percent(effect.reach) for effect in effects if effect.reach is not None)
    if not known:
        return "nothing tells that training could have moved it farther"
    ends = " to ".join(dict.fromkeys(percentage(end) for end in (known[0], known[-1])))
    return f"training could have moved it by {ends} at most"


def _steps_are(group: Mapping[str, Effect]) -> str:
    names = joined(map(stage_name, group))
    return f"The step to {names} is" if len(group) == 1 else f"The {count(len(group))} steps to {names} are"


def _found(name: str, effect: Effect) -> str:
    ends = span(percent(effect.interval.low), percent(effect.interval.high)) if effect.interval else ""
    small = abs(percent(effect.mean)) < 100 * SMALLEST_EFFECT
    of_interest = ", less than is of interest" if small else ""
    return f"{stage_name(name)} ({percentage(percent(effect.mean))}, {ends}{of_interest})"
