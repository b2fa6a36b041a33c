"""Sentences of the paper about what stands behind its answers: scale, plan, reach of training, sources."""

from typing import Any

import numpy as np

from hylorada.study.paper.sentences.names import stage_name
from hylorada.study.plan.budget import planned_steps, published_steps
from hylorada.study.plan.protocols import AS_PUBLISHED
from hylorada.study.plan.registered import PLAN, departures, plan_digest, read_plan
from hylorada.study.plan.settings import Settings
from hylorada.study.records.records import Records
from hylorada.study.results.results import Results
from hylorada.study.results.statistics import percent
from hylorada.study.results.words import joined, percentage, plural, thousands
from hylorada.study.sources.registry import GgufModel, StdlibCorpus, WikiCorpus

STAGE_OF = {"magnitude": "magnitude", "position_bias": "position_bias", "landmark": "landmarks"}  # of a trained part


def quick_look_sentence(settings: Settings, ablation: Records) -> str:
    """Say that a scale is a quick look, where it stops before the published last step, and where the answer stands."""
    steps, published = planned_steps(ablation.asked), published_steps(AS_PUBLISHED)
    if steps is None or steps >= published:
        return ""
    return (
        f"This is the quick look of the scale `{settings.scale}`: {steps} {plural('step', steps)} of training, where "
        f"{published} were published. It shows that everything runs, and what it leaves open is no answer. The full "
        f"answer is that of the scale `{read_plan().scale}`, planned in `{PLAN.as_posix()}`, which "
        f"`make paper SCALE={read_plan().scale}` makes."
    )


def sources_caveat(model: Any, corpus: Any) -> str:
    """Say what base and text bring with them that held-out articles cannot keep out; both are rows of the registry."""
    seen = "Whether the base has read the held-out text before, in its pre-training, is not known"
    if isinstance(corpus, WikiCorpus):
        seen = "Pre-training has most likely read Wikipedia, so that articles are held out of the tuning alone"
    if isinstance(corpus, StdlibCorpus):
        seen = "Pre-training has most likely read Python's library, so that modules are held out of the tuning alone"
    if not isinstance(model, GgufModel):
        return f"{seen}."
    return (
        f"{seen}. The base was quantised by those who packed it and is dequantised here, so that a part of what tuning "
        "gains may be the repair of that."
    )


def reach_sentence(ablation: Records) -> str:
    """Say how far training could have taken each part at most, to first order; nothing where it was not measured."""
    told = []
    for part, stage in STAGE_OF.items():
        taken = [ablation.record(stage, seed).training.ceiling for seed in ablation.seeds(stage)]
        if taken and all(one and part in one for one in taken):
            most = percentage(abs(percent(-float(np.mean([one[part] for one in taken])))))
            told.append(f"{most} by {stage_name(stage)}")
    if not told:
        return ""
    return (
        "AdamW moves a number by about its learning rate a step, so that, to first order, training could have taken "
        f"perplexity down by {joined(told)} at most, had every number gone its whole way in its best direction."
    )


def departures_sentence(results: Results) -> str:
    """Say in what a scale and its records depart from its plan; nothing for a scale that has none."""
    digest, settings = plan_digest(results.settings.scale), results.settings
    if digest is None:
        return ""
    told = departures(read_plan(), settings)
    runs = {record.name: record.plan for records in results.studies.values() for record in records.by_run.values()}
    others = sum(plan != digest for plan in runs.values())
    if others:
        told.append(f"{thousands(others)} of {thousands(len(runs))} runs are of another state of the plan")
    if not told:
        return "The study departs from its plan in nothing, and every run has the digest of the plan as it stands."
    return f"From the plan the study departs in this: {'; '.join(told)}."
