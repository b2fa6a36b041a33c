"""The command line: `hylorada <verb>`. A rule of the Snakefile calls the verb of its name; others are for users.

Exit status: 0 done; 1 a fault of ours, with a traceback; 2 bad input or a missing thing, on one line; 3 `compare` found
a difference; 130 interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hylorada.errors import HyLoRADAError, near

if TYPE_CHECKING:
    from hylorada.study.plan import Run

LOG = logging.getLogger(__name__)
CLAIMS = Path("results/claims.json")
DIFFERS = 3  # exit status
BASE_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # our own line tells what is wrong
    "TOKENIZERS_PARALLELISM": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status."""
    options = parser().parse_args(arguments)
    for name, value in BASE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _log(options.quiet)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read our lines, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except HyLoRADAError as error:
        print(f"hylorada: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hylorada: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130


def _log(quiet: bool) -> None:
    """Send what is told to standard error, progress lines only where they are wanted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("hylorada").setLevel(logging.WARNING if quiet else logging.INFO)


def parser() -> argparse.ArgumentParser:
    """Describe all verbs and their options."""
    top = argparse.ArgumentParser(prog="hylorada", description="The runs, table, figures and paper of HyLoRADA.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    fetch = _verb(verbs, "fetch", do_fetch, "get base models and corpora, checked, once", "scale data quiet")
    fetch.add_argument("--model", help="only this base model (default: those of the scale's runs)")
    fetch.add_argument("--corpus", help="only this corpus (default: those of the scale's runs)")
    fetch.add_argument("--list", action="store_true", help="list the known sources with their licences, and stop")

    tokens = _verb(verbs, "tokens", do_tokens, "encode corpora with base models' tokenizers", "scale data")
    tokens.add_argument("--model", help="only this base model's tokenizer (default: all of the scale's runs)")
    tokens.add_argument("--corpus", help="only this corpus (default: all of the scale's runs)")

    train = _verb(
        verbs, "train", do_train, "train one stage with one seed; write the adapter", "scale data tracker quiet"
    )
    train.add_argument("--stage", required=True, help="a trained row of the ablation, such as rslora")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, required=True, help="adapter folder to write")

    scoring = "score an adapter, or the bare base, on the test articles"
    evaluate = _verb(verbs, "evaluate", do_evaluate, scoring, "scale data quiet")
    evaluate.add_argument("--adapter", type=Path, help="adapter folder (default: the untouched base model)")
    evaluate.add_argument("--out", type=Path, help="also write the NLL of every token to this .npz file")

    running = "train and evaluate the scale's runs; write their records"
    run = _verb(verbs, "run", do_run, running, "scale data records tracker quiet")
    run.add_argument("--study", help="only the runs of this study, or of the ablation (default: everything)")
    run.add_argument("--stage", nargs="+", help="only the runs of these stages, or of these rows of a study")
    run.add_argument("--runs", nargs="+", metavar="NAME", help="only the runs of these names")
    run.add_argument("--summary", type=Path, help="write a summary of the runs to this JSON file when all are done")
    run.add_argument("--jobs", type=int, default=1, help="runs at once, each in a process of its own (1)")
    run.add_argument("--dry-run", action="store_true", help="list the runs, their tokens and time, and stop")

    writing = "write the ablation table and the numbers of the paper"
    table = _verb(verbs, "table", do_table, writing, "scale records")
    table.add_argument("--out", type=Path, default=Path("paper"), help="folder for numbers.tex and tables/ (paper)")
    csv = Path("results/tables/ablation.csv")
    table.add_argument("--csv", type=Path, default=csv, help=f"the table unrounded ({csv})")

    figure = _verb(verbs, "figure", do_figure, "draw one figure, as PDF and PNG", "scale records")
    figure.add_argument("name", help="a row of hylorada/study/figures.py, or a study of the scale")
    figure.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figure (figures)")

    choosing = "say the best learning rate of each arm by the sweep of the scale, as the setting tuned_rates"
    _verb(verbs, "rates", do_rates, choosing, "scale records")
    paging = "write one self-contained page: claims with verdicts, tables, figures, and the runs behind each number"
    page = _verb(verbs, "page", do_page, paging, "scale records")
    page.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    page.add_argument("--tables", type=Path, default=csv.parent, help=f"folder of the tables as CSV ({csv.parent})")
    page.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures (figures)")
    page.add_argument("--out", type=Path, default=Path("results/index.html"), help="the page (results/index.html)")

    comparing = "hold records against reference records, metric by metric; exit status 3 when one differs"
    compare = _verb(verbs, "compare", do_compare, comparing, "records")
    reference = Path("data/reference/micro")
    compare.add_argument("--reference", type=Path, default=reference, help=f"folder to hold them against ({reference})")
    compare.add_argument("--out", type=Path, help="also write every metric of every run to this CSV file")

    tracing = "say where a file, a claim or a run comes from: command, runs, settings, data, code, machine"
    why = _verb(verbs, "why", do_why, tracing, "scale records")
    why.add_argument("what", help="a figure, table, page or record, or the id of a claim, such as AF-050")
    why.add_argument("--row", help="only this row of a table, and the row it is held against")
    why.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    judging = "judge every published statement; write verdicts, tables and a figure"
    claims = _verb(verbs, "claims", do_claims, judging, "scale records")
    claims.add_argument("--out", type=Path, default=Path("paper"), help="folder for tables/ (paper)")
    verdicts, csv = Path("results/claims.json"), Path("results/tables/claims.csv")
    claims.add_argument("--json", type=Path, default=verdicts, help=f"all verdicts ({verdicts})")
    claims.add_argument("--csv", type=Path, default=csv, help=f"the same as a table ({csv})")
    claims.add_argument("--figures", type=Path, default=Path("figures"), help="folder for the figure (figures)")

    exporting = "write an adapter in PEFT's layout, or as plain LoRA"
    export = _verb(verbs, "export", do_export, exporting, "quiet")
    export.add_argument("adapter", type=Path, help="adapter folder")
    export.add_argument("--base", type=Path, required=True, help="folder of the base model it was trained on")
    export.add_argument("--out", type=Path, required=True, help="folder to write; new, or an earlier export")
    export.add_argument("--drop", action="store_true", help="leave out, with a warning, what PEFT cannot hold")
    export.add_argument("--svd-rank", type=int, help="instead write the nearest plain LoRA of this rank")

    measuring = "measure what each part costs beside PEFT; write the record and a page of tables"
    bench = _verb(verbs, "bench", do_bench, measuring, "data quiet")
    bench.add_argument("--model", type=Path, help="folder of the base model (default: the fetched smollm2-135m)")
    bench.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the records (benchmarks)")
    bench.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="only these tables, and write nothing")
    bench.add_argument("--tokens", type=int, default=256, help="tokens of a training step (256)")
    bench.add_argument("--rounds", type=int, default=7, help="how often each competitor runs (7)")
    bench.add_argument("--dtype", default="bfloat16", help="of the base model (bfloat16)")
    bench.add_argument("--targets", nargs="+", metavar="LAYER", help="layers to adapt (default: the family's own)")
    bench.add_argument("--threads", type=int, default=1, help="of the processor (1: the least disturbed)")
    bench.add_argument("--compile", action="store_true", help="training steps under torch.compile")

    paper = _verb(verbs, "paper", do_paper, "compile the paper from the written table, numbers and figures", "")
    paper.add_argument(
        "--generated", type=Path, default=Path("paper"), help="folder of numbers.tex and tables/ (paper)"
    )
    paper.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures (figures)")
    paper.add_argument("--out", type=Path, default=Path("paper/main.pdf"), help="the PDF (paper/main.pdf)")
    return top


SETTINGS_OPTION = dict(
    nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="settings that replace the scale's, as YAML"
)
SHARED_OPTIONS = {
    "scale": dict(default="micro", help="a name from config/, or the path of a .yaml file (micro)"),
    "data": dict(type=Path, default=Path("data"), help="folder of models, corpora and tokens (data)"),
    "records": dict(type=Path, default=Path("results/runs"), help="folder of the records (results/runs)"),
    "tracker": dict(metavar="NAME", help="show training in tensorboard or wandb, files in results/tracking"),
    "quiet": dict(action="store_true", help="no progress bars, no progress lines"),
}


def _verb(
    verbs: argparse._SubParsersAction, name: str, run: Callable, text: str, shared: str
) -> argparse.ArgumentParser:
    """Add a verb with those shared options that it reads."""
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(run=run, quiet=False)
    for option in shared.split():
        verb.add_argument(f"--{option}", **SHARED_OPTIONS[option])
        if option == "scale":
            verb.add_argument("--set", **SETTINGS_OPTION)
    return verb


def do_fetch(options: argparse.Namespace) -> None:
    """Fetch what the scale needs, or what was named."""
    from hylorada.study.plan import all_runs
    from hylorada.study.registry import CORPORA, MODELS
    from hylorada.study.sources import fetch_corpus, fetch_model

    if options.list:
        for kind, table in (("model", MODELS), ("corpus", CORPORA)):
            for name, row in table.items():
                print(f"{kind:7} {name:14} {row.licence:14} {row.description}")
        return
    models, corpora = [options.model] * bool(options.model), [options.corpus] * bool(options.corpus)
    if not models and not corpora:
        runs = all_runs(_settings(options)).values()
        models, corpora = ({getattr(run, kind): None for run in runs} for kind in ("base", "corpus"))
    for model in models:
        print(fetch_model(model, options.data, not options.quiet))
    for corpus in corpora:
        print(fetch_corpus(corpus, options.data, not options.quiet))


def do_tokens(options: argparse.Namespace) -> None:
    """Encode each corpus of the scale's runs with each base that reads it, or what was named."""
    from hylorada.study.encode import make_tokens
    from hylorada.study.plan import all_runs

    settings = _settings(options)
    pairs = {(options.model or settings.base, options.corpus or settings.corpus): None}
    if not (options.model or options.corpus):
        pairs = {(run.base, run.corpus): None for run in all_runs(settings).values()}
    for model, corpus in pairs:
        print(make_tokens(model, corpus, options.data))


def do_train(options: argparse.Namespace) -> None:
    """Train one stage outside the records."""
    from hylorada.study import runs
    from hylorada.study.memory import told_when_full, what_to_lower
    from hylorada.study.tokens import read_tokens

    run = _planned(options, options.stage, options.seed)
    model, tokens = _inputs(options)
    text = read_tokens(tokens)
    runs.check_sources(run.specification, model, text)
    base = runs.load_base(model, run.specification["dtype"])
    with (
        told_when_full(what_to_lower(run.specification)),
        runs.work_folder(options.out) as work,
        _watched(options, options.out.name, run.specification) as watch,
    ):
        adapted, result = runs.train(base, run.specification, text, work, not options.quiet, watch)
        adapted.save_pretrained(options.out)
    print(f"{options.out}: {len(result.history)} steps, last loss {result.history[-1]['loss']:.4f} nats a token")


def do_evaluate(options: argparse.Namespace) -> None:
    """Score an adapter or the base on the scale's test articles."""
    import json

    from transformers import AutoTokenizer

    from hylorada.model import HyLoRADAModel
    from hylorada.study import runs
    from hylorada.study.measures import metrics
    from hylorada.study.memory import told_when_full, what_to_lower
    from hylorada.study.scoring import score
    from hylorada.study.tokens import read_tokens

    run = _planned(options, "base", None)
    model, tokens = _inputs(options)
    text = read_tokens(tokens)
    runs.check_sources(run.specification, model, text)
    subject = runs.load_base(model, run.specification["dtype"])
    if options.adapter is not None:
        subject = HyLoRADAModel.from_pretrained(subject, options.adapter)
    tokenizer = AutoTokenizer.from_pretrained(model)
    with told_when_full(what_to_lower(run.specification)):
        nll = score(subject, run.specification, text, tokenizer, not options.quiet)
    if options.out is not None:
        nll.save(options.out)
    print(json.dumps(metrics(nll), indent=2))


def do_run(options: argparse.Namespace) -> None:
    """Make every record of the scale, or of one stage, that is not there yet."""
    from hylorada.files import read_json, write_json
    from hylorada.study.forecast import forecast
    from hylorada.study.jobs import run_at_once
    from hylorada.study.sources import project_root

    if options.jobs < 1:
        raise HyLoRADAError(f"--jobs {options.jobs} is too small; use 1 or more.")
    wanted = _wanted(_settings(options), options)
    done = {run.name for run in wanted if (run.folder(options.records) / "record.json").is_file()}
    if options.dry_run:
        reference = project_root() / "data" / "reference" / "micro"
        print("\n".join(forecast(wanted, done, options.records, reference)))
        return
    # killed at its very end, a run leaves its work beside its record
    left = [run for run in wanted if not run.is_finished(options.records)]
    if options.jobs > 1 and left:
        run_at_once(left, partial(_make_beside_others, options), options.jobs)
    else:
        for number, run in enumerate(left, 1):
            LOG.info("run %d of %d: %s", number, len(left), run.name)
            _make(options, run, not options.quiet)
    records = [read_json(run.folder(options.records) / "record.json") for run in wanted]
    print(f"{len(records)} records in {options.records}")
    if options.summary is not None:
        rows = [{"name": r["name"], "identity": r["identity"], "results": r["results"]} for r in records]
        write_json(options.summary, rows)


def _make(options: argparse.Namespace, run: "Run", progress: bool) -> None:
    """Make the record of one run."""
    from hylorada.study.memory import told_when_full, what_to_lower
    from hylorada.study.runs import execute  # torch loads only when there is something to run

    model, tokens = _inputs(options, run.base, run.corpus)
    with (
        told_when_full(what_to_lower(run.specification, options.jobs)),
        _watched(options, run.name, run.specification) as watch,
    ):
        execute(run, run.folder(options.records), model, tokens, progress, watch)


def _make_beside_others(options: argparse.Namespace, run: "Run") -> None:
    """Make the record of one run in a worker process, whose bars would run into those of the others."""
    _log(options.quiet)
    _make(options, run, progress=False)


def do_table(options: argparse.Namespace) -> None:
    """Write the generated parts of the paper."""
    from hylorada.study import floats, numbers, tables, tables_compute, tables_cost, tables_facts, tables_parts
    from hylorada.study import tables_protocols as protocols
    from hylorada.study.records import study_records
    from hylorada.study.studies import STUDIES

    settings, planned, records = _records(options)
    tex, csv = options.out / "tables", options.csv.parent
    found = {name: study_records(settings, name, options.records) for name in settings.studies}
    studies = {name: tables.write_study(found[name], settings.rows(name), name, tex, csv) for name in settings.studies}
    table = tables.write_ablation(records, tex / "ablation.tex", options.csv)
    protocols.write_protocols(found.get("as_published"), records, tex / "protocols.tex", csv / "protocols.csv")
    protocols.write_efficiency(records, tex / "efficiency.tex", csv / "efficiency.csv")
    tables_cost.write_cost(tables_cost.read_benchmark(), tex / "cost.tex", csv / "cost.csv")
    tables_facts.write_facts(settings, tex / "facts.tex", csv / "facts.csv")
    tables_parts.write_parts(records, found, tex / "parts.tex", csv / "parts.csv")
    tables_compute.write_compute(records, found, tex / "compute.tex", csv / "compute.csv")
    tables_compute.write_absences(settings, records, tex / "absent.tex")
    floats.write_floats(settings, tex / "floats.tex")
    numbers.write_numbers(settings, planned, records, found, options.out / "numbers.tex")
    shown = ["label", "parameters", "seeds", "perplexity", "effect", "effect_low", "effect_high"]
    print(table[shown].to_string(index=False))
    for name, study in studies.items():
        print(f"\n{STUDIES[name].title}\n{study[shown].to_string(index=False)}")


def do_figure(options: argparse.Namespace) -> None:
    """Draw one figure."""
    from hylorada.files import read_json
    from hylorada.study.figure_style import save_figure
    from hylorada.study.figures import BENCHMARK, figure_row
    from hylorada.study.records import study_records
    from hylorada.study.sources import project_root

    settings = _settings(options)
    row = figure_row(settings, options.name)
    if row.reads == BENCHMARK:
        drawn = row.draw(read_json(project_root() / "benchmarks" / "cpu.json"))
    else:
        records = study_records(settings, row.reads, options.records)
        drawn = row.draw(records, settings.rows(row.reads)) if row.reads in settings.studies else row.draw(records)
    save_figure(drawn, options.out / options.name)
    print(options.out / f"{options.name}.pdf")


def do_rates(options: argparse.Namespace) -> None:
    """Print the best rate of each arm, and the lines for the scale's file."""
    import yaml

    from hylorada.study.rates import best_rates, tuned_rates
    from hylorada.study.records import study_records

    settings = _settings(options)
    best = best_rates(study_records(settings, "rates", options.records), settings.rows("rates"))
    print(best.to_string())
    if edges := [arm for arm, found in best.iterrows() if found["on_edge"]]:
        LOG.warning("at the edge of the grid, so a better rate may lie beyond: %s", ", ".join(edges))
    print(yaml.safe_dump({"tuned_rates": tuned_rates(best)}, sort_keys=False), end="")


def do_page(options: argparse.Namespace) -> None:
    """Write the page."""
    from hylorada.study.page_inputs import make_page

    settings = _settings(options)
    absent = make_page(settings, options.records, options.claims, options.tables, options.figures, options.out)
    if absent:
        LOG.warning("not drawn, so not on the page: %s", ", ".join(absent))
    print(options.out)


def do_compare(options: argparse.Namespace) -> int:
    """Hold records against others; return the exit status."""
    from hylorada.study import compare
    from hylorada.study.archive import read_archive

    compared = compare.compare(read_archive(options.records), read_archive(options.reference))
    print("\n".join(compare.summary(compared)))
    if options.out is not None:
        compare.write_comparison(compared, options.out)
    return DIFFERS if compare.overall(compared) == compare.DIFFERENT else 0


def do_why(options: argparse.Namespace) -> None:
    """Print where something comes from."""
    from hylorada.study.why import why

    settings = _settings(options)
    print("\n".join(why(options.what, settings, options.records, options.claims, options.row)))


def do_claims(options: argparse.Namespace) -> None:
    """Judge every published statement."""
    from hylorada.study.claims.judgement import judge, write_judgement
    from hylorada.study.claims.sentences import write_claims_numbers
    from hylorada.study.claims.tables import write_tables
    from hylorada.study.figure_claims import published_numbers
    from hylorada.study.figure_style import save_figure

    judgement = judge(_settings(options), options.records)
    write_judgement(judgement, options.json)
    write_claims_numbers(judgement, options.out / "tables" / "claims_numbers.tex")
    print(write_tables(judgement, options.out / "tables", options.csv).to_string(index=False))
    drawn = published_numbers(judgement.catalogue, judgement.evidence.records("as_published"))
    save_figure(drawn, options.figures / "published_numbers")


def do_paper(options: argparse.Namespace) -> None:
    """Compile the paper."""
    from hylorada.study.sources import project_root
    from hylorada.study.tex import build_pdf, find_tex

    source = project_root() / "paper" / "main.tex"
    wide = build_pdf(source, options.out, find_tex(), generated=options.generated, figures=options.figures)
    for box in wide:
        print(f"too wide: {box}", file=sys.stderr)
    print(options.out)


def do_export(options: argparse.Namespace) -> None:
    """Write an adapter for PEFT, or for servers that know only LoRA."""
    import warnings

    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    from hylorada.export import export_lora, export_peft
    from hylorada.model import HyLoRADAModel

    if not (options.base / "config.json").is_file():
        raise HyLoRADAError(f"{options.base} is no model folder (no config.json); give what `hylorada fetch` printed.")
    transformers_logging.disable_progress_bar()
    base = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32, use_safetensors=True)
    model = HyLoRADAModel.from_pretrained(base, options.adapter)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if options.svd_rank is None:
            export_peft(model, options.out, options.drop)
        else:
            errors = export_lora(model, options.out, options.svd_rank, options.drop)
            print(f"relative error: mean {sum(errors.values()) / len(errors):.3g}, largest {max(errors.values()):.3g}")
    for warning in told:
        LOG.warning("%s", warning.message)
    print(options.out)


