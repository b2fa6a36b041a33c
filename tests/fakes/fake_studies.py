"""Records of studies that never ran, in memory: real plans, and results that a test says."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fake_records import AROUND
from matplotlib.axes import Axes

from hylorada.landmark_redesigns import LearnableBucketLandmark
from hylorada.landmarks import LandmarkLoRA
from hylorada.retrieved import Place, Retrieval, verdict
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import (
    EndToken,
    KindOfToken,
    Measures,
    Record,
    ScoredLines,
    Shifts,
    Trained,
    Views,
    WorstText,
)
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES, Row, rows_by_base
from hylorada.study.plan.sweeps import RATES
from hylorada.study.records.records import Key, Records
from hylorada.wilson import wilson

LEVELS = dict(zip(STAGES, (20.0, 17.0, 16.8, 16.7, 16.9, 17.1), strict=True))  # perplexity of each stage
BASE_SIZES = {"small": 124_000_000, "middle": 355_000_000, "large": 774_000_000}
BEST = {"lora": 2e-3, "rslora": 5e-4, "dora": 5e-4, "lorada": 2e-4, "longlora": 5e-5, "sparse": 1e-3, "hylorada": 2e-4}
BEST |= {"magnitude": 1e-3, "position_bias": 5e-4, "learned_buckets": 5e-5}
PLACES = ("base", "rslora", "position_bias", "landmarks")


def study_records(
    name: str, perplexity: Callable[[Run], float], seeds: int = 3, **scale: Any
) -> tuple[Records, dict[str, Row]]:
    """Records and rows of a study at micro scale; perplexity: of each run. scale: settings to replace."""
    budget = {"seeds": list(range(seeds)), "train_tokens": 8192}
    settings = replace(load_settings("micro"), **scale, studies={name: budget})
    return as_records(plan(settings, name), perplexity), settings.rows(name)


def stage_records(seeds: int = 3, stages: tuple[str, ...] = tuple(STAGES)) -> Records:
    """Records of the ablation with `LEVELS`, views, learned gates and measures."""
    planned = plan(replace(load_settings("micro"), seeds=list(range(seeds))), "ablation")
    kept = {stage: planned[stage] for stage in stages}
    found = as_records(kept, lambda run: LEVELS[run.row] + 0.1 * (run.seed or 0))
    for (stage, seed), record in found.by_run.items():
        numbers = results(1.4 * record.results["perplexity"]) | {"lim_perplexity": None}
        lines = ScoredLines(results=numbers, views=views(1.4 * LEVELS[stage], seed, texts=200))
        found.by_run[stage, seed] = replace(
            record,
            views=views(LEVELS[stage], seed),
            learned=learned(record),
            measures=replace(measures(stage, seed), lines=lines),
            training=record.training and replace(record.training, history=history(stage, seed)),
        )
    return found


def history(stage: str, seed: int, steps: int = 24) -> list[dict[str, float]]:
    """Loss by step: alike for all stages at a seed, but for a gain that grows with the steps."""
    chance, gain = np.random.default_rng(seed).normal(size=steps), math.log(LEVELS[stage] / LEVELS["rslora"])
    return [{"step": i + 1, "loss": 3.0 + chance[i] + gain * i, "learning_rate": 5e-4} for i in range(steps)]


def base_records(seeds: int = 2) -> tuple[Records, dict[str, Row]]:
    """Records and rows of the study of bases, as if the one of micro came in three sizes."""
    found, planned = {}, plan(load_settings("micro"), "ablation")
    bases = rows_by_base([f"local:{name}" for name in BASE_SIZES])
    for name, row in bases.items():
        size = BASE_SIZES[row.changes["base"].removeprefix("local:")]
        for seed in [None] if row.adapter is None else range(seeds):
            run = replace(planned[row.arm][0], stage=name, row=name, seed=seed)
            trained = 0 if row.adapter is None else size // 100
            record = fake_record(run, LEVELS[row.arm] * (size / 124e6) ** -0.2 * (1 + 0.01 * (seed or 0)))
            found[name, seed] = replace(record, parameters={"trainable": trained, "total": size + trained})
    return Records(found, {}), bases


def as_records(planned: dict[str, list[Run]], perplexity: Callable[[Run], float]) -> Records:
    runs = [run for runs in planned.values() for run in runs]
    return Records({(run.row, run.seed): fake_record(run, perplexity(run)) for run in runs}, {})


def fake_record(run: Run, perplexity: float) -> Record:
    adapter = run.specification.adapter
    trained = 100_000 * adapter.lora_rank * len(adapter.lora_target_modules) if adapter else 0
    return Record(
        name=run.name,
        identity=run.identity,
        specification=run.specification,
        results=results(perplexity),
        parameters={"trainable": trained, "total": 134_515_008 + trained},
        training=Trained(history=[], seconds=30.0) if run.specification.training else None,
        **AROUND,
    )


def results(perplexity: float) -> dict[str, float]:
    return {
        "perplexity": perplexity,
        "geometric_perplexity": 1.04 * perplexity,
        "arithmetic_perplexity": 1.10 * perplexity,
        "lim_perplexity": 1.02 * perplexity,
        "word_perplexity": float(perplexity**1.4),
        "byte_perplexity": float(perplexity**0.23),
        "bits_per_byte": float(np.log2(perplexity) * 0.23),
    }


def views(perplexity: float, seed: int | None, texts: int = 13) -> Views:
    """Views of texts whose worst are somewhat worse; of the gain over a base of 20, most is on layout."""
    gain = np.log(perplexity / 20.0) * (1 + 0.02 * (seed or 0))
    shares, factors = {"layout": 0.2, "word": 0.8, "piece": 0.0}, {"layout": 3.0, "word": 0.5, "piece": 0.0}
    kinds = {
        kind: KindOfToken(
            mean_nll=2.9 + factors[kind] * gain if share else None,  # of no token
            tokens=int(6239 * share),
            nll_share=share,
            token_share=share,
        )
        for kind, share in shares.items()
    }
    mean = 1.10 * perplexity
    worst = [WorstText(text=i, perplexity=(3 - 0.4 * i) * mean, share=(3 - 0.4 * i) / texts) for i in range(5)]
    return Views(kinds=kinds, worst=worst)


def learned(record: Record) -> dict[str, Any]:
    """Gates and boundaries as a run learns them, where its adapter has them."""
    adapter = record.specification.adapter
    if adapter is None or not adapter.landmark_enabled:
        return {}
    sizes = (1, adapter.num_landmarks, adapter.num_position_buckets, adapter.max_positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record.specification.training.seed)
        part = (LearnableBucketLandmark if adapter.landmark_design == "learnable_bucket" else LandmarkLoRA)(*sizes)
        found = {"landmark.position_gates": part.position_gates.tolist()}
        if isinstance(part, LearnableBucketLandmark):
            found["landmark.boundaries"] = (part.boundaries + 0.005 * torch.randn(part.boundaries.shape)).tolist()
    return found


def measures(stage: str, seed: int | None) -> Measures:
    """What the study `places` measures; the passkey at chance."""
    level, chance = np.log(LEVELS[stage]) + 0.002 * (seed or 0), np.random.default_rng([len(stage), seed or 0])
    end = 10.0 ** (-4.0 - 0.1 * (seed or 0) - 0.3 * (stage != "base"))
    quantiles = {"0.5": end * 1e-4, "0.9": end / 3, "0.99": 20 * end}
    return Measures(
        end_token=EndToken(mean=end, quantiles=quantiles, perplexity_factor=1 + end, texts=13),
        shifts=Shifts(parts=4, nll=[level + 0.5, level + 0.2, level + 0.1, level], tokens=2000),
        retrieval={
            "key_value": retrieved({4: 0.9, 8: 0.7}, chance, lambda pairs: 1 / pairs),
            "passkey": retrieved({256: 0.25}, chance, lambda tokens: 0.25),
        },
    )


def retrieved(rates: dict[int, float], random: np.random.Generator, chance: Callable[[int], float]) -> Retrieval:
    """Hits of 20 trials at five depths of each size, as many as its rate says, and some chance where above chance."""
    places = []
    for size, rate in rates.items():
        for index in range(5):
            hits = int(random.binomial(20, rate)) if rate > chance(size) else int(20 * rate)
            low, high = wilson(hits, 20)
            places.append(Place(size, index, index / 4, hits, 20, low, high, chance(size)))
    return Retrieval(places=tuple(places), share=0.5, chance=0.25, verdict=verdict(places), tokens_read=1000)


def by_rate(run: Run) -> float:
    """Perplexity lowest at BEST; SparseAdapter diverges at the highest rate."""
    method, rate = run.stage.split("_lr")[0], run.specification.training.learning_rate
    if (method, rate) == ("sparse", max(RATES)):
        return math.nan
    return 16 + 0.5 * math.log(rate / BEST[method]) ** 2 + 0.05 * run.seed


def by_part_rate(run: Run) -> float:
    """Perplexity lowest at the second rate of every part."""
    row = STUDIES["part_rates"].rows[run.stage]
    rates = [other.x for other in STUDIES["part_rates"].rows.values() if other.series == row.series]
    return 16 + 0.2 * abs(rates.index(row.x) - 1) + 0.01 * run.seed


def by_rank(run: Run) -> float:
    adapter = run.specification.adapter
    return 18 - 0.4 * math.log2(adapter.lora_rank) * (1 if adapter.use_rslora else 0.6) + 0.05 * run.seed


def by_length(run: Run) -> float:
    return 20 - 0.8 * math.log2(run.specification.block_tokens) - 0.01 * len(run.stage) + 0.05 * run.seed


def by_layers(run: Run) -> float:
    return 17.5 - 0.2 * len(run.specification.adapter.lora_target_modules) + 0.05 * run.seed


def end_token(mean: float, factor: float | None) -> Measures:
    return Measures(end_token=EndToken(mean=mean, quantiles={}, perplexity_factor=factor, texts=13))


def change(records: Records, key: Key, **fields: Any) -> None:
    """Put other fields into one record."""
    records.by_run[key] = replace(records.by_run[key], **fields)


def points(axes: Axes, marker: str) -> list[float]:
    """x of everything that is drawn with a mark."""
    return sorted(x for line in axes.lines if line.get_marker() == marker for x in line.get_xdata())


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]
