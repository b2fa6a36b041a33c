r"""numbers.tex: every setting, source and result that the paper's text names, as a \Hy... macro."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hylorada.constants import BLEND_AT_START, BOUNDARY_TEMPERATURE, LANDMARK_SCALE, LANDMARK_STD
from hylorada.files import written_beside
from hylorada.study.paper.latex import set_macros
from hylorada.study.paper.sentences import caveats, effects, measures, published
from hylorada.study.paper.sentences.effects import ablation_sentence, effect_sentences, tuning_sentence
from hylorada.study.paper.sentences.names import long_name, short_name
from hylorada.study.plan.ablation import BASE, STAGES
from hylorada.study.plan.budget import cut_words
from hylorada.study.plan.record import Machine
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.settings import Settings
from hylorada.study.plan.specification import Articles, LinesText, Specification
from hylorada.study.records.records import Records
from hylorada.study.results.effects import stage_means
from hylorada.study.results.power import FINDS
from hylorada.study.results.rates import best_rates, mean_rates, rates_table
from hylorada.study.results.results import Results
from hylorada.study.results.statistics import (
    DRAWS,
    EQUIVALENCE_ERROR,
    FEWEST_ARTICLES,
    MARGINS,
    SMALLEST_EFFECT,
)
from hylorada.study.results.words import count, fixed, joined, plural, scientific, thousands
from hylorada.study.sources.registry import find_corpus, find_model

COMPILED = {
    None: "",
    "pieces": ", with its norms, rotary positions and SwiGLU as compiled loops",
}  # by what of the base is


def write_numbers(results: Results, path: Path) -> None:
    """Write the macros of one scale; the first line names the records of the ablation that they came from."""
    made = f"% made by `hylorada table` from the records of digest {results.ablation.digest}\n"
    with written_beside(path) as beside:
        beside.write_text(made + set_macros(macro_values(results)), encoding="utf-8")


def macro_values(results: Results) -> dict[str, str]:
    """Return plain text by the name of each macro, without its backslash."""
    settings, records = results.settings, results.ablation
    return (
        _sources(settings, records)
        | _method(records)
        | _training(results)
        | _results(results)
        | _readings(results)
        | effect_sentences(results)
    )


def _sources(settings: Settings, records: Records) -> dict[str, str]:
    model, corpus = find_model(settings.base), find_corpus(settings.corpus)
    trained = [record for record in records.by_run.values() if record.training]
    seconds = np.array([record.seconds for record in trained])
    return {
        "HyScale": settings.scale,
        "HyQuickLookSentence": caveats.quick_look_sentence(settings, records),
        "HySourcesCaveat": caveats.sources_caveat(model, corpus),
        "HyBaseName": short_name(model),
        "HyBaseDescription": long_name(model),
        "HyBaseParams": thousands(records.record(BASE, None).total),
        "HyTargets": joined(f"`{name}`" for name in records.asked.adapter.lora_target_modules),
        "HyCorpusName": short_name(corpus),
        "HyCorpusDescription": long_name(corpus),
        "HyLicences": joined(_licences(settings)),
        "HyTestArticles": thousands(_articles(records)),
        "HyTestTokens": thousands(records.record(BASE, None).results["scored_tokens"]),
        "HyTestScope": _scope(records.asked.evaluation),
        "HyHardware": "; ".join(dict.fromkeys(_hardware(record.machine) for record in records.by_run.values())),
        "HyTorch": _versions(records, "torch"),
        "HyTransformers": _versions(records, "transformers"),
        "HyRunSeconds": f"{_brief(np.median(seconds))} ({_brief(seconds.min())} to {_brief(seconds.max())})",
    }


def _method(records: Records) -> dict[str, str]:
    last = list(STAGES)[-1]  # it has every part
    adapter = records.record(last, records.seeds(last)[0]).specification.adapter
    return {
        "HyRank": str(adapter.lora_rank),
        "HyAlpha": f"{adapter.lora_alpha:g}",
        "HyDropout": f"{adapter.lora_dropout:g}",
        "HyBiasBuckets": str(adapter.position_num_buckets),
        "HyLandmarks": str(adapter.num_landmarks),
        "HyBuckets": str(adapter.num_position_buckets),
        "HyMaxPositions": thousands(adapter.max_positions),
        "HyBlendStart": f"{BLEND_AT_START:g}",
        "HyLandmarkStd": f"{LANDMARK_STD:g}",
        "HyLandmarkScale": f"{LANDMARK_SCALE:g}",
        "HyTemperature": f"{BOUNDARY_TEMPERATURE:g}",
    }


def _training(results: Results) -> dict[str, str]:
    settings, records = results.settings, results.ablation
    first = next(record for record in records.by_run.values() if record.training)
    asked, steps = first.specification, first.training.steps
    usual = _untuned(settings, records).training
    blocks = first.training.targets // (asked.block_tokens - 1)  # a block's first token is no target
    window = asked.evaluation.max_length
    clip = usual.max_grad_norm
    return {
        "HyTrainTokens": thousands(blocks * asked.block_tokens),
        "HyPrecision": asked.dtype + COMPILED[asked.compile],
        "HyBlock": thousands(asked.block_tokens),
        "HyBatchBlocks": str(usual.batch_size * usual.gradient_accumulation_steps),
        "HySteps": thousands(steps),
        "HyLearningRate": scientific(usual.learning_rate),
        "HyPositionLR": scientific(usual.position_bias_lr),
        "HyLandmarkLR": scientific(usual.landmark_lr),
        "HyWarmupPercent": f"{100 * usual.warmup_ratio:g}",
        "HyWeightDecay": f"{usual.weight_decay:g}",
        "HyClip": "not clipped" if clip is None else f"clipped at norm {clip:g}",
        "HyTuningSentence": tuning_sentence(settings, results.studies),
        "HyEvalWindows": _windows(window, min(asked.evaluation.stride, window - 1)),
    }


def _untuned(settings: Settings, records: Records) -> Specification:
    """Return what a trained run without a learning rate of its own was asked for; of any, where all have one."""
    asked = [record.specification for record in records.by_run.values() if record.training]
    return next((one for one in asked if one.stage not in settings.tuned_rates), asked[0])


def _windows(window: int, advance: int) -> str:
    """Say how windows follow each other: a first token is no target, so that they overlap by one token at least."""
    overlap = window - advance
    shared = f"{thousands(overlap)} {plural('token', overlap)}"
    return f"windows of {thousands(window)} tokens, each of which begins with the last {shared} of the one before"


def _scope(scored: Articles | LinesText) -> str:
    if isinstance(scored, LinesText):
        return f"Each of the first {thousands(scored.lines.count)} {scored.lines.split} lines that qualify is scored"
    which = f"Each {scored.split} article"
    if scored.articles is not None:
        which = f"Each of the first {scored.articles} {scored.split} articles"
    some = scored.tokens_per_article
    return f"{which} is scored " + ("whole" if some is None else f"over its first {thousands(some)} tokens")


def _results(results: Results) -> dict[str, str]:
    records = results.ablation
    first = next(name for name, stage in STAGES.items() if stage.against == BASE)
    return {
        "HySeeds": str(len(records.seeds(first))),
        "HyDraws": thousands(DRAWS),
        "HyFindsSentence": FINDS,
        "HyFamiliesSentence": effects.families_sentence(records),
        "HyEquivalencePercent": f"{100 * (1 - EQUIVALENCE_ERROR):g}",
        "HyFewestArticles": count(FEWEST_ARTICLES),
        "HySmallestEffect": f"{100 * SMALLEST_EFFECT:g}",
        "HyStrictEffect": f"{100 * MARGINS[0]:g}",
        "HyBasePPL": fixed(math.exp(stage_means(records, BASE).mean)),
        "HyLoraPPL": fixed(math.exp(stage_means(records, first).mean)),
        "HyAblationSentence": ablation_sentence(results.steps, _articles(records)),
        "HyReachSentence": caveats.reach_sentence(records),
        "HyDeparturesSentence": caveats.departures_sentence(results),
        "HyOneRunSentence": effects.one_run_sentence(results.steps),
        "HyStackSentence": effects.stack_sentence(effects.stack_effect(records)),
        "HyShareSentence": measures.share_sentence(results.frame("ablation")),
        "HyBestStageSentence": measures.best_stage_sentence(results.frame("ablation")),
        "HyEfficiencySentence": effects.efficiency_sentence(results.frame("efficiency")),
    }


def _readings(results: Results) -> dict[str, str]:
    settings, records, studies = results.settings, results.ablation, results.studies
    followed, fixes, places = (studies.get(name) for name in ("as_published", "single_fixes", "places"))
    designs, bases = (results.frame(name) if name in studies else None for name in ("designs", "bases"))
    return {
        "HyZeroSentence": published.zero_sentence(followed),
        "HyStillSentence": published.still_sentence(followed),
        "HyFrozenSentence": published.frozen_sentence(followed),
        "HyEndSentence": published.end_sentence(fixes, followed),
        "HyKindsSentence": measures.kinds_sentence(records),
        "HyMetricsSentence": measures.metrics_sentence(records),
        "HyPoolingSentence": effects.pooling_sentence(designs),
        "HyBoundarySentence": measures.boundary_sentence(records),
        "HyPassedSentence": published.passed_sentence(fixes),
        "HyContrastSentence": measures.contrast_sentence(places),
        **_benchmark(results.benchmark),
        "HyCut": f" ({cut})" if (cut := cut_words(followed and followed.asked)) else "",
        "HyRetrievalSentence": measures.retrieval_sentence(places),
        "HyRatesSentence": _rates_sentence(settings, records, studies.get("rates")),
        "HyCostSentence": measures.cost_sentence(results.frame("cost")),
        "HyGroupsSentence": measures.groups_sentence(results.benchmark),
        "HyBasesSentence": effects.bases_sentence(settings, bases),
        "HyGridSentence": measures.grid_sentence(),
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
        "HyBenchSetting": f"{Path(setting['model']).name} in {setting['dtype']}, {setting['tokens']} tokens a "
        f"step, the library's default layers ({thousands(rows['our rsLoRA']['trained'])} parameters in rsLoRA), "
        f"{count(threads)} {plural('thread', threads)} of a processor",
    }


def _rates_sentence(settings: Settings, records: Records, sweep: Records | None) -> str:
    if sweep is None:
        return measures.rates_sentence(None, None, 0.0)
    rows = settings.rows("rates")
    shared = math.nan if settings.tuned_rates else _untuned(settings, records).training.learning_rate
    return measures.rates_sentence(best_rates(sweep, rows), mean_rates(rates_table(sweep, rows)), shared)


def _licences(settings: Settings) -> Iterator[str]:
    """Yield the licence of each base and corpus of a scale's runs."""
    runs = all_runs(settings).values()
    sources = [*(find_model(run.base) for run in runs), *(find_corpus(run.corpus) for run in runs)]
    yield from dict.fromkeys(f"{source.licence} ({short_name(source)})" for source in sources)


def _articles(records: Records) -> int:
    return len(stage_means(records, BASE).tokens)


def _hardware(machine: Machine) -> str:
    threads = machine.threads
    processor = f"{machine.processor}, {machine.cores} cores, {threads} {plural('thread', threads)} a run"
    return processor if machine.device == "cpu" else f"{machine.device} beside {processor}"


def _versions(records: Records, library: str) -> str:
    return joined(dict.fromkeys(record.machine.versions[library] for record in records.by_run.values()))


def _brief(value: float) -> str:
    """Two digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
