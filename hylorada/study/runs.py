"""One run: from a specification to a record, written once and whole; stopped, it goes on where it stood.

A record's folder holds `record.json` (specification, results, times, machine), `nll.npz` (every scored token) and,
for a trained stage, `adapter/`. Its own work lies beside it, hidden, under a lock that ends with the process.
"""

import fcntl
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.evaluation import token_nll
from hylorada.files import discard, read_json, sha256_of, work_of, write_json, written_beside
from hylorada.lora import GatedMagnitude, HyLoRADAUnified
from hylorada.model import HyLoRADAModel
from hylorada.nll import TokenNLL
from hylorada.study.provenance import describe_machine, git_state
from hylorada.study.tokens import Tokens, read_tokens
from hylorada.trainer import HyLoRADATrainer, TrainingConfig, TrainingResult

LOG = logging.getLogger(__name__)
READABLE = (  # ends of the names of trained tensors that mean something alone
    *(".combine.gate", ".combine.residual_weight", ".scale", ".boundaries", ".position_gates", ".alpha", ".beta"),
    *("position_bias.bias", "position_bias.weight"),
)
OnStep = Callable[[dict[str, float], int], None]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # over the rows of a layer


def execute(
    run: Any, folder: Path, model: Path, tokens: Path, progress: bool = True, watch: OnStep | None = None
) -> dict[str, Any]:
    """Train and evaluate `run` (a `plan.Run`) and write its record to `folder`; return the record.

    model: a fetched model. tokens: its token file. watch: called after each step of training, as by `HyLoRADATrainer`.
    A stopped run goes on from its last checkpoint.

    Raises:
        HyLoRADAError: another process is at work on this run, or an input is missing.
    """
    with work_folder(folder) as work:
        if (folder / "record.json").is_file():  # another process made it while this one waited for its turn
            return read_json(folder / "record.json")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        git = git_state(Path(__file__).parents[2])  # of the code that is loaded, whatever changes while it runs
        machine = describe_machine() | {"threads": torch.get_num_threads(), "device": device_name()}
        text = read_tokens(tokens)
        weights = check_sources(run.specification, model, text)
        base = load_base(model, run.specification["dtype"])
        probe = evaluate(base, first_window(run.specification), text, progress=False).mean_nll()
        trained, subject = None, base
        if run.specification["adapter"] is not None:
            subject, trained = train(base, run.specification, text, work, progress, watch)
        start = time.perf_counter()
        nll = evaluate(
            subject, run.specification, text, tokenizer=AutoTokenizer.from_pretrained(model), progress=progress
        )
        seconds = time.perf_counter() - start
        record = {
            "name": run.name,
            "identity": run.identity,
            "specification": run.specification,
            "results": metrics(nll) | {"base_probe_nll": probe},
            "parameters": subject.count_params() if trained else {"trainable": 0, "total": base.num_parameters()},
            "training": {"history": trained.history, "seconds": trained.seconds} if trained else None,
            "evaluation_seconds": seconds,
            "learned": readable_tensors(subject) if trained else {},
            "magnitudes": magnitude_quantiles(subject) if trained else {},
            "data": {"tokens_digest": text.digest, "model_sha256": weights},
            "machine": machine,
            "git": git,
            "started": started,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "peak_memory_gib": peak_memory_gib(),
        }
        with written_beside(folder) as beside:
            beside.mkdir()
            nll.save(beside / "nll.npz")
            if trained:
                subject.save_pretrained(beside / "adapter")
            write_json(beside / "record.json", record)
        LOG.info("%s: perplexity %.3f", run.name, record["results"]["perplexity"])
    return record


def check_sources(specification: dict[str, Any], model: Path, text: Tokens) -> str:
    """Hold the model folder and the tokens to what a specification names; return the SHA-256 of the weights.

    Raises:
        HyLoRADAError: the model is not fetched, was changed since, or model or tokens are of another source.
    """
    if not (Path(model) / "source.json").is_file():
        raise HyLoRADAError(f"{model} holds no fetched model; run `hylorada fetch` first.")
    source, weights = read_json(model / "source.json"), sha256_of(model / "model.safetensors")
    if source["identity"] != specification["base"]:
        raise HyLoRADAError(f"{model} is not the base model asked for, or of an older pin; run `hylorada fetch`.")
    if source["files"]["model.safetensors"] != weights:
        raise HyLoRADAError(f"{model} was changed after it was fetched; remove the folder and run `hylorada fetch`.")
    if text.sources != {"base": specification["base"], "corpus": specification["corpus"]}:
        raise HyLoRADAError("the tokens are of another model or text; run `hylorada fetch` and `hylorada tokens`.")
    return weights


def load_base(model: Path, dtype: str) -> PreTrainedModel:
    """Load a fetched model on the device that accelerate chooses."""
    transformers_logging.disable_progress_bar()  # a bar for a second of loading would only fill the logs
    base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype), use_safetensors=True)
    return base.to(Accelerator().device).eval()


