"""Finding a TeX, compiling with it, and what the paper's source may and may not say."""

import re
import shutil
from pathlib import Path

import pytest
from paper_text import MAIN, source

from hylorada.errors import HyLoRADAError
from hylorada.study.paper.compile import Engine, build_pdf, find_tex, macros, tex_advice

TEX = find_tex({"PATH": ""}) or find_tex()  # the locked engine first: it is the one every machine has
needs_tex = pytest.mark.skipif(TEX is None, reason="no TeX engine runs on this platform")
FLOATS = "".join(
    rf"\define{{fig:{name}}}{{\begin{{figure}}[t]\includegraphics{{figures/{name}.pdf}}\caption{{A}}\label{{fig:{name}}}"
    r"\end{figure}}"
    for name in ("ablation", "position_nll")  # those that the text refers to
)
PAGE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{lmodern}
\input{numbers}
\begin{document}
Measured: \HyPerplexity. %s
\end{document}
"""


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """A one-page paper, its number, and no figures."""
    (tmp_path / "numbers.tex").write_text(r"\newcommand{\HyPerplexity}{seven}")
    main = tmp_path / "main.tex"
    main.write_text(PAGE % "")
    return main


def build(main: Path, out: Path, engine: Engine | None = TEX) -> list[str]:
    return build_pdf(main, out, engine, generated=main.parent, figures=main.parent / "figures")


def test_none_turns_tex_off():
    assert find_tex({"HYLORADA_TEX": "none", "PATH": "/usr/bin"}) is None


def test_an_unknown_engine_is_named_with_its_near_match():
    with pytest.raises(HyLoRADAError, match="'tectonik'.*did you mean 'tectonic'"):
        find_tex({"HYLORADA_TEX": "tectonik"})


def test_an_engine_that_is_asked_for_and_absent_is_an_error():
    with pytest.raises(HyLoRADAError, match="latexmk is not on this machine"):
        find_tex({"HYLORADA_TEX": "latexmk", "PATH": ""})


def test_latexmk_is_taken_only_with_its_pdflatex(tmp_path):
    for tool in ("latexmk", "pdflatex"):
        engine = find_tex({"PATH": str(tmp_path)})
        assert engine is None or engine.name != "latexmk"
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    assert find_tex({"PATH": str(tmp_path)}).name == "latexmk"


def test_no_engine_is_one_message_with_the_command_that_helps(paper, tmp_path):
    with pytest.raises(HyLoRADAError, match=re.escape(tex_advice())):
        build(paper, tmp_path / "out.pdf", engine=None)


def test_a_generated_input_that_is_absent_is_named_with_the_command_that_makes_it(paper, tmp_path):
    (tmp_path / "numbers.tex").unlink()
    with pytest.raises(HyLoRADAError, match=r"numbers\.tex, which is not there; `make paper`"):
        build(paper, tmp_path / "out.pdf", engine=Engine("never run", ("false",)))


def test_numbers_of_another_scale_are_never_taken_from_the_papers_own_folder(paper, tmp_path):
    elsewhere = tmp_path / "full"
    with pytest.raises(HyLoRADAError, match=r"full/numbers\.tex"):
        build_pdf(paper, tmp_path / "out.pdf", Engine("never run", ("false",)), generated=elsewhere, figures=elsewhere)


@needs_tex
def test_equal_sources_give_equal_bytes_wherever_they_lie(paper, tmp_path):
    build(paper, tmp_path / "a.pdf")
    moved = shutil.copytree(tmp_path, tmp_path / "elsewhere")
    build(moved / "main.tex", moved / "b.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (moved / "b.pdf").read_bytes()
    assert not [path for path in (tmp_path / "build").iterdir() if path.name != "a.log"]


@needs_tex
def test_references_are_resolved_and_numbers_come_from_the_generated_file(paper, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    paper.write_text(PAGE % r"\section{One}\label{one} See section~\ref{one}.")
    assert build(paper, tmp_path / "out.pdf") == []
    text = pypdf.PdfReader(tmp_path / "out.pdf").pages[0].extract_text()
    assert "Measured: seven" in text and "See section 1." in " ".join(text.split())


@needs_tex
@pytest.mark.parametrize(
    ("body", "said"),
    [(r"\ref{nowhere}", "Reference.*nowhere"), (r"\cite{nobody}", "Citation.*nobody"), (r"\Nonsense", "Undefined")],
)
def test_what_tex_cannot_resolve_raises_and_leaves_the_old_pdf(paper, tmp_path, body, said):
    out = tmp_path / "out.pdf"
    out.write_bytes(b"old")
    paper.write_text(PAGE % body)
    with pytest.raises(HyLoRADAError, match=said) as caught:
        build(paper, out)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"old"
    assert (tmp_path / "build" / "out.log").exists()


@needs_tex
def test_a_box_that_sticks_out_is_reported(paper, tmp_path):
    paper.write_text(PAGE % r"\par\noindent\hbox to 2\textwidth{wide}\par")
    assert "too wide" in build(paper, tmp_path / "out.pdf")[0]


@needs_tex
def test_the_paper_compiles_with_stand_ins_and_nothing_sticks_out(tmp_path):
    """A scale without any further study: every macro is a word, every table two cells, and no float is defined."""
    text = source()
    words = "".join(rf"\newcommand{{\{name}}}{{word}}" + "\n" for name in sorted(macros(text)))
    rows = {name: r"\item Nothing." for name in ("absent",)} | {name: "" for name in ("claims", "contradictions")}
    rows |= {"claims_numbers": "", "floats": FLOATS}
    table = "\\begin{tabular}{lr}\\toprule a & b\\\\\\midrule c & d\\\\\\bottomrule\\end{tabular}"
    (tmp_path / "tables").mkdir()
    for name in re.findall(r"\\input\{tables/(\w+)\}", text):
        (tmp_path / "tables" / f"{name}.tex").write_text(rows.get(name, table))
    (tmp_path / "numbers.tex").write_text(words)
    for name in ("ablation", "position_nll", "published_numbers"):
        blank_pdf(tmp_path / f"{name}.pdf")
    assert build_pdf(MAIN, tmp_path / "paper.pdf", TEX, generated=tmp_path, figures=tmp_path) == []
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def blank_pdf(path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(width=200, height=100)
    writer.write(path)
