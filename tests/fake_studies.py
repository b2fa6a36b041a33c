"""Records of studies that never ran, in memory: real plans, and results that a test says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hylorada.landmark_redesigns import LearnableBucketLandmark
from hylorada.landmarks import LandmarkLoRA
from hylorada.retrieval import verdict, wilson
from hylorada.study.plan import Run, plan, plan_study
from hylorada.study.records import Records
from hylorada.study.settings import load_settings
from hylorada.study.stages import STAGES
from hylorada.study.studies import Row, Study

LEVELS = dict(zip(STAGES, (20.0, 17.0, 16.8, 16.7, 16.9, 17.1), strict=True))  # perplexity of each stage
BASE_SIZES = {"small": 124_000_000, "middle": 355_000_000, "large": 774_000_000}
STAGE_ROWS = Study(
    title="",
    question="",
    rows={name: Row(label=stage.label, adapter=stage.adapter, against=stage.on) for name, stage in STAGES.items()},
)


def study_records(name: str, perplexity: Callable[[Run], float], seeds: int = 3, **more: Any) -> Records:
    """Records of a study at micro scale; perplexity: of each run. more: what every record holds beside its results."""
    settings = replace(load_settings("micro"), studies={name: {"seeds": list(range(seeds))}})
    return as_records(plan_study(settings, name), perplexity, **more)


def stage_records(seeds: int = 3, **more: Any) -> Records:
    """Records of the ablation with `LEVELS`, views, learned gates and measures."""
    settings = replace(load_settings("micro"), seeds=list(range(seeds)))
    found = as_records(plan(settings), lambda run: LEVELS[run.stage] + 0.1 * (run.seed or 0), **more)
    for (stage, seed), record in found.by_run.items():
        record |= {"views": views(LEVELS[stage], seed), "learned": learned(record), "measures": measures(stage, seed)}
        lines = results(1.4 * record["results"]["perplexity"]) | {"lim_perplexity": None}
        record["measures"]["lines"] = {"results": lines, "views": views(1.4 * LEVELS[stage], seed, texts=200)}
    return found


def base_records(seeds: int = 2) -> tuple[Records, Study]:
    """Records of three bases with three stages each, and the study of them."""
    (base, *_), by_run, rows = plan(load_settings("micro"))["base"], {}, {}
    for folder, size in BASE_SIZES.items():
        for stage in ("base", "rslora", "landmarks"):
            name = f"{stage}_{folder}"
            rows[name] = Row(label=f"{STAGES[stage].label}, {folder}", adapter=STAGES[stage].adapter)
            for seed in [None] if stage == "base" else range(seeds):
                run = replace(base, stage=name, seed=seed)
                trained = 0 if stage == "base" else size // 100
                record = fake_record(run, LEVELS[stage] * (size / 124e6) ** -0.2 * (1 + 0.01 * (seed or 0)))
                by_run[name, seed] = record | {"parameters": {"trainable": trained, "total": size + trained}}
    return Records(by_run, {}), Study(title="", question="", rows=rows)


def as_records(planned: dict[str, list[Run]], perplexity: Callable[[Run], float], **more: Any) -> Records:
    runs = [run for runs in planned.values() for run in runs]
    return Records({(run.stage, run.seed): fake_record(run, perplexity(run)) | more for run in runs}, {})


def fake_record(run: Run, perplexity: float) -> dict[str, Any]:
    adapter = run.specification["adapter"]
    trained = 100_000 * adapter["lora_rank"] * len(adapter["lora_target_modules"]) if adapter else 0
    return {
        "name": run.name,
        "specification": run.specification,
        "results": results(perplexity),
        "parameters": {"trainable": trained, "total": 134_515_008 + trained},
        "learned": {},
    }


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


def views(perplexity: float, seed: int | None, texts: int = 13) -> dict[str, Any]:
    """Views of texts whose worst are somewhat worse; of the gain over a base of 20, most is on layout."""
    gain = np.log(perplexity / 20.0) * (1 + 0.02 * (seed or 0))
    shares, factors = {"layout": 0.2, "word": 0.8, "piece": 0.0}, {"layout": 3.0, "word": 0.5, "piece": np.nan}
    kinds = {
        kind: {"mean_nll": 2.9 + factors[kind] * gain, "tokens": int(6239 * share), "token_share": share}
        for kind, share in shares.items()
    }
    mean = 1.10 * perplexity
    worst = [{"text": i, "perplexity": (3 - 0.4 * i) * mean, "share": (3 - 0.4 * i) / texts} for i in range(5)]
    return {"kinds": kinds, "worst": worst, "deciles": None}


def learned(record: dict[str, Any]) -> dict[str, Any]:
    """Gates and boundaries as a run learns them, where its adapter has them."""
    adapter = record["specification"]["adapter"]
    if adapter is None or not adapter["landmark_enabled"]:
        return {}
    sizes = (1, adapter["num_landmarks"], adapter["num_position_buckets"], adapter["max_positions"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record["specification"]["training"]["seed"])
        part = (LearnableBucketLandmark if adapter["landmark_design"] == "learnable_bucket" else LandmarkLoRA)(*sizes)
        found = {"landmark.position_gates": part.position_gates.tolist()}
        if isinstance(part, LearnableBucketLandmark):
            found["landmark.boundaries"] = (part.boundaries + 0.005 * torch.randn(part.boundaries.shape)).tolist()
    return found


def measures(stage: str, seed: int | None) -> dict[str, Any]:
    """What the study `places` measures, with a drop in the middle for retrieval by the base alone."""
    level, chance = np.log(LEVELS[stage]) + 0.002 * (seed or 0), np.random.default_rng([len(stage), seed or 0])
    end = 10.0 ** (-4.0 - 0.1 * (seed or 0) - 0.3 * (stage != "base"))
    shifts = {"parts": 4, "nll": [level + 0.5, level + 0.2, level + 0.1, level], "tokens": 2000}
    return {
        "end_token": {
            "mean": end,
            "quantiles": [end * 1e-4, end / 3, 20 * end],
            "perplexity_factor": 1 + end,
            "texts": 13,
        },
        "shifts": shifts,
        "retrieval": {
            "key_value": retrieved([(4, 4, 0.9), (8, 8, 0.7)], chance, 1 / 4),
            "passkey": retrieved([(256, 5, 0.25)], chance, 1 / 4),
        },
    }


def retrieved(tasks: list[tuple[int, int, float]], chance: np.random.Generator, share: float) -> dict[str, Any]:
    places = []
    for size, count, rate in tasks:
        for index in range(count):
            hits = int(chance.binomial(20, rate)) if rate > share else 5
            low, high = wilson(hits, 20)
            ends = dict(hits=hits, trials=20, low=low, high=high, chance=share)
            places.append(dict(size=size, index=index, depth=index / (count - 1)) | ends)
    shown = [type("Place", (), place) for place in places]
    return {"places": places, "share": rate, "chance": share, "verdict": verdict(shown), "tokens_read": 1}