def train(
    base: PreTrainedModel,
    specification: dict[str, Any],
    text: Tokens,
    work: Path | None,
    progress: bool = True,
    watch: OnStep | None = None,
) -> tuple[HyLoRADAModel, TrainingResult]:
    """Adapt `base` as a specification says; the state for resuming goes to `work`."""
    config = TrainingConfig(**specification["training"])
    blocks = text.train_blocks(specification["block_tokens"], specification["train_tokens"])
    torch.manual_seed(config.seed)  # one seed, one A, whatever the stage
    model = HyLoRADAModel(base, HyLoRADAConfig.from_dict(specification["adapter"]))
    told = partial(_tell, specification, watch)
    trainer = HyLoRADATrainer(model, config, [{"input_ids": block} for block in blocks], work, progress, told)
    return model, trainer.train()


def _tell(specification: dict[str, Any], watch: OnStep | None, row: dict[str, float], total_steps: int) -> None:
    if watch is not None:
        watch(row, total_steps)
    if sys.stderr.isatty():  # there a bar shows the steps; in a log, lines do
        return
    if row["step"] % max(1, total_steps // 4) == 0 or row["step"] == total_steps:
        name = f"{specification['stage']}, seed {specification['training']['seed']}"
        LOG.info("%s: step %d of %d, loss %.3f", name, row["step"], total_steps, row["loss"])


def evaluate(
    model: PreTrainedModel | HyLoRADAModel,
    specification: dict[str, Any],
    text: Tokens,
    tokenizer: Any = None,
    progress: bool = True,
) -> TokenNLL:
    """Score the held-out articles that a specification asks for, one text an article."""
    asked = specification["evaluation"]
    texts = text.held_out(asked["split"], asked["articles"], asked["tokens_per_article"])
    return token_nll(
        model,
        texts,
        max_length=asked["max_length"],
        stride=asked["stride"],
        batch_size=asked["batch_size"],
        tokenizer=tokenizer,
        progress=progress,
    )


def first_window(specification: dict[str, Any]) -> dict[str, Any]:
    """Return the specification cut to one window: what every run scores with the untouched base, to be compared."""
    window = specification["evaluation"]["max_length"]
    return specification | {"evaluation": specification["evaluation"] | {"articles": 1, "tokens_per_article": window}}


def metrics(nll: TokenNLL) -> dict[str, float]:
    """Return every metric of the per-token store that the tables use."""
    return {
        "perplexity": nll.corpus_perplexity(),
        "geometric_perplexity": nll.geometric_perplexity(),
        "arithmetic_perplexity": nll.arithmetic_perplexity(),
        "bits_per_byte": nll.bits_per_byte(),
        "word_perplexity": nll.word_perplexity(),
        "mean_nll": nll.mean_nll(),
        "scored_tokens": len(nll.nll),
        "articles": nll.n_texts,
    }


def readable_tensors(model: HyLoRADAModel) -> dict[str, Any]:
    """Return the small trained tensors that mean something alone: gates, blends, position tables, boundaries."""
    named = model.adapter_tensors().items()
    return {name: tensor.tolist() for name, tensor in named if name.endswith(READABLE)}


@torch.no_grad()
def magnitude_quantiles(model: HyLoRADAModel) -> dict[str, dict[str, list[float]]]:
    """Return, for each layer with a magnitude, `QUANTILES` over its rows of m/||W||, which began at 1, and of c."""
    told = {}
    for name, layer in model.base_model.named_modules():
        if isinstance(layer, HyLoRADAUnified) and isinstance(layer.combine, GatedMagnitude):
            norm = layer.combine.base_norm_squared.sqrt()
            drift = (layer.combine.magnitude / norm)[norm > 0]
            factor = layer.combine.row_factor(layer.base_layer, layer.lora)
            at = torch.tensor(QUANTILES, device=drift.device)
            told[name] = {"magnitude": drift.quantile(at).tolist(), "factor": factor.quantile(at).tolist()}
    return told


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Yield the hidden folder beside `folder` in which its run works; it goes when the run is done.

    Raises:
        HyLoRADAError: another process holds it.
    """
    work = work_of(folder)
    with _locked(work, folder.name):
        yield work
        discard(work)


def _locked(work: Path, name: str) -> IO[str]:
    """Return the held lock file in a folder; an owner removes both, so what was locked must be what is there."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            lock = (work / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino == (work / "lock").stat().st_ino:
                return lock
        except FileNotFoundError:
            continue
        except BlockingIOError:
            lock.close()
            raise HyLoRADAError(f"another process is at work on {name}; wait for it, or stop it.") from None
        lock.close()


def device_name() -> str:
    """Return the accelerator's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak_memory_gib() -> dict[str, float]:
    """Return the largest memory of this process so far, and of the accelerator if there is one, in GiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform != "darwin" else 1024)
    peak = {"process": kib / 2**20}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated() / 2**30
    return peak