def do_bench(options: argparse.Namespace) -> None:
    """Measure speed and memory."""
    import torch

    from hylorada.bench.competitors import Setting
    from hylorada.bench.report import page, run_benchmark, save
    from hylorada.study.memory import told_when_full
    from hylorada.study.provenance import describe_machine
    from hylorada.study.runs import device_name
    from hylorada.study.sources import model_folder

    for name in ("tokens", "rounds", "threads"):
        if getattr(options, name) < 1:
            raise HyLoRADAError(f"--{name} {getattr(options, name)} is too small; use 1 or more.")
    if options.dtype not in (allowed := ("bfloat16", "float32")):
        raise HyLoRADAError(f"--dtype {options.dtype} is not known; {near(options.dtype, allowed)}")
    torch.set_num_threads(options.threads)
    setting = Setting(
        model=str(options.model or model_folder("smollm2-135m", options.data)),
        dtype=options.dtype,
        device="cuda" if torch.cuda.is_available() else "cpu",
        tokens=options.tokens,
        rounds=options.rounds,
        targets=tuple(options.targets) if options.targets else None,
        compiled=options.compile,
    )
    machine = describe_machine() | {"threads": options.threads, "device": device_name()}
    if options.out.exists() and not options.out.is_dir():
        raise HyLoRADAError(f"--out {options.out} is a file; name a folder.")
    only = options.only or (["training"] if options.compile else [])  # what the compiler changes
    with told_when_full(f"lower --tokens (now {options.tokens}), or --only some of the tables."):
        record = run_benchmark(setting, machine, only)
    print(page([record]))
    if not options.only:  # a record is whole
        save(record, options.out)


