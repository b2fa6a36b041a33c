"""Verbs that get models and text, and make runs. What a verb needs is imported when it is called."""

import argparse
import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hylorada import allocator
from hylorada.errors import HyLoRADAError, near
from hylorada.verbs.common import log_to_stderr, settings_of

if TYPE_CHECKING:
    from hylorada.study.plan.runs import Run
    from hylorada.study.plan.settings import Settings
    from hylorada.study.plan.specification import Specification
    from hylorada.study.run.progress import Progress

LOG = logging.getLogger(__name__)


def do_fetch(options: argparse.Namespace) -> None:
    """Fetch what the scale needs, or what was named."""
    from hylorada.study.plan.runs import all_runs
    from hylorada.study.sources.fetch import check_asked, fetch_corpus, fetch_model
    from hylorada.study.sources.registry import CORPORA, MODELS

    if options.list:
        known = [(kind, *row) for kind, table in (("model", MODELS), ("corpus", CORPORA)) for row in table.items()]
        names, licences = (max(map(len, column)) for column in zip(*((n, r.licence) for _, n, r in known), strict=True))
        for kind, name, row in known:
            asked = f" (only by `fetch --model {name}`)" if getattr(row, "only_by_name", False) else ""
            print(f"{kind:7} {name:{names}} {row.licence:{licences}} {row.description}{asked}")
        return
    models, corpora = [options.model] * bool(options.model), [options.corpus] * bool(options.corpus)
    if not models and not corpora:
        runs = all_runs(settings_of(options)).values()
        models, corpora = ({getattr(run, kind): None for run in runs} for kind in ("base", "corpus"))
        check_asked(models, options.data)
    for model in models:
        print(fetch_model(model, options.data, not options.quiet))
    for corpus in corpora:
        print(fetch_corpus(corpus, options.data, not options.quiet))


def do_tokens(options: argparse.Namespace) -> None:
    """Encode each corpus of the scale's runs with each base that reads it, or what was named."""
    from hylorada.study.plan.runs import all_runs
    from hylorada.study.sources.encode import make_tokens

    settings = settings_of(options)
    pairs = {(options.model or settings.base, options.corpus or settings.corpus): None}
    if not (options.model or options.corpus):
        pairs = {(run.base, run.corpus): None for run in all_runs(settings).values()}
    for model, corpus in pairs:
        print(make_tokens(model, corpus, options.data))


def do_train(options: argparse.Namespace) -> None:
    """Train one stage outside the records."""
    from hylorada.checkpoint import check_only_adapter
    from hylorada.study.run import execute
    from hylorada.study.run.inputs import load_base
    from hylorada.study.run.memory import told_when_full, what_to_lower
    from hylorada.study.sources.tokens import read_tokens

    check_only_adapter(options.out)  # told before hours of training, not after
    run = _planned(options, options.stage, options.seed)
    model, tokens = _inputs(options)
    text = read_tokens(tokens)
    execute.check_sources(run.specification, model, text)
    base = load_base(model, run.specification.dtype)
    with (
        told_when_full(what_to_lower(run.specification)),
        execute.work_folder(options.out) as work,
        _watched(options, options.out.name, run.specification) as watch,
        execute.as_compiled(base, run.specification),
    ):
        model, adapted = execute.train(base, run.specification, text, work, not options.quiet, watch)
        model.save_pretrained(options.out)
    loss = adapted.training.history[-1]["loss"]
    print(f"{options.out}: {adapted.training.steps} steps, last loss {loss:.4f} nats a token")


def do_evaluate(options: argparse.Namespace) -> None:
    """Score an adapter or the base on the scale's test articles."""
    import json

    from hylorada.checkpoint import read_adapter
    from hylorada.load import load_tokenizer
    from hylorada.metrics import all_metrics
    from hylorada.model import HyLoRADAModel
    from hylorada.study.run import execute
    from hylorada.study.run.inputs import load_base
    from hylorada.study.run.memory import told_when_full, what_to_lower
    from hylorada.study.run.score import score
    from hylorada.study.sources.tokens import read_tokens

    run = _planned(options, "base", None)
    if options.adapter is not None:
        read_adapter(options.adapter)  # what is wrong with it is told before a base is loaded
    model, tokens = _inputs(options)
    text = read_tokens(tokens)
    execute.check_sources(run.specification, model, text)
    subject = base = load_base(model, run.specification.dtype)
    if options.adapter is not None:
        subject = HyLoRADAModel.from_pretrained(base, options.adapter)
    tokenizer = load_tokenizer(model)
    with told_when_full(what_to_lower(run.specification)), execute.as_compiled(base, run.specification):
        nll = score(subject, run.specification, text, tokenizer, not options.quiet)
    if options.out is not None:
        nll.save(options.out)
    print(json.dumps(all_metrics(nll), indent=2))


