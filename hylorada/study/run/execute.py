"""One run: from a specification to a record, written once and whole; stopped, it goes on where it stood.

A record's folder holds `record.json` (specification, results, times, machine), `nll.npz` (every scored token) and,
for a trained stage, `adapter/`. Its own work lies beside it, hidden, under a lock that ends with the process.
"""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch.utils.data import default_collate
from transformers import PreTrainedModel

from hylorada.allocator import in_use
from hylorada.errors import BusyError, HyLoRADAError
from hylorada.fetched import hold_fetched
from hylorada.files import check_output, discard_remains, make_folder, retire, work_of, written_beside
from hylorada.load import load_tokenizer
from hylorada.model import HyLoRADAModel
from hylorada.pieces import compiled as pieces_compiled
from hylorada.pieces import describe_pieces
from hylorada.study.plan.record import Data, Machine, Moved, Record, Trained, read_record, write_record
from hylorada.study.plan.specification import Specification
from hylorada.study.run.ceiling import ceilings
from hylorada.study.run.follow import follow, padding_share, published_batches
from hylorada.study.run.inputs import IN_PROCESS, Base, Inputs
from hylorada.study.run.inside import magnitude_quantiles, movement, parameters_named, readable_tensors
from hylorada.study.run.machine import add_up_in_one_order, describe_machine, device_name, git_state, peak_memory_gib
from hylorada.study.run.score import evaluate, main_texts
from hylorada.study.sources.tokens import Tokens, read_tokens
from hylorada.trainer import HyLoRADATrainer, TrainingConfig
from hylorada.typed import plain
from hylorada.wide_products import wide_products, widened

LOG = logging.getLogger(__name__)
OnStep = Callable[[dict[str, float], int], None]


def execute(
    run: Any,
    folder: Path,
    model: Path,
    tokens: Path,
    progress: bool = True,
    watch: OnStep | None = None,
    inputs: Inputs = IN_PROCESS,
    plan: str | None = None,
) -> Record:
    """Train and evaluate `run` (a `plan.Run`) and write its record to `folder`; return the record.

    model: a fetched model. tokens: its token file. watch: called after each step of training, as by `HyLoRADATrainer`.
    inputs: what earlier runs have read already. plan: digest of the plan that the run is of, for its record. A stopped
    run goes on from its last checkpoint.

    Raises:
        BusyError: another process is at work on this run.
        HyLoRADAError: an input is missing.
    """
    with work_folder(folder) as work, wide_products():
        if (folder / "record.json").is_file():  # another process made it while this one waited for its turn
            return read_record(folder / "record.json")
        if folder.is_dir() and any(folder.iterdir()):
            raise HyLoRADAError(f"{folder} is no record and not empty, so no record takes its place; move it away.")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            add_up_in_one_order()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        git = git_state(Path(__file__).parents[2])  # of the code that is loaded, whatever changes while it runs
        text = inputs.once(read_tokens, tokens)
        weights = check_sources(run.specification, model, text)
        tokenizer = inputs.once(load_tokenizer, model)
        with (
            inputs.base(model, run.specification.dtype) as base,
            as_compiled(base.model, run.specification),
            scoring_base(base, inputs, model, run.specification) as scoring,
        ):
            used = {"threads": torch.get_num_threads(), "device": device_name(), "allocator": in_use()}
            compiled = (describe_pieces(base.model) or "nothing") if run.specification.compile else None
            wide = widened(base.model.dtype, base.model.device)
            machine = Machine(**describe_machine(), **used, compiled=compiled, half_products=wide)
            probe = scoring.probe(run.specification, text)
            trained, subject = None, base.model
            if run.specification.adapter is not None:
                subject, trained = train(base.model, run.specification, text, work, progress, watch)
            start = time.perf_counter()
            with in_scoring_dtype(subject, scoring.model, run.specification) as to_score:
                scored = evaluate(to_score, run.specification, text, tokenizer, progress)
            seconds = time.perf_counter() - start
            record = Record(
                name=run.name,
                identity=run.identity,
                specification=run.specification,
                results=scored.results | {"base_probe_nll": probe},
                views=scored.views,
                measures=scored.measures,
                parameters=trained.parameters if trained else {"trainable": 0, "total": base.model.num_parameters()},
                training=trained.training if trained else None,
                evaluation_seconds=seconds,
                moved=trained.moved if trained else {},
                learned=readable_tensors(subject) if trained else {},
                magnitudes=magnitude_quantiles(subject) if trained else {},
                data=Data(tokens_digest=text.digest, model_sha256=weights),
                machine=machine,
                plan=plan,
                git=git,
                started=started,
                stores={name: store.digest for name, store in scored.stores.items()},
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                peak_memory_gib=peak_memory_gib(),
            )
            with written_beside(folder) as beside:
                beside.mkdir()
                for name, store in scored.stores.items():
                    store.save(beside / f"{name}.npz")
                if trained:
                    subject.save_pretrained(beside / "adapter")
                write_record(beside / "record.json", record)
            if trained:
                subject.unload().eval()  # for the next run
        LOG.info("%s: perplexity %.3f", run.name, record.results["perplexity"])
    return record


