r"""numbers.tex: every setting, source and result that the paper's text names, as a \Hy... macro."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hylorada.files import written_beside
from hylorada.landmark_redesigns import BOUNDARY_TEMPERATURE
from hylorada.landmarks import START_SCALE, START_STD
from hylorada.lora import BLEND_AT_START
from hylorada.study import readings, readings_cost, readings_published, sentences
from hylorada.study.amounts import cut_words
from hylorada.study.plan import Run, all_runs
from hylorada.study.rates import best_rates, mean_rates, rates_table
from hylorada.study.records import Records
from hylorada.study.registry import HubSource, LocalSource, find_corpus, find_model
from hylorada.study.sentences import count, effect_sentences, joined, stage_name
from hylorada.study.settings import Settings
from hylorada.study.stages import STAGES
from hylorada.study.statistics import (
    DRAWS,
    EQUIVALENCE_ERROR,
    FAMILY_ERROR,
    FEWEST_ARTICLES,
    POWER,
    SMALLEST_EFFECT,
    Effect,
    percent,
    why_none,
)
from hylorada.study.tables import (
    BASE,
    ablation_table,
    escape,
    fixed,
    scientific,
    span,
    stage_means,
    step_effects,
    study_table,
    thousands,
)
from hylorada.study.tables_cost import cost_table, read_benchmark
from hylorada.study.tables_protocols import efficiency_table

NONE: Mapping[str, Records] = {}


def write_numbers(
    settings: Settings, plan: dict[str, list[Run]], records: Records, studies: Mapping[str, Records] | None, path: Path
) -> None:
    """Write the macros of one scale; the first line names the records of the ablation that they came from.

    studies: the records of the scale's other tables, by name.
    """
    lines = [f"% made by `hylorada table` from the records of digest {records.digest}"]
    values = macro_values(settings, plan, records, studies or NONE)
    lines += [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in values.items()]
    with written_beside(path) as beside:
        beside.write_text("\n".join(lines) + "\n")


def macro_values(
    settings: Settings, plan: dict[str, list[Run]], records: Records, studies: Mapping[str, Records] = NONE
) -> dict[str, str]:
    """Return LaTeX by the name of each macro, without its backslash."""
    return (
        _sources(settings, records)
        | _method(plan)
        | _training(settings, records)
        | _results(settings, records)
        | _readings(settings, records, studies)
        | effect_sentences(settings, studies)
    )


def tuning_sentence(settings: Settings) -> str:
    """Say how the learning rates were chosen."""
    if not settings.tuned_rates:
        return "These rates are the same for every arm and none was tuned, so that an effect is one at these rates."
    rates = ", ".join(f"{escape(arm)} {scientific(rate)}" for arm, rate in settings.tuned_rates.items())
    return (
        f"Arms with a rate of their own, chosen on validation articles from one grid for all ({rates}), train at that "
        "rate, landmarks included; other arms at those just named."
    )


def ablation_sentence(effects: dict[str, Effect], articles: int) -> str:
    """Say which steps of the ablation are resolved and which way, which are none, and what the others would need.

    A step is resolved when its Holm-adjusted interval and the t interval that checks it both exclude zero, and else
    none when both of its 90 % intervals lie within the smallest effect of interest.
    """
    seeds = min(effect.seeds for effect in effects.values())
    if any(effect.interval is None for effect in effects.values()):
        return f"With {why_none(seeds)} an arm no step has an interval, and all {count(len(effects))} are inconclusive."
    better = {name: effect for name, effect in effects.items() if effect.is_resolved and effect.mean < 0}
    worse = {name: effect for name, effect in effects.items() if effect.is_resolved and effect.mean > 0}
    none = {name: effect for name, effect in effects.items() if not effect.is_resolved and effect.is_negligible}
    rest = {name: effect for name, effect in effects.items() if not effect.is_resolved and name not in none}
    said = [
        f"{verb} with {joined(_found(*step) for step in group.items())}"
        for verb, group in (("falls", better), ("rises", worse))
        if group
    ]
    sentences = [f"Perplexity {joined(said)}, intervals adjusted after Holm."] if said else []
    if none:
        sentences.append(
            f"{_steps_are(none)} equivalent to none: perplexity stays within "
            f"{100 * SMALLEST_EFFECT:g}\\,\\% of what it was."
        )
    if rest:
        needed = sorted({fixed(percent(effect.detectable or 0.0)) for effect in rest.values()}, key=float)
        sentences.append(
            f"{_steps_are(rest)} inconclusive: at {seeds} seeds and {articles} articles, "
            f"an effect has to be {' to '.join(dict.fromkeys((needed[0], needed[-1])))}\\,\\% "
            f"to be resolved with a chance of {100 * POWER:g}\\,\\%."
        )
    return " ".join(sentences)


def _sources(settings: Settings, records: Records) -> dict[str, str]:
    model, corpus = find_model(settings.base), find_corpus(settings.corpus)
    scope = "Each test article" if settings.test_articles is None else f"Each of the first {settings.test_articles}"
    scope += " is scored " if settings.test_articles is None else " test articles is scored "
    some = settings.test_tokens_per_article
    trained = [record for record in records.by_run.values() if record["training"]]
    seconds = np.array([record["training"]["seconds"] + record["evaluation_seconds"] for record in trained])
    return {
        "HyScale": escape(settings.scale),
        "HyBaseName": short_name(model),
        "HyBaseDescription": _long(model),
        "HyBaseParams": thousands(records.record(BASE, None)["parameters"]["total"]),
        "HyBaseLicence": escape(model.licence),
        "HyTargets": joined(rf"\texttt{{{escape(name)}}}" for name in settings.target_modules),
        "HyCorpusName": short_name(corpus),
        "HyCorpusDescription": _long(corpus),
        "HyCorpusLicence": escape(corpus.licence),
        "HyTestArticles": thousands(_articles(records)),
        "HyTestTokens": thousands(records.record(BASE, None)["results"]["scored_tokens"]),
        "HyTestScope": scope + ("whole" if some is None else f"over its first {thousands(some)} tokens"),
        "HyHardware": "; ".join(dict.fromkeys(_hardware(record["machine"]) for record in records.by_run.values())),
        "HyTorch": _versions(records, "torch"),
        "HyTransformers": _versions(records, "transformers"),
        "HyRunSeconds": f"{_brief(np.median(seconds))} ({_brief(seconds.min())} to {_brief(seconds.max())})",
    }


def _method(plan: dict[str, list[Run]]) -> dict[str, str]:
    adapter = plan[list(STAGES)[-1]][0].specification["adapter"]  # the last stage has every part
    return {
        "HyRank": str(adapter["lora_rank"]),
        "HyAlpha": f"{adapter['lora_alpha']:g}",
        "HyDropout": f"{adapter['lora_dropout']:g}",
        "HyBiasBuckets": str(adapter["position_num_buckets"]),
        "HyLandmarks": str(adapter["num_landmarks"]),
        "HyBuckets": str(adapter["num_position_buckets"]),
        "HyMaxPositions": thousands(adapter["max_positions"]),
        "HyBlendStart": f"{BLEND_AT_START:g}",
        "HyLandmarkStd": f"{START_STD:g}",
        "HyLandmarkScale": f"{START_SCALE:g}",
        "HyTemperature": f"{BOUNDARY_TEMPERATURE:g}",
    }


def _training(settings: Settings, records: Records) -> dict[str, str]:
    history = next(record["training"]["history"] for record in records.by_run.values() if record["training"])
    blocks = sum(row["targets"] for row in history) // (settings.block_tokens - 1)  # a block's first token is no target
    return {
        "HyTrainTokens": thousands(blocks * settings.block_tokens),
        "HyPrecision": settings.dtype,
        "HyBlock": thousands(settings.block_tokens),
        "HyBatchBlocks": str(settings.batch_size * settings.gradient_accumulation_steps),
        "HySteps": thousands(len(history)),
        "HyLearningRate": scientific(settings.learning_rate),
        "HyPositionLR": scientific(settings.position_bias_lr),
        "HyLandmarkLR": scientific(settings.landmark_lr),
        "HyWarmupPercent": f"{100 * settings.warmup_ratio:g}",
        "HyWeightDecay": f"{settings.weight_decay:g}",
        "HyClip": f"{settings.max_grad_norm:g}",
        "HyTuningSentence": tuning_sentence(settings),
        "HyEvalWindow": thousands(settings.block_tokens),
        "HyEvalStride": thousands(min(settings.evaluation_stride, settings.block_tokens - 1)),
    }


def _results(settings: Settings, records: Records) -> dict[str, str]:
    first = next(name for name, stage in STAGES.items() if stage.on == BASE)
    return {
        "HySeeds": str(len(settings.seeds)),
        "HyDraws": thousands(DRAWS),
        "HyLevelPercent": f"{100 * FAMILY_ERROR:g}",
        "HyEquivalencePercent": f"{100 * (1 - EQUIVALENCE_ERROR):g}",
        "HyFewestArticles": count(FEWEST_ARTICLES),
        "HySmallestEffect": f"{100 * SMALLEST_EFFECT:g}",
        "HyBasePPL": fixed(math.exp(stage_means(records, BASE).mean)),
        "HyLoraPPL": fixed(math.exp(stage_means(records, first).mean)),
        "HyAblationSentence": ablation_sentence(step_effects(records), _articles(records)),
        "HyOneRunSentence": sentences.one_run_sentence(step_effects(records)),
        "HyStackSentence": sentences.stack_sentence(sentences.stack_effect(records)),
        "HyShareSentence": readings.share_sentence(ablation_table(records)),
        "HyBestStageSentence": readings.best_stage_sentence(ablation_table(records)),
        "HyEfficiencySentence": sentences.efficiency_sentence(efficiency_table(records)),
    }


def _readings(settings: Settings, records: Records, studies: Mapping[str, Records]) -> dict[str, str]:
    published, benchmark = studies.get("as_published"), read_benchmark()
    designs = study_table(studies["designs"], settings.rows("designs")) if "designs" in studies else None
    return {
        "HyZeroSentence": readings_published.zero_sentence(published),
        "HyStillSentence": readings_published.still_sentence(published),
        "HyFrozenSentence": readings_published.frozen_sentence(published),
        "HyEndSentence": readings_published.end_sentence(studies.get("single_fixes"), published),
        "HyKindsSentence": readings.kinds_sentence(records),
        "HyMetricsSentence": readings.metrics_sentence(records),
        "HyPoolingSentence": sentences.pooling_sentence(designs),
        "HyBoundarySentence": readings.boundary_sentence(records),
        "HyPassedSentence": readings_published.passed_sentence(studies.get("single_fixes")),
        "HyContrastSentence": readings.contrast_sentence(studies.get("places")),
        **_benchmark(benchmark),
        "HyCut": f" ({cut})" if (cut := cut_words(settings)) else "",
        "HyRetrievalSentence": readings.retrieval_sentence(studies.get("places")),
        "HyRatesSentence": _rates_sentence(settings, studies.get("rates")),
        "HyCostSentence": readings_cost.cost_sentence(cost_table(benchmark)),
        "HyGroupsSentence": readings_cost.groups_sentence(benchmark),
        "HyBasesSentence": sentences.bases_sentence(settings, studies.get("bases")),
        "HyGridSentence": readings.grid_sentence(),
        "HyRuns": thousands(len(all_runs(settings))),
        "HyTables": count(len(settings.studies)),
    }


def _benchmark(benchmark: Mapping[str, Any]) -> dict[str, str]:
    setting = benchmark["setting"]
    rows = {row["name"]: row for row in benchmark["sections"]["training"]}
    threads = benchmark["machine"]["threads"]
    return {
        "HyBenchDate": benchmark["started"][:10],
        "HyBenchRounds": count(setting["rounds"]),
        "HyBenchSetting": f"{escape(Path(setting['model']).name)} in {setting['dtype']}, {setting['tokens']} tokens a "
        f"step, the library's default layers ({thousands(rows['our rsLoRA']['trained'])} parameters in rsLoRA), "
        f"{count(threads)} thread{'s' * (threads != 1)} of a processor",
    }


def _rates_sentence(settings: Settings, sweep: Records | None) -> str:
    if sweep is None:
        return readings.rates_sentence(None, None, 0.0)
    rows = settings.rows("rates")
    shared = math.nan if settings.tuned_rates else settings.learning_rate
    return readings.rates_sentence(best_rates(sweep, rows), mean_rates(rates_table(sweep, rows)), shared)


def _articles(records: Records) -> int:
    return len(stage_means(records, BASE).tokens)


def short_name(source: Any) -> str:
    """Return what the text calls a base model or a corpus, in LaTeX."""
    return _long(source).split(",")[0]


def _long(source: Any) -> str:
    match source:
        case HubSource():
            part = f":{source.configuration}" if source.configuration else ""
            return escape(f"{source.repository}{part}, {source.description}")
        case LocalSource():
            return escape(f"{source.folder.name}, {source.description}")
    return escape(source.description)


def _hardware(machine: dict[str, Any]) -> str:
    threads = machine["threads"]
    processor = f"{machine['processor']}, {machine['cores']} cores, {threads} thread{'s' * (threads != 1)} a run"
    return escape(processor if machine["device"] == "cpu" else f"{machine['device']} beside {processor}")


def _versions(records: Records, library: str) -> str:
    return joined(dict.fromkeys(escape(record["machine"]["versions"][library]) for record in records.by_run.values()))


def _brief(value: float) -> str:
    """Two digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _steps_are(group: Mapping[str, Effect]) -> str:
    names = joined(map(stage_name, group))
    return f"The step to {names} is" if len(group) == 1 else f"The {count(len(group))} steps to {names} are"


def _found(name: str, effect: Effect) -> str:
    ends = span(percent(effect.interval.low), percent(effect.interval.high)) if effect.interval else ""
    small = abs(percent(effect.mean)) < 100 * SMALLEST_EFFECT
    of_interest = ", less than is of interest" if small else ""
    return rf"{stage_name(name)} ({fixed(percent(effect.mean))}\,\%, {ends}{of_interest})"