def do_run(options: argparse.Namespace) -> None:
    """Make every record of the scale, or of one stage, that is not there yet."""
    from hylorada.files import write_json
    from hylorada.study.plan.record import read_record
    from hylorada.study.plan.runs import unfinished
    from hylorada.study.run.forecast import forecast
    from hylorada.study.run.jobs import run_at_once
    from hylorada.study.run.progress import told
    from hylorada.study.run.share import share_out, stand_alone

    rank = stand_alone()
    if options.jobs < 1:
        raise HyLoRADAError(f"--jobs {options.jobs} is too small; use 1 or more.")
    if options.jobs > 1 and rank is not None:
        raise HyLoRADAError(f"--jobs {options.jobs} in one of several processes; start as many processes instead.")
    settings = settings_of(options)
    wanted = _wanted(settings, options)
    done = {run.name for run in wanted if (run.folder(options.records) / "record.json").is_file()}
    if options.dry_run:
        print("\n".join(forecast(wanted, done, options.records, _references(), options.data)))
        return
    # killed at its very end, a run leaves its work beside its record
    left = unfinished(wanted, options.records)
    progress = partial(_progress, options, settings, wanted)
    jobs = options.jobs if rank is None else None
    with told(progress, options.progress, jobs) if left and not rank else nullcontext() as begin:
        if rank is not None:
            share_out(wanted, options.records, partial(_make, options, progress=False))
        elif options.jobs > 1 and left:
            run_at_once(left, partial(_make_beside_others, options, allocator.in_use()), options.jobs)
        else:
            for number, run in enumerate(left, 1):
                LOG.info("run %d of %d: %s", number, len(left), run.name)
                begin(run.name)
                _make(options, run, progress=not options.quiet)
    if rank:
        return  # the first process tells what all have done
    records = [read_record(run.folder(options.records) / "record.json") for run in wanted]
    print(f"{len(records)} records in {options.records}")
    if options.summary is not None:
        rows = [{"name": r.name, "identity": r.identity, "results": r.results} for r in records]
        write_json(options.summary, rows)


def _progress(
    options: argparse.Namespace, settings: "Settings", wanted: list["Run"], since: float, jobs: int | None
) -> "Progress":
    """Return how the runs stand that are made here, or all of the scale where several processes make them."""
    from hylorada.study.plan.runs import plan
    from hylorada.study.run.progress import Progress

    names, planned = {run.name for run in wanted}, {}
    for study in settings.tables if options.study is None else [options.study]:
        for run in (run for runs in plan(settings, study).values() for run in runs):
            if options.progress is not None or run.name in names:
                planned.setdefault(run.name, (study, run))
    return Progress(planned, options.records, _references(), options.data, since, jobs)


def _references() -> list[Path]:
    """Return the folders of kept records, which tell how long a kind of run takes that is not done here yet."""
    from hylorada.study.checkout import project_root
    from hylorada.study.records.kept import kept_scales

    return kept_scales(project_root() / "data" / "reference")


def _make(options: argparse.Namespace, run: "Run", *, progress: bool) -> None:
    """Make the record of one run."""
    from hylorada.study.plan.registered import plan_digest
    from hylorada.study.run.execute import execute  # torch loads only when there is something to run
    from hylorada.study.run.memory import told_when_full, what_to_lower

    model, tokens = _inputs(options, run.base, run.corpus)
    with (
        told_when_full(what_to_lower(run.specification, options.jobs)),
        _watched(options, run.name, run.specification) as watch,
    ):
        plan = plan_digest(settings_of(options).scale)
        execute(run, run.folder(options.records), model, tokens, progress, watch, plan=plan)


def _make_beside_others(options: argparse.Namespace, parents: str, run: "Run") -> None:
    """Make the record of one run in a worker process, whose bars would run into those of the others.

    parents: the allocator of the parent, which a worker takes over; what was preloaded is there already.
    """
    log_to_stderr(options.quiet)
    if parents == allocator.KEEPING:
        allocator.keep_memory()
    _make(options, run, progress=False)


def _watched(options: argparse.Namespace, name: str, specification: "Specification"):
    """Return a context that gives what to call after each step, for the tracker that was asked for."""
    if options.tracker is None or specification.training is None:
        return nullcontext()
    from hylorada.tracking import tracked

    return tracked(options.tracker, Path("results/tracking"), name, specification.to_json())


def _wanted(settings, options: argparse.Namespace) -> list:
    """Return the runs that the options of `run` leave."""
    from hylorada.study.plan.runs import all_runs, plan

    if options.study is None:
        wanted = list(all_runs(settings).values())
    else:
        rows = plan(settings, options.study)
        wanted = [run for runs in rows.values() for run in runs]
    for name, chosen in (("row", options.stage or []), ("name", options.runs or [])):
        known = {getattr(run, name) for run in wanted}
        for choice in chosen:
            if choice not in known:
                what = "stage" if name == "row" else name
                raise HyLoRADAError(f"no run of this scale has the {what} {choice!r}; {near(choice, known)}")
        wanted = [run for run in wanted if not chosen or getattr(run, name) in chosen]
    return wanted


def _planned(options: argparse.Namespace, stage: str, seed: int | None):
    """Return the scale's run of a stage, with a seed of the caller's choice."""
    from dataclasses import replace

    from hylorada.study.plan.ablation import STAGES
    from hylorada.study.plan.runs import plan

    settings = settings_of(options)
    if stage not in STAGES:
        raise HyLoRADAError(f"stage {stage!r} is not known; {near(stage, STAGES)}")
    run = plan(settings if seed is None else replace(settings, seeds=[seed]), "ablation")[stage][0]
    if seed is not None and run.seed is None:
        raise HyLoRADAError(f"stage {stage!r} is the untouched base model; there is nothing to train.")
    return run


def _inputs(options: argparse.Namespace, base: str | None = None, corpus: str | None = None) -> tuple[Path, Path]:
    """Take the scale's number of threads; return the folder of a model and its token file, by default the scale's."""
    import torch

    from hylorada.study.sources.encode import tokens_path
    from hylorada.study.sources.identity import model_folder

    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    base, corpus = base or settings.base, corpus or settings.corpus
    return model_folder(base, options.data), tokens_path(base, corpus, options.data)
