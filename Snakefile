"""The whole study: base model and text, tokens, six stages, table, figures, paper. `snakemake --cores all` makes it.

Every rule calls the command a person would type. What a run is, and the name of the file that says it is done, comes
from its identity (settings, data, code), so a result of other settings, data or code is never taken for this one.
"""

import shutil

from hylorada.study.encode import tokens_path
from hylorada.study.plan import cell_name, plan
from hylorada.study.provenance import code_digest
from hylorada.study.settings import load_settings
from hylorada.study.sources import corpus_folder, model_folder, source_identity
from hylorada.study.tex import find_tex, tex_advice

SCALE = config.get("scale", "micro")
SETTINGS = load_settings(SCALE)
CELLS = {cell_name(runs): stage for stage, runs in plan(SETTINGS).items()}
MODEL = model_folder(SETTINGS.base, "data") / "source.json"
CORPUS = corpus_folder(SETTINGS.corpus, "data") / "source.json"
TOKENS = tokens_path(SETTINGS.base, SETTINGS.corpus, "data")
FIGURES = ["ablation", "position_nll"]
ENVIRONMENT = "environment.yml"  # names what a rule needs; jobs run in the active environment that holds this checkout
SOURCES = [source_identity("model", SETTINGS.base), source_identity("corpus", SETTINGS.corpus)]
TEX = find_tex()


report: "report/study.rst"


onsuccess:
    shell(
        "snakemake --snakefile {workflow.main_snakefile:q} --config scale={SCALE} --report results/report.html"
        " > logs/report.log 2>&1"
    )


if TEX is None:
    logger.info(f"No TeX was found, so all but paper/main.pdf is made. {tex_advice()}")


rule all:
    input:
        "paper/tables/ablation.tex",
        expand("figures/{figure}.pdf", figure=FIGURES),
        "paper/main.pdf" if TEX else [],


rule fetch:
    """The pinned base model and corpus, checked at every step; a minute, mostly dequantising and mark-up."""
    output:
        model=MODEL,
        corpus=CORPUS,
    log:
        "logs/fetch.log",
    conda:
        ENVIRONMENT
    params:
        model=SETTINGS.base,
        corpus=SETTINGS.corpus,
        identity=SOURCES,
    shell:
        "hylorada fetch --model {params.model:q} --corpus {params.corpus:q} 2>&1 | tee {log}"


rule tokens:
    """The corpus in the ids of the model's tokenizer; seconds."""
    input:
        MODEL,
        CORPUS,
    output:
        TOKENS,
    log:
        "logs/tokens.log",
    conda:
        ENVIRONMENT
    params:
        model=SETTINGS.base,
        corpus=SETTINGS.corpus,
        identity=SOURCES,
        code=code_digest("hylorada.study.tokens"),
    shell:
        "hylorada tokens --model {params.model:q} --corpus {params.corpus:q} > {log} 2>&1"


rule run:
    """All seeds of one stage in one process, trained and evaluated; minutes at micro scale, records in results/runs."""
    input:
        MODEL,
        TOKENS,
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
        mem_mb=4000,
    params:
        scale=SCALE,
        stage=lambda wildcards: CELLS[wildcards.cell],
    shell:
        "hylorada run --scale {params.scale} --stage {params.stage} --summary {output} 2>&1 | tee {log}"


rule table:
    """The ablation table and every number of the paper; seconds."""
    input:
        expand("results/cells/{cell}.json", cell=CELLS),
    output:
        "paper/numbers.tex",
        "paper/tables/ablation.tex",
        report("results/tables/ablation.csv", category="Tables", caption="report/ablation.rst"),
    log:
        "logs/table.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        code=[code_digest("hylorada.study.tables"), code_digest("hylorada.study.numbers")],
    shell:
        "hylorada table --scale {params.scale} > {log} 2>&1"


rule figure:
    """One figure, as PDF for the paper and PNG for the report; seconds."""
    input:
        expand("results/cells/{cell}.json", cell=CELLS),
    output:
        pdf="figures/{figure}.pdf",
        png=report("figures/{figure}.png", category="Figures", caption="report/figure.rst"),
    log:
        "logs/figure/{figure}.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE,
        code=code_digest("hylorada.study.figures"),
    shell:
        "hylorada figure {wildcards.figure} --scale {params.scale} > {log} 2>&1"


rule paper:
    """The paper; seconds, with latexmk, the tinytex package or tectonic."""
    input:
        expand("figures/{figure}.pdf", figure=FIGURES),
        "paper/tables/ablation.tex",
        "paper/numbers.tex",
        workflow.source_path("paper/main.tex"),
        workflow.source_path("paper/references.tex"),
    output:
        report("paper/main.pdf", category="Paper", caption="report/paper.rst"),
    log:
        "logs/paper.log",
    conda:
        ENVIRONMENT
    params:
        code=code_digest("hylorada.study.tex"),
    shell:
        "hylorada paper > {log} 2>&1"
