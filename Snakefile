"""The whole study: models and text, tokens, all runs, tables, figures, paper. `snakemake --cores all` makes it.

Every rule calls the command a person would type. What a run is, and the name of the file that says it is done, comes
from its identity (settings, data, code), so a result of other settings, data or code is never taken for this one.
"""

import re
import shutil
from pathlib import Path

from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.fetch import check_asked
from hylorada.study.figures.rows import figure_row, figures_of
from hylorada.study.plan.runs import cells
from hylorada.study.plan.digest import code_digest
from hylorada.study.plan.scales import load_settings
from hylorada.study.records.kept import kept_scale, largest_kept
from hylorada.study.sources.identity import corpus_folder, model_folder, source_identity
from hylorada.study.results.rows import JUDGED, table_row, tables_of
from hylorada.study.paper.compile import find_tex, tex_advice

OWN = "results/runs"
RECORDS = config.get("records", OWN)  # kept records of an earlier study are read as they are: nothing runs
if RECORDS != OWN and "scale" not in config:
    RECORDS = str(largest_kept(RECORDS))
SCALE = config.get("scale", "micro" if RECORDS == OWN else kept_scale(RECORDS))
SETTINGS = load_settings(SCALE)
CELLS = cells(SETTINGS) if RECORDS == OWN else {}
RUNS = [run for runs in CELLS.values() for run in runs]
MODELS = {model_folder(run.base, "data").name: run.base for run in RUNS}  # by their folders
CORPORA = {corpus_folder(run.corpus, "data").name: run.corpus for run in RUNS}
TOKENS = {tokens_path(run.base, run.corpus, "data"): (run.base, run.corpus) for run in RUNS}
TABLES = tables_of(SETTINGS)
check_asked(MODELS.values(), "data")
FIGURES = {name: figure_row(SETTINGS, name) for name in figures_of(SETTINGS)}
BESIDE = ["floats", "absent"]  # further files of paper/tables that `hylorada table` writes
TABLE_CODE = ["hylorada.study.paper.generated", *sorted({table_row(SETTINGS, table).module for table in TABLES})]
SECTIONS = [
    "introduction",
    "method",
    "protocols",
    "results",
    "statements",
    "limitations",
    "reproducibility",
    "appendix",
]
ENVIRONMENT = "environment.yml"  # names what a rule needs; jobs run in the active environment that holds this checkout
TEX = find_tex()


report: "report/study.rst"


onsuccess:
    shell(
        "snakemake --snakefile {workflow.main_snakefile:q} --config scale={SCALE:q} records={RECORDS:q}"
        " --report results/report.html"
        " > logs/report.log 2>&1"
    )
    report = Path("results/report.html")
    copied = rf'"[^"]*/file{re.escape(str(workflow.basedir))}/'  # where Snakemake has copied what it reads to
    report.write_text(re.sub(copied, '"', report.read_text(encoding="utf-8")), encoding="utf-8")


if TEX is None:
    logger.info(f"No TeX was found, so all but paper/main.pdf is made. {tex_advice()}")


rule all:
    input:
        "paper/tables/ablation.tex",
        expand("figures/{figure}.pdf", figure=FIGURES),
        "paper/main.pdf" if TEX else [],
        "results/index.html",


rule fetch_model:
    """A pinned base model, checked at every step; half a minute, mostly dequantising."""
    output:
        "data/models/{model}/source.json",
    log:
        "logs/fetch/model-{model}.log",
    conda:
        ENVIRONMENT
    params:
        model=lambda wildcards: MODELS[wildcards.model],
        identity=lambda wildcards: source_identity("model", MODELS[wildcards.model]),
    shell:
        "hylorada fetch --model {params.model:q} 2>&1 | tee {log}"


rule fetch_corpus:
    """A pinned corpus, checked likewise; half a minute, mostly mark-up."""
    output:
        "data/corpora/{corpus}/source.json",
    log:
        "logs/fetch/corpus-{corpus}.log",
    conda:
        ENVIRONMENT
    params:
        corpus=lambda wildcards: CORPORA[wildcards.corpus],
        identity=lambda wildcards: source_identity("corpus", CORPORA[wildcards.corpus]),
    shell:
        "hylorada fetch --corpus {params.corpus:q} 2>&1 | tee {log}"


rule tokens:
    """A corpus in the ids of a model's tokenizer; seconds."""
    input:
        "data/models/{model}/source.json",
        "data/corpora/{corpus}/source.json",
    output:
        "data/tokens/{model}--{corpus}.npz",
    log:
        "logs/tokens/{model}--{corpus}.log",
    conda:
        ENVIRONMENT
    params:
        model=lambda wildcards: MODELS[wildcards.model],
        corpus=lambda wildcards: CORPORA[wildcards.corpus],
        identity=lambda wildcards: [
            source_identity("model", MODELS[wildcards.model]),
            source_identity("corpus", CORPORA[wildcards.corpus]),
        ],
        code=code_digest("hylorada.study.sources.tokens"),
    shell:
        "hylorada tokens --model {params.model:q} --corpus {params.corpus:q} > {log} 2>&1"