def _settings(options: argparse.Namespace):
    """Return the scale's settings with what --set replaces in them."""
    from hylorada.study.settings import load_settings, read_changes

    return load_settings(options.scale, read_changes(options.set))


def _watched(options: argparse.Namespace, name: str, specification: dict):
    """Return a context that gives what to call after each step, for the tracker that was asked for."""
    from contextlib import nullcontext

    if options.tracker is None or specification["training"] is None:
        return nullcontext()
    from hylorada.tracking import tracked

    return tracked(options.tracker, Path("results/tracking"), name, specification)


def _wanted(settings, options: argparse.Namespace) -> list:
    """Return the runs that the options of `run` leave."""
    from hylorada.study.plan import all_runs, plan, plan_study

    if options.study is None:
        wanted = list(all_runs(settings).values())
    else:
        rows = plan(settings) if options.study == "ablation" else plan_study(settings, options.study)
        wanted = [run for runs in rows.values() for run in runs]
    for name, chosen in (("stage", options.stage or []), ("name", options.runs or [])):
        known = {getattr(run, name) for run in wanted}
        for choice in chosen:
            if choice not in known:
                raise HyLoRADAError(f"no run of this scale has the {name} {choice!r}; {near(choice, known)}")
        wanted = [run for run in wanted if not chosen or getattr(run, name) in chosen]
    return wanted


