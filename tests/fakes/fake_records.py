"""Record folders of runs that never ran: real plans and stores, NLL made up with known effects."""

from pathlib import Path

import numpy as np

from hylorada.files import write_json
from hylorada.nll import TokenNLL
from hylorada.study.plan.record import Commit, Data, Machine, Record, Trained
from hylorada.study.plan.runs import Run, plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.settings import Settings

EFFECTS = {"base": 0.0, "rslora": -0.10, "magnitude": -0.02, "position_bias": 0.0, "landmarks": 0.03}  # nats a step
EFFECTS["learned_buckets"] = 0.0
TRAINED = {"base": 0, "rslora": 3_200_000, "magnitude": 3_360_000, "position_bias": 3_360_065}
TRAINED |= {"landmarks": 3_369_538, "learned_buckets": 3_369_569}
ARTICLES = 13
MACHINE = Machine(
    versions={"python": "3.11.9", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
    processor="Imaginary(R) CPU_9 @ 100%",
    cores=2,
    system="Linux x86_64",
    threads=1,
    device="cpu",
)
AROUND = dict(  # what every made-up run says of itself
    evaluation_seconds=8.0,
    learned={},
    data=Data(tokens_digest="d" * 64, model_sha256="e" * 64),
    machine=MACHINE,
    git=Commit(commit="0" * 40, changed=False),
    started="2024-02-29T00:00:00+00:00",
    finished="2024-02-29T00:01:00+00:00",
    peak_memory_gib={"process": 1.5},
)
KINDS = ("lora", "magnitude", "position_bias", "landmark", "daa", "sparse", "embeddings", "norms")


def fake_study(
    results: Path, seeds: int = 3, seed_sd: float = 0.002, article_sd: float = 0.01, scale: str = "micro"
) -> tuple[Settings, dict[str, list[Run]]]:
    """Write a record for every run of a scale; seed_sd, article_sd: nats by which effects differ between them."""
    settings = load_settings(scale)
    settings = type(settings)(**(vars(settings) | {"seeds": list(range(seeds))}))
    planned = plan(settings, "ablation")
    for stage, runs in planned.items():
        for run in runs:
            folder = run.folder(results)
            folder.mkdir(parents=True)
            store = fake_store(stage, run.seed, settings.block_tokens, seed_sd, article_sd)
            store.save(folder / "nll.npz")
            store.save(folder / "lines.npz")  # here each article is a line
            write_json(folder / "record.json", fake_record(run, store).to_json())
    return settings, planned


def fake_store(stage: str, seed: int | None, window: int, seed_sd: float, article_sd: float) -> TokenNLL:
    """One window an article; harder at its beginning, gains grow with position, and chance by seed and article."""
    text_random = np.random.default_rng(0)
    lengths = text_random.integers(window // 2, window, ARTICLES)
    article = np.repeat(np.arange(ARTICLES), lengths)
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    level = 2.6 + 1.2 / np.sqrt(position) + 0.2 * text_random.normal(size=ARTICLES)[article]
    nll = level + text_random.exponential(1.0, len(article))
    chain = list(EFFECTS)[: list(EFFECTS).index(stage) + 1]
    for step in chain:
        depth = 2 * position / (window + 1)  # mean about 1
        by_article = np.random.default_rng([1, list(EFFECTS).index(step)]).normal(size=ARTICLES) * article_sd
        chance = np.random.default_rng([2, list(EFFECTS).index(step), seed or 0]).normal() * seed_sd
        active = step != "base"
        nll = nll + active * (EFFECTS[step] * depth + by_article[article] + chance)
    return TokenNLL(
        text=article,
        article=article,
        position=position,
        context=position,
        token_id=text_random.integers(0, 49_152, len(article)),
        nll=np.maximum(nll, 0.0),
        text_bytes=lengths * 4,
        text_words=lengths * 3 // 4,
    )


CEILING = dict.fromkeys(("magnitude", "position_bias", "landmark"), 0.05)  # nats: no part is kept from an effect


def fake_record(run: Run, store: TokenNLL) -> Record:
    block, steps = run.specification.block_tokens, 16
    history = [{"step": i + 1, "loss": 3.0, "learning_rate": 5e-4, "targets": block - 1} for i in range(steps)]
    return Record(
        name=run.name,
        identity=run.identity,
        specification=run.specification,
        results={
            "perplexity": store.corpus_perplexity(),
            "arithmetic_perplexity": store.arithmetic_perplexity(),
            "mean_nll": store.mean_nll(),
            "lim_perplexity": None,
            "middle_contrast": None,
            "scored_tokens": len(store.nll),
            "articles": store.n_texts,
            "base_probe_nll": 3.25,
        },
        parameters=dict.fromkeys(KINDS, 0)
        | {"trainable": TRAINED[run.stage], "total": 134_515_008 + TRAINED[run.stage]},
        training=Trained(history=history, seconds=30.0 + (run.seed or 0), ceiling=CEILING)
        if run.specification.training
        else None,
        **AROUND,
    )
