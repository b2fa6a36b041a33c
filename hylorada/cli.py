"""The command line: `hylorada <verb>`. A rule of the Snakefile calls the verb of its name; others are for users.

Exit status: 0 done; 1 a fault of ours, with a traceback; 2 bad input or a missing thing, on one line; 3 `compare` found
a difference; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hylorada.allocator import use_best
from hylorada.errors import HyLoRADAError
from hylorada.verbs import results, runs, tools
from hylorada.verbs.common import log_to_stderr

CLAIMS = Path("results/claims.json")
LOADS_A_MODEL = ("train", "evaluate", "run", "export", "bench")  # verbs whose time the memory allocator decides upon
KINDS = {  # what stands where a file or a folder of the other kind is asked for
    FileExistsError: "a file, and a folder is wanted there",
    NotADirectoryError: "not in a folder",
    IsADirectoryError: "a folder, and a file is wanted there",
}
BASE_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # our own line tells what is wrong
    "TOKENIZERS_PARALLELISM": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status.

    arguments: None stands for those of the process, which then is ours, its memory allocator too.
    """
    if arguments is None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # a sign that the terminal's encoding lacks stops nothing
    options = parser().parse_args(arguments)
    for name, value in BASE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    log_to_stderr(options.quiet)
    try:
        if arguments is None and options.verb in LOADS_A_MODEL:
            use_best()
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read our lines, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except HyLoRADAError as error:
        print(f"hylorada: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        print(f"hylorada: {error.filename} is {KINDS[type(error)]}; name another place.", file=sys.stderr)
        return 2
    except OSError as error:  # of a place that may not be read or written
        if error.filename is None or error.strerror is None:
            raise
        print(f"hylorada: {error.filename}: {error.strerror}; allow it, or name another place.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hylorada: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Describe all verbs and their options."""
    top = argparse.ArgumentParser(prog="hylorada", description="The runs, table, figures and paper of HyLoRADA.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    fetch = _verb(verbs, "fetch", runs.do_fetch, "get base models and corpora, checked, once", "scale data quiet")
    fetch.add_argument("--model", help="only this base model (default: those of the scale's runs)")
    fetch.add_argument("--corpus", help="only this corpus (default: those of the scale's runs)")
    fetch.add_argument("--list", action="store_true", help="list the known sources with their licences, and stop")

    tokens = _verb(verbs, "tokens", runs.do_tokens, "encode corpora with base models' tokenizers", "scale data")
    tokens.add_argument("--model", help="only this base model's tokenizer (default: all of the scale's runs)")
    tokens.add_argument("--corpus", help="only this corpus (default: all of the scale's runs)")

    train = _verb(
        verbs, "train", runs.do_train, "train one stage with one seed; write the adapter", "scale data tracker quiet"
    )
    train.add_argument("--stage", required=True, help="a trained row of the ablation, such as rslora")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, required=True, help="adapter folder to write")

    scoring = "score an adapter, or the bare base, on the test articles"
    evaluate = _verb(verbs, "evaluate", runs.do_evaluate, scoring, "scale data quiet")
    evaluate.add_argument("--adapter", type=Path, help="adapter folder (default: the untouched base model)")
    evaluate.add_argument("--out", type=Path, help="also write the NLL of every token to this .npz file")

    running = "train and evaluate the scale's runs; write their records"
    run = _verb(verbs, "run", runs.do_run, running, "scale data records tracker quiet")
    run.add_argument("--study", help="only the runs of this study, or of the ablation (default: everything)")
    run.add_argument("--stage", nargs="+", help="only the runs of these stages, or of these rows of a study")
    run.add_argument("--runs", nargs="+", metavar="NAME", help="only the runs of these names")
    run.add_argument("--summary", type=Path, help="write a summary of the runs to this JSON file when all are done")
    run.add_argument("--jobs", type=int, default=1, help="runs at once, each in a process of its own (1)")
    run.add_argument("--dry-run", action="store_true", help="list the runs, their tokens and time, and stop")

    writing = "write the ablation table and the numbers of the paper"
    table = _verb(verbs, "table", results.do_table, writing, "scale records")
    table.add_argument("--out", type=Path, default=Path("paper"), help="folder for numbers.tex and tables/ (paper)")
    csv = Path("results/tables/ablation.csv")
    table.add_argument("--csv", type=Path, default=csv, help=f"the table unrounded ({csv})")

    figure = _verb(verbs, "figure", results.do_figure, "draw one figure, as PDF and PNG", "scale records")
    figure.add_argument("name", help="a row of hylorada/study/figures/rows.py, or a study of the scale")
    figure.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figure (figures)")

    choosing = "say the best learning rate of each arm by the sweep of the scale, as the setting tuned_rates"
    _verb(verbs, "rates", results.do_rates, choosing, "scale records")
    paging = "write one self-contained page: claims with verdicts, tables, figures, and the runs behind each number"
    page = _verb(verbs, "page", results.do_page, paging, "scale records")
    page.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    page.add_argument("--tables", type=Path, default=csv.parent, help=f"folder of the tables as CSV ({csv.parent})")
    page.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures (figures)")
    page.add_argument("--out", type=Path, default=Path("results/index.html"), help="the page (results/index.html)")

    comparing = "hold records against reference records, metric by metric; exit status 3 when one differs"
    compare = _verb(verbs, "compare", results.do_compare, comparing, "records")
    reference = Path("data/reference/micro")
    compare.add_argument("--reference", type=Path, default=reference, help=f"folder to hold them against ({reference})")
    compare.add_argument("--out", type=Path, help="also write every metric of every run to this CSV file")

    tracing = "say where a file, a claim or a run comes from: command, runs, settings, data, code, machine"
    why = _verb(verbs, "why", results.do_why, tracing, "scale records")
    why.add_argument("what", help="a figure, table, page or record, or the id of a claim in paper/claims.yaml")
    why.add_argument("--row", help="only this row of a table, and the row it is held against")
    why.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    judging = "judge every published statement; write verdicts, tables and a figure"
    claims = _verb(verbs, "claims", results.do_claims, judging, "scale records")
    claims.add_argument("--out", type=Path, default=Path("paper"), help="folder for tables/ (paper)")
    verdicts, csv = Path("results/claims.json"), Path("results/tables/claims.csv")
    claims.add_argument("--json", type=Path, default=verdicts, help=f"all verdicts ({verdicts})")
    claims.add_argument("--csv", type=Path, default=csv, help=f"the same as a table ({csv})")
    claims.add_argument("--figures", type=Path, default=Path("figures"), help="folder for the figure (figures)")

    exporting = "write an adapter in PEFT's layout, or as plain LoRA"
    export = _verb(verbs, "export", tools.do_export, exporting, "quiet")
    export.add_argument("adapter", type=Path, help="adapter folder")
    export.add_argument("--base", type=Path, required=True, help="folder of the base model it was trained on")
    export.add_argument("--out", type=Path, required=True, help="folder to write; new, or an earlier export")
    export.add_argument("--drop", action="store_true", help="leave out, with a warning, what PEFT cannot hold")
    export.add_argument("--svd-rank", type=int, help="instead write the nearest plain LoRA of this rank")

    measuring = "measure what each part costs beside PEFT; write the record and a page of tables"
    bench = _verb(verbs, "bench", tools.do_bench, measuring, "data quiet")
    bench.add_argument("--model", type=Path, help="folder of the base model (default: the fetched smollm2-135m)")
    bench.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the records (benchmarks)")
    bench.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="only these tables, and write nothing")
    bench.add_argument("--tokens", type=int, default=256, help="tokens of a training step (256)")
    bench.add_argument("--rounds", type=int, default=7, help="how often each competitor runs (7)")
    bench.add_argument("--dtype", default="bfloat16", help="of the base model (bfloat16)")
    bench.add_argument("--targets", nargs="+", metavar="LAYER", help="layers to adapt (default: the family's own)")
    bench.add_argument("--threads", type=int, default=1, help="of the processor (1: the least disturbed)")
    bench.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="older code to measure beside this, with --only too"
    )
    bench.add_argument("--compile", action="store_true", help="training steps under torch.compile")

    paper = _verb(verbs, "paper", results.do_paper, "compile the paper from the written table, numbers and figures", "")
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