def _planned(options: argparse.Namespace, stage: str, seed: int | None):
    """Return the scale's run of a stage, with a seed of the caller's choice."""
    from dataclasses import replace

    from hylorada.study.plan import plan
    from hylorada.study.stages import STAGES

    settings = _settings(options)
    if stage not in STAGES:
        raise HyLoRADAError(f"stage {stage!r} is not known; {near(stage, STAGES)}")
    run = plan(settings if seed is None else replace(settings, seeds=[seed]))[stage][0]
    if seed is not None and run.seed is None:
        raise HyLoRADAError(f"stage {stage!r} is the untouched base model; there is nothing to train.")
    return run


def _inputs(options: argparse.Namespace, base: str | None = None, corpus: str | None = None) -> tuple[Path, Path]:
    """Take the scale's number of threads; return the folder of a model and its token file, by default the scale's."""
    import torch

    from hylorada.study.encode import tokens_path
    from hylorada.study.sources import model_folder

    settings = _settings(options)
    torch.set_num_threads(settings.threads)
    base, corpus = base or settings.base, corpus or settings.corpus
    return model_folder(base, options.data), tokens_path(base, corpus, options.data)


def _records(options: argparse.Namespace):
    """Return settings, plan and loaded records of the scale."""
    from hylorada.study.plan import plan
    from hylorada.study.records import study_records

    settings = _settings(options)
    return settings, plan(settings), study_records(settings, "ablation", options.records)


if __name__ == "__main__":
    sys.exit(main())
