"""A record of every run of a scale, made up, with all that tables, figures and sentences of the paper read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fake_records import KINDS, fake_record
from fake_studies import learned, measures, results, views

from hylorada.files import write_json
from hylorada.nll import TokenNLL
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.record import Measures, Moved, ScoredLines
from hylorada.study.plan.runs import Run, all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.settings import Settings

ARTICLES, LINES, TOKENS = 5, 2, 110
SAME = {"published_position_bias": "published_magnitude"}  # at equal seed to the last bit


def fake_paper(folder: Path, scale: str = "micro", **changes: Any) -> Settings:
    """Write a record for every run of a scale; changes: settings to replace."""
    settings = replace(load_settings(scale), **changes)
    for run in all_runs(settings).values():
        write_run(run, folder)
    return settings


def write_run(run: Run, folder: Path) -> None:
    """Write the record of one run and its scored tokens."""
    at = run.folder(folder)
    at.mkdir(parents=True)
    store = fake_store(run)
    store.save(at / "nll.npz")
    store.save(at / "lines.npz")
    record = fake_record(replace(run, stage="base" if run.seed is None else "rslora"), store)
    level, seed = store.corpus_perplexity(), run.seed
    adapter = run.specification.adapter
    parameters = dict.fromkeys(KINDS, 0)
    if adapter is not None:
        parameters |= {"lora": 100_000 * adapter.lora_rank, "magnitude": 40_000 * adapter.use_dora_magnitude}
        parameters |= {"landmark": 9_473 * adapter.landmark_enabled}
    parameters["trainable"] = sum(parameters.values())
    parameters["total"] = 134_515_008 + parameters["trainable"]
    stage = run.stage if run.stage in STAGES else ("base" if seed is None else "rslora")
    lines = ScoredLines(results=lines_results(1.4 * level), views=views(1.4 * level, seed, texts=10))
    measured = vars(replace(measures(stage, seed), lines=lines))
    own = lines_results(level) | {
        "perplexity": level,
        "mean_nll": store.mean_nll(),
        "arithmetic_perplexity": store.arithmetic_perplexity(),
        "lim_perplexity": 1.02 * level,
        "middle_contrast": 0.01,
    }
    record = replace(
        record,
        name=run.name,
        results=record.results | own,
        parameters=parameters,
        views=views(level, seed),
        moved={"landmark": Moved(entries=100, changed=0, largest=0.0)} if "learned_buckets" in run.stage else {},
        learned=learned(record),
        measures=Measures(**{name: measured[name] for name in run.specification.measures if name in measured}),
    )
    write_json(at / "record.json", record.to_json())


def lines_results(perplexity: float) -> dict[str, Any]:
    """The numbers of scored lines."""
    return results(perplexity) | {"published_perplexity": 1.2 * perplexity, "middle_contrast": 0.0}


def fake_store(run: Run) -> TokenNLL:
    """Texts of a few articles, harder at their beginnings; each row has a level of its own and chance of its seed."""
    row = SAME.get(run.stage, run.stage)
    text = np.random.default_rng(0)
    lines = np.repeat(np.arange(ARTICLES * LINES), TOKENS)
    position = np.tile(np.arange(1, TOKENS + 1), ARTICLES * LINES)
    nll = (
        2.4 + 1.2 / np.sqrt(position) + 0.1 * text.normal(size=ARTICLES * LINES)[lines] + 0.5 * text.random(len(lines))
    )
    if run.seed is not None:
        own, level = np.random.default_rng([run.seed, *row.encode()]), np.random.default_rng([*row.encode()])
        by_article = np.random.default_rng([7, *row.encode()]).normal(size=ARTICLES) * 0.002
        nll = nll - 0.17 + 0.02 * level.normal() + 0.002 * own.normal() + by_article[lines // LINES]
    sizes = np.full(ARTICLES * LINES, 4 * TOKENS)
    columns = dict(text=lines, article=lines // LINES, position=position, context=position, token_id=position)
    return TokenNLL(**columns, nll=nll, text_bytes=sizes, text_words=sizes // 5)
