"""The verbs of the command line with their options, which of these name what is written, and what they share."""

import argparse
from collections.abc import Callable
from pathlib import Path

from hylorada.verbs import results, runs, tools

CLAIMS = Path("results/claims.json")


def parser() -> argparse.ArgumentParser:
    """Describe all verbs and their options."""
    top = argparse.ArgumentParser(prog="hylorada", description="The runs, table, figures and paper of HyLoRADA.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    fetch = _verb(
        verbs, "fetch", runs.do_fetch, "get base models and corpora, checked, once", "scale data quiet", folders="data"
    )
    fetch.add_argument("--model", help="only this base model (default: those of the scale's runs)")
    fetch.add_argument("--corpus", help="only this corpus (default: those of the scale's runs)")
    fetch.add_argument("--list", action="store_true", help="list the known sources with their licences, and stop")

    tokens = _verb(
        verbs, "tokens", runs.do_tokens, "encode corpora with base models' tokenizers", "scale data", folders="data"
    )
    tokens.add_argument("--model", help="only this base model's tokenizer (default: all of the scale's runs)")
    tokens.add_argument("--corpus", help="only this corpus (default: all of the scale's runs)")

    train = _verb(
        verbs,
        "train",
        runs.do_train,
        "train one stage with one seed; write the adapter",
        "scale data tracker quiet",
        folders="out",
    )
    train.add_argument("--stage", required=True, help="a trained row of the ablation, such as rslora")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, required=True, help="adapter folder to write")

    scoring = "score an adapter, or the bare base, on the test articles"
    evaluate = _verb(verbs, "evaluate", runs.do_evaluate, scoring, "scale data quiet", files="out")
    evaluate.add_argument("--adapter", type=Path, help="adapter folder (default: the untouched base model)")
    evaluate.add_argument("--out", type=Path, help="also write the NLL of every token to this .npz file")

    running = "train and evaluate the scale's runs; write their records"
    run = _verb(
        verbs,
        "run",
        runs.do_run,
        running,
        "scale data records tracker quiet",
        files="summary",
        folders="records progress",
    )
    run.add_argument("--study", help="only the runs of this study, or of the ablation (default: everything)")
    run.add_argument("--stage", nargs="+", help="only the runs of these stages, or of these rows of a study")
    run.add_argument("--runs", nargs="+", metavar="NAME", help="only the runs of these names")
    run.add_argument("--summary", type=Path, help="write a summary of the runs to this JSON file when all are done")
    run.add_argument("--jobs", type=int, default=1, help="runs at once, each in a process of its own (1)")
    sharing = "tell the progress of the whole scale, in turn with all processes that name this folder"
    run.add_argument("--progress", type=Path, metavar="FOLDER", help=sharing)
    run.add_argument("--dry-run", action="store_true", help="list the runs, their tokens and time, and stop")

    writing = "write the ablation table and the numbers of the paper"
    table = _verb(verbs, "table", results.do_table, writing, "scale records", files="csv", folders="out")
    table.add_argument("--out", type=Path, default=Path("paper"), help="folder for numbers.tex and tables/ (paper)")
    csv = Path("results/tables/ablation.csv")
    table.add_argument("--csv", type=Path, default=csv, help=f"the table unrounded ({csv})")

    figure = _verb(
        verbs, "figure", results.do_figure, "draw figures, each as PDF and PNG", "scale records", folders="out"
    )
    named = "a row of hylorada/study/figures/rows.py, or a study of the scale (default: every figure that it has)"
    figure.add_argument("names", nargs="*", metavar="NAME", help=named)
    figure.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures (figures)")

    choosing = "say the best learning rate of each arm by the sweep of the scale, as the setting tuned_rates"
    _verb(verbs, "rates", results.do_rates, choosing, "scale records")
    planning = "say what paper/plan.yaml has each study run and find, and in what the scale departs from it"
    _verb(verbs, "plan", results.do_plan, planning, "scale")
    paging = "write one self-contained page: claims with verdicts, tables, figures, and the runs behind each number"
    page = _verb(verbs, "page", results.do_page, paging, "scale records", files="out")
    page.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    page.add_argument("--tables", type=Path, default=csv.parent, help=f"folder of the tables as CSV ({csv.parent})")
    page.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures (figures)")
    pdf = Path("paper/main.pdf")
    page.add_argument("--paper", type=Path, default=pdf, help=f"the PDF to lead to, where it is there ({pdf})")
    page.add_argument("--out", type=Path, default=Path("results/index.html"), help="the page (results/index.html)")

    comparing = "hold records against reference records, metric by metric; exit status 3 when one differs"
    compare = _verb(verbs, "compare", results.do_compare, comparing, "records", files="out")
    reference = Path("data/reference/micro")
    compare.add_argument("--reference", type=Path, default=reference, help=f"folder to hold them against ({reference})")
    compare.add_argument("--out", type=Path, help="also write every metric of every run to this CSV file")

    tracing = "say where a file, a claim or a run comes from: command, runs, settings, data, code, machine"
    why = _verb(verbs, "why", results.do_why, tracing, "scale records")
    why.add_argument("what", help="a figure, table, page or record, or the id of a claim in paper/claims.yaml")
    why.add_argument("--row", help="only this row of a table, and the row it is held against")
    why.add_argument("--ids", action="store_true", help="with the digests of records, weights, text and code")
    why.add_argument("--claims", type=Path, default=CLAIMS, help=f"what `hylorada claims` wrote ({CLAIMS})")
    judging = "judge every published statement; write verdicts, tables and a figure"
    claims = _verb(
        verbs, "claims", results.do_claims, judging, "scale records", files="json csv", folders="out figures"
    )
    claims.add_argument("--out", type=Path, default=Path("paper"), help="folder for tables/ (paper)")
    verdicts, csv = Path("results/claims.json"), Path("results/tables/claims.csv")
    claims.add_argument("--json", type=Path, default=verdicts, help=f"all verdicts ({verdicts})")
    claims.add_argument("--csv", type=Path, default=csv, help=f"the same as a table ({csv})")
    claims.add_argument("--figures", type=Path, default=Path("figures"), help="folder for the figure (figures)")

    exporting = "write an adapter in PEFT's layout, or as plain LoRA"
    export = _verb(verbs, "export", tools.do_export, exporting, "quiet", folders="out")
    export.add_argument("adapter", type=Path, help="adapter folder")
    export.add_argument("--base", type=Path, required=True, help="folder of the base model it was trained on")
    export.add_argument("--out", type=Path, required=True, help="folder to write; new, or an earlier export")
    export.add_argument("--drop", action="store_true", help="leave out, with a warning, what PEFT cannot hold")
    export.add_argument("--svd-rank", type=int, help="instead write the nearest plain LoRA of this rank")

    measuring = "measure what each part costs beside PEFT; write the record and a page of tables"
    bench = _verb(verbs, "bench", tools.do_bench, measuring, "data quiet", folders="out")
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

    paper = _verb(
        verbs,
        "paper",
        results.do_paper,
        "compile the paper from the written table, numbers and figures",
        "",
        files="out",
    )
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
    verbs: argparse._SubParsersAction,
    name: str,
    run: Callable,
    text: str,
    shared: str,
    files: str = "",
    folders: str = "",
) -> argparse.ArgumentParser:
    """Add a verb with those shared options that it reads. files, folders: options that name what it writes."""
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    writes = dict.fromkeys(files.split(), False) | dict.fromkeys(folders.split(), True)  # whether it is a folder
    verb.set_defaults(run=run, quiet=False, writes=writes)
    for option in shared.split():
        verb.add_argument(f"--{option}", **SHARED_OPTIONS[option])
        if option == "scale":
            verb.add_argument("--set", **SETTINGS_OPTION)
    return verb