def check_sources(specification: Specification, model: Path, text: Tokens) -> str:
    """Hold the model folder and the tokens to what a specification names; return the SHA-256 of the weights.

    Raises:
        HyLoRADAError: the model is not fetched, was changed since, or model or tokens are of another source.
    """
    source = hold_fetched(model)
    if source["identity"] != specification.base:
        raise HyLoRADAError(f"{model} is not the base model asked for, or of an older pin; run `hylorada fetch`.")
    if "model.safetensors" not in source["files"]:
        raise HyLoRADAError(f"{model} holds no weights; remove the folder and run `hylorada fetch`.")
    if text.sources != {"base": specification.base, "corpus": specification.corpus}:
        raise HyLoRADAError("the tokens are of another model or text; run `hylorada fetch` and `hylorada tokens`.")
    return source["files"]["model.safetensors"]


def as_compiled(base: PreTrainedModel, specification: Specification) -> AbstractContextManager:
    """Return a context in which of a base is compiled what a specification says, with an adapter in it or not."""
    return pieces_compiled(base) if specification.compile == "pieces" else nullcontext()


@contextmanager
def scoring_base(base: Base, inputs: Inputs, folder: Path, specification: Specification) -> Iterator[Base]:
    """Give the base that texts are scored with: the trained one, or the same weights in another dtype."""
    if specification.scored_in == specification.dtype:
        yield base
        return
    with inputs.base(folder, specification.scored_in) as other, as_compiled(other.model, specification):
        yield other


@contextmanager
def in_scoring_dtype(
    subject: PreTrainedModel, base: PreTrainedModel, specification: Specification
) -> Iterator[PreTrainedModel]:
    """Give what to score: `subject` itself, or its adapter on `base`, the same weights in the dtype of scoring."""
    if specification.scored_in == specification.dtype:
        yield subject
    elif not isinstance(subject, HyLoRADAModel):
        yield base
    else:
        model = HyLoRADAModel(base, specification.adapter)
        follow(specification.protocol, model)
        trained = {name: tensor.detach().to(torch.float32) for name, tensor in subject.adapter_tensors().items()}
        model.load_adapter_tensors(trained, "the trained adapter")
        yield model.eval()
        model.unload()


@dataclass(frozen=True)
class Adapted:
    """What a training gave: what it trained, how it went, and what moved how far.

    parameters: as `HyLoRADAModel.count_params`. moved: see `hylorada.study.run.inside.movement`.
    """

    parameters: dict[str, int]
    training: Trained
    moved: dict[str, Moved]


def train(
    base: PreTrainedModel,
    specification: Specification,
    text: Tokens,
    work: Path | None,
    progress: bool = True,
    watch: OnStep | None = None,
) -> tuple[HyLoRADAModel, Adapted]:
    """Adapt `base` as a specification says; the state for resuming goes to `work`."""
    config = TrainingConfig(**plain(specification.training))
    protocol = specification.protocol
    torch.manual_seed(config.seed)  # one seed, one A, whatever the stage
    model = HyLoRADAModel(base, specification.adapter)
    names = list(model.adapter_tensors())
    follow(protocol, model)
    before = parameters_named(model, names)
    parameters = model.count_params()
    dataset, collate, padding = training_rows(specification, text)
    told = partial(_tell, specification, watch)
    trainer = HyLoRADATrainer(model, config, dataset, work, progress, told, collate)
    ceiling = None
    if tokens := specification.measures.get("ceiling"):
        ceiling = ceilings(
            model, config, trainer.total_steps, [ids[:tokens] for ids in main_texts(specification, text)]
        )
    result = trainer.train()
    moved = movement(model, before)
    training = Trained(history=result.history, seconds=result.seconds, padding_share=padding, ceiling=ceiling)
    return model, Adapted(parameters, training, moved)


def training_rows(specification: Specification, text: Tokens) -> tuple[list[dict[str, Any]], Callable | None, float]:
    """Return what a specification trains on, how it becomes batches, and the share of padding among the targets."""
    protocol = specification.protocol
    if protocol.training_text is None:
        blocks = text.train_blocks(specification.block_tokens, specification.train_tokens)
        return [{"input_ids": block} for block in blocks], None, 0.0
    lines, _ = text.protocol_lines(protocol.training_text)
    rows = published_batches(protocol, lines, text.end)
    return rows, default_collate, padding_share(rows)


def _tell(specification: Specification, watch: OnStep | None, row: dict[str, float], total_steps: int) -> None:
    if watch is not None:
        watch(row, total_steps)
    if sys.stderr.isatty():  # there a bar shows the steps; in a log, lines do
        return
    if row["step"] % max(1, total_steps // 4) == 0 or row["step"] == total_steps:
        name = f"{specification.stage}, seed {specification.training.seed}"
        LOG.info("%s: step %d of %d, loss %.3f", name, row["step"], total_steps, row["loss"])


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Yield the hidden folder beside `folder` in which its run works; it goes when the run is done.

    Raises:
        BusyError: another process holds it.
    """
    check_output(folder, folder=True)
    work = work_of(folder)
    discard_remains(work)
    with _locked(work, folder.name):
        yield work
        retire(work)


def _locked(work: Path, name: str) -> IO[str]:
    """Return the held lock file in a folder; an owner removes both, so what was locked must be what is there."""
    while True:
        make_folder(work)
        try:
            lock = (work / "lock").open("w", encoding="utf-8")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino == (work / "lock").stat().st_ino:
                return lock
        except FileNotFoundError:
            continue
        except BlockingIOError:
            lock.close()
            raise BusyError(f"another process is at work on {name}; wait for it, or stop it.") from None
        lock.close()
