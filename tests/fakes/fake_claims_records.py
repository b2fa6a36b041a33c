"""Records of the studies that judge claims, made up: real plans, and NLL with known effects by row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from fake_records import fake_record

from hylorada.files import write_json
from hylorada.nll import TokenNLL
from hylorada.study.plan.record import Moved
from hylorada.study.plan.runs import Run, all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.settings import Settings

ARTICLES, LINES, TOKENS = 10, 3, 110
STUDIES = ("as_published", "landmark_study", "direct", "designs", "buckets", "ranks", "context", "modules", "methods")
ROWS = {"methods": {"rows": ["base", "rslora", "dora"]}}  # of studies of which statements speak of few
LEVELS = {  # nats against the untouched base; a row that is not here lies where rsLoRA does
    "base": 0.0,
    "magnitude": -0.13,
    "dora": -0.133,  # the plain magnitude, as it was published
    "position_bias": -0.13,
    "landmarks": -0.18,
    "learned_buckets": -0.13,
    "rslora_landmarks": -0.20,
    "recommended": -0.21,
    "rslora_r2": -0.05,
    "lora": -0.08,
    "lora_r32": -0.08,
}
RSLORA = -0.187  # exp(-0.187) - 1 is -17.1 %
SAME = {"published_position_bias": "published_magnitude"}  # at equal seed to the last bit


def fake_scale(scale: str = "gpt2", seeds: int = 5, studies: tuple[str, ...] = STUDIES) -> Settings:
    """Return a scale with few studies, all at the scale's own budget."""
    settings = load_settings(scale)
    names = [name.replace("modules", "modules_gpt2") if scale == "gpt2" else name for name in studies]
    whole = {"measures": {"lines": None}, "train_lines": None}
    return replace(settings, seeds=list(range(seeds)), studies={name: ROWS.get(name, {}) for name in names}, **whole)


def fake_claims(
    settings: Settings, folder: Path, levels: dict[str, float] | None = None, sd: float = 0.002, moved: int = 0
) -> None:
    """Write a record for every run. levels: nats by row on top of LEVELS; sd: nats between seeds; moved: see below.

    moved: numbers of the landmark module that left their start in `published_learned_buckets`.
    """
    for run in all_runs(settings).values():
        write_run(run, folder, LEVELS | (levels or {}), sd, moved)


def write_run(run: Run, folder: Path, levels: dict[str, float], sd: float, moved: int) -> None:
    at = run.folder(folder)
    at.mkdir(parents=True)
    store = fake_lines(run, levels, sd)
    store.save(at / "nll.npz")
    store.save(at / "lines.npz")
    record = fake_record(replace(run, stage="base" if run.seed is None else "rslora"), store)
    landmark = Moved(entries=12_576, changed=moved, largest=0.1 * bool(moved))
    record = replace(record, name=run.name, moved={"landmark": landmark} if "learned_buckets" in run.stage else {})
    write_json(at / "record.json", record.to_json())


def fake_lines(run: Run, levels: dict[str, float], sd: float) -> TokenNLL:
    """Lines of ten articles; the level of a row is the same on all, and chance is of the seed and of the article."""
    row = SAME.get(run.stage, run.stage)
    short = row.removeprefix("published_").removeprefix("lm_")
    level = levels.get(run.stage, levels.get(row, levels.get(short, RSLORA)))
    text = np.random.default_rng(0)
    lines = np.repeat(np.arange(ARTICLES * LINES), TOKENS)
    position = np.tile(np.arange(1, TOKENS + 1), ARTICLES * LINES)
    nll = 4.0 + 0.3 * text.normal(size=ARTICLES * LINES)[lines] + 0.5 * text.random(len(lines))
    if run.seed is not None:
        own = np.random.default_rng([run.seed, *row.encode()])
        by_article = np.random.default_rng([7, *row.encode()]).normal(size=ARTICLES) * sd
        nll = nll + level + sd * own.normal() + by_article[lines // LINES]
    sizes = np.full(ARTICLES * LINES, 4 * TOKENS)
    columns = dict(text=lines, article=lines // LINES, position=position, context=position, token_id=position)
    return TokenNLL(**columns, nll=nll, text_bytes=sizes, text_words=sizes // 5)