rule run:
    """The runs of one stage, or of one study, in one process; minutes at micro scale, records in results/runs."""
    input:
        lambda wildcards: {str(tokens_path(run.base, run.corpus, "data")) for run in CELLS[wildcards.cell]},
    output:
        "results/cells/{cell}.json",
    log:
        "logs/run/{cell}.log",
    benchmark:
        "results/benchmarks/{cell}.tsv"
    conda:
        ENVIRONMENT
    threads: SETTINGS.threads
    resources:
        gpu=1 if shutil.which("nvidia-smi") else 0,
        mem_mb=6000,
    params:
        scale=SCALE,
        runs=lambda wildcards: [run.name for run in CELLS[wildcards.cell]],
    shell:
        "hylorada run --scale {params.scale:q} --runs {params.runs:q} --summary {output}"
        " --progress results/progress 2>&1 | tee {log}"


rule table:
    """Every table and every number of the paper; seconds."""
    input:
        expand("results/cells/{cell}.json", cell=CELLS),
        workflow.source_path("benchmarks/cpu.json"),
    output:
        "paper/numbers.tex",
        expand("paper/tables/{table}.tex", table=[*TABLES, *BESIDE]),
        report("results/tables/ablation.csv", category="Tables", caption="report/ablation.rst"),
        report(
            expand("results/tables/{table}.csv", table=[table for table in TABLES if table != "ablation"]),
            category="Tables",
            caption="report/study_table.rst",
        ),
    log:
        "logs/table.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        records=RECORDS,
        code=[code_digest(module) for module in TABLE_CODE],
    shell:
        "hylorada table --scale {params.scale:q} --records {params.records:q} > {log} 2>&1"


rule figure:
    """Every figure, as PDF for the paper and PNG for the report; seconds, most of them spent once for all."""
    input:
        expand("results/cells/{cell}.json", cell=CELLS),
        workflow.source_path("benchmarks/cpu.json"),
    output:
        expand("figures/{figure}.pdf", figure=FIGURES),
        [
            report(f"figures/{name}.png", category="Figures", labels={"figure": name, "shows": row.caption})
            for name, row in FIGURES.items()
        ],
    log:
        "logs/figure.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        records=RECORDS,
        code=[code_digest(module) for module in sorted({row.module for row in FIGURES.values()})],
    shell:
        "hylorada figure --scale {params.scale:q} --records {params.records:q} > {log} 2>&1"


rule claims:
    """Every published statement judged by code; seconds."""
    input:
        expand("results/cells/{cell}.json", cell=CELLS),
        workflow.source_path("paper/claims.yaml"),
        workflow.source_path("benchmarks/cpu.json"),
    output:
        "results/claims.json",
        expand("paper/tables/{table}.tex", table=[*JUDGED, "claims_numbers"]),
        report("results/tables/claims.csv", category="Tables", caption="report/claims.rst"),
        pdf="figures/published_numbers.pdf",
        png=report("figures/published_numbers.png", category="Figures", caption="report/claims_figure.rst"),
    log:
        "logs/claims.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        records=RECORDS,
        code=[code_digest(f"hylorada.study.paper.{part}") for part in ("verdicts", "sentences.claims")],
    shell:
        "hylorada claims --scale {params.scale:q} --records {params.records:q} > {log} 2>&1"


rule page:
    """Claims, tables, figures and the runs behind each number on one self-contained page; seconds."""
    input:
        "results/claims.json",
        workflow.source_path("paper/claims.yaml"),
        expand("results/tables/{table}.csv", table=TABLES),
        expand("figures/{figure}.png", figure=[*FIGURES, "published_numbers"]),
        [workflow.source_path(f"report/page.{part}") for part in ("html", "css", "js")],
        "paper/main.pdf" if TEX else [],  # the page leads to it
    output:
        report("results/index.html", category="Page", caption="report/page.rst"),
    log:
        "logs/page.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        records=RECORDS,
        code=code_digest("hylorada.study.page.inputs"),
    shell:
        "hylorada page --scale {params.scale:q} --records {params.records:q} > {log} 2>&1"


rule paper:
    """The paper; seconds, with latexmk, the tinytex package or tectonic."""
    input:
        expand("figures/{figure}.pdf", figure=FIGURES),
        expand("paper/tables/{table}.tex", table=[*TABLES, *BESIDE, *JUDGED, "claims_numbers"]),
        "figures/published_numbers.pdf",
        "paper/numbers.tex",
        workflow.source_path("paper/main.tex"),
        workflow.source_path("paper/references.tex"),
        [workflow.source_path(f"paper/sections/{part}.tex") for part in SECTIONS],
    output:
        report("paper/main.pdf", category="Paper", caption="report/paper.rst"),
    log:
        "logs/paper.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("hylorada.study.paper.compile"),
    shell:
        "hylorada paper > {log} 2>&1"
