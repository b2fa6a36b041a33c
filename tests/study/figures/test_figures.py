"""What the figures show, and that they are the same bytes whenever they are drawn."""

import colorsys
import re
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from fake_records import fake_study
from fake_studies import (
    base_records,
    by_layers,
    by_length,
    by_part_rate,
    by_rank,
    by_rate,
    points,
    study_records,
)
from matplotlib.text import Text
from repository import ROOT, printed

from hylorada.errors import HyLoRADAError
from hylorada.study.figures.ablation import _edges, ablation, position_nll, study_rows
from hylorada.study.figures.rows import BENCHMARK, FIGURES, OWN, figure_row, figures_of
from hylorada.study.figures.style import COLOURS, MARKERS, PAGE, PALETTE, save_figure
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.records.records import load_records
from hylorada.study.results.tables import ablation_table


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    results = tmp_path_factory.mktemp("study")
    return load_records(fake_study(results)[1], results)


@pytest.fixture(scope="module")
def inputs(records, stages, places, benchmark):
    """What each kind of figure is drawn from."""
    studies = {
        "rates": study_records("rates", by_rate),
        "part_rates": study_records("part_rates", by_part_rate, seeds=2),
        "ranks": study_records("ranks", by_rank),
        "context": study_records("context", by_length),
        "long_context": study_records("long_context", by_length),
        "modules": study_records("modules", by_layers),
        "modules_gpt2": study_records("modules_gpt2", by_layers),
        "bases": base_records(),
        "places": (places, STAGES),
        "single_fixes": (places, STAGES),
        "ablation": (stages, STAGES),
        BENCHMARK: (benchmark,),
    }
    with_tokens = ("ablation", "position_nll")
    return {name: (records, STAGES) if name in with_tokens else studies[row.reads] for name, row in OWN.items()} | {
        "direct": (records, STAGES),
        "effects": (records, STAGES, {"controls": (records, STAGES)}),
    }


DRAWN = [*OWN, "direct"]  # a study's dots are all drawn alike


@pytest.fixture(scope="module", params=DRAWN)
def twice(inputs, request, tmp_path_factory):
    """A figure, drawn and saved twice, with the folder and its name; settings and random numbers are as they were."""
    folder, before, random = tmp_path_factory.mktemp(request.param), dict(mpl.rcParams), torch.get_rng_state()
    for run in ("a", "b"):
        figure = FIGURES[request.param].draw(*inputs[request.param])
        save_figure(figure, folder / run / request.param)
    assert dict(mpl.rcParams) == before and torch.get_rng_state().equal(random)
    return figure, folder, request.param


@pytest.mark.parametrize("stage", list(STAGES)[1:])
def test_every_seed_is_a_dot_at_its_perplexity(records, stage):
    measured = records.frame.query("stage == @stage")["perplexity"].sort_values()
    np.testing.assert_allclose(points(ablation(records, STAGES).axes[0], MARKERS[stage]), measured, rtol=1e-6)


def test_stages_stand_in_order_with_the_base_on_top_and_as_the_dashed_line(records):
    axes = ablation(records, STAGES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [stage.label for stage in STAGES.values()]
    assert axes.yaxis_inverted()
    base = records.frame["perplexity"][0]
    assert points(axes, MARKERS["base"]) == pytest.approx([base])
    vertical = [line for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert vertical[0].get_xdata()[0] == pytest.approx(base) and vertical[0].is_dashed()


def test_the_mean_lies_in_its_interval_and_is_the_tables(records):
    axes, means = ablation(records, STAGES).axes[0], ablation_table(records)["perplexity"][1:]
    assert points(axes, "|") == pytest.approx(sorted(means))
    bars = [line.get_xdata() for line in axes.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    assert len(bars) == 5
    assert all(low < mean < high for (low, high), mean in zip(bars, means, strict=True))


def test_one_seed_is_drawn_without_interval(tmp_path):
    one = load_records(fake_study(tmp_path, seeds=1)[1], tmp_path)
    axes = ablation(one, STAGES).axes[0]
    assert not [line for line in axes.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    assert len(points(axes, MARKERS["rslora"])) == 1
    assert len(position_nll(one, STAGES).axes[1].lines) == 1 + 5


def test_every_row_of_a_study_is_drawn_from_the_row_it_is_held_against(records):
    """The ablation's own stages as the rows of a study, so that the records are at hand."""
    axes = study_rows(records, STAGES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.label for row in STAGES.values()]
    table = ablation_table(records)
    assert sorted(points(axes, "o")) == pytest.approx(sorted(records.frame["perplexity"][1:]))
    starts = [line.get_xdata()[0] for line in axes.lines if line.is_dashed()]
    perplexity = dict(zip(table["stage"], table["perplexity"], strict=True))
    assert starts == pytest.approx([perplexity[row.against] for row in STAGES.values() if row.against])
    bars = [line for line in axes.lines if line.get_color() == "black" and line.get_marker() == "None"]
    assert len(bars) == 5


def test_the_bins_hold_every_position_once_and_only_the_first_and_last_break_the_steps():
    for last in range(1, 1100):
        edges = _edges(last)
        assert edges[0] == 1 and edges[-1] == last + 1 and (np.diff(edges) > 0).all()
        assert all(right / left < 2.1 for left, right in pairwise(edges[1:]))


def test_the_curves_are_the_mean_over_seeds_and_their_difference_from_the_base(records):
    level, difference = position_nll(records, STAGES).axes[:2]
    thick = {line.get_label(): line.get_ydata() for line in level.lines if not line.get_label().startswith("_")}
    shown = {line.get_label(): line.get_ydata() for line in difference.lines if not line.get_label().startswith("_")}
    base = records.nll("base", None)
    tokens = base.nll_by_position(_edges(base.context.max()), by="context")[1]
    assert set(thick) == {stage.label for stage in STAGES.values()}
    for label, curve in shown.items():
        np.testing.assert_allclose(curve, thick[label] - thick["base model"], atol=1e-12)
    effect = np.log1p(ablation_table(records).set_index("label").loc["+ landmarks", "effect_on_base"] / 100)
    assert np.average(shown["+ landmarks"], weights=tokens) == pytest.approx(effect, rel=1e-4)


def test_each_seed_has_a_thin_line(records):
    thin = [line for line in position_nll(records, STAGES).axes[0].lines if line.get_linewidth() < 1]
    assert len(thin) == 5 * 3


def test_equal_records_give_equal_bytes(twice):
    _, folder, name = twice
    for ending in ("pdf", "png"):
        first, second = ((folder / run / f"{name}.{ending}").read_bytes() for run in ("a", "b"))
        assert first == second and b"CreationDate" not in first and b"/Type3" not in first
    assert sorted(path.name for path in (folder / "a").iterdir()) == [f"{name}.pdf", f"{name}.png"]


def test_text_is_legible_in_print_and_inside_the_figure(twice):
    figure = twice[0]
    assert figure.get_figwidth() <= PAGE
    inside = figure.bbox.padded(1)
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert all(text.get_fontsize() >= 7 for text in shown)
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [legend.get_window_extent() for legend in figure.legends]
    for box in boxes:
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1


def test_axes_say_what_they_count(twice):
    figure = twice[0]
    shared = figure.get_supxlabel(), figure.get_supylabel()
    rows, columns = (any(getattr(axes, f"get_{side}label")() for axes in figure.axes) for side in "yx")
    named_rows = any(re.search("[a-z]", tick.get_text()) for axes in figure.axes for tick in axes.get_yticklabels())
    assert (columns or shared[0]) and (rows or named_rows or shared[1])


def test_stages_are_told_apart_in_grey_print():
    assert list(COLOURS) == list(STAGES) == list(MARKERS)
    lightness = [_grey(colour) for colour in PALETTE]
    assert all(darker + 0.08 < lighter for darker, lighter in pairwise(lightness)) and lightness[-1] < 0.8
    assert len(set(MARKERS.values())) == len(STAGES)


@pytest.mark.parametrize("scale", [path.stem for path in (ROOT / "config").glob("*.yaml")])
def test_a_scale_offers_the_figures_of_its_studies_and_measures(scale):
    settings = load_settings(scale)
    offered = figures_of(settings)
    assert {"ablation", "bucket_map", "s2_cost", *settings.studies} <= set(offered)
    for name in offered:
        reads = FIGURES[name].reads
        assert reads in (BENCHMARK, *settings.tables)
        assert FIGURES[name].measure in (None, *(settings.for_study(reads) if reads in STUDIES else settings).measures)
    without = replace(settings, studies={})
    assert {FIGURES[name].reads for name in figures_of(without)} == {"ablation", BENCHMARK}


def test_a_figure_that_a_scale_does_not_have_is_refused_on_one_line():
    settings = replace(load_settings("smoke"), studies={"places": {"measures": {"shifts": 2}}})
    assert figure_row(settings, "shifted_windows") is FIGURES["shifted_windows"]
    for name, lacking in (("learning_rates", "study 'rates'"), ("retrieval", "study 'places' with the measure")):
        with pytest.raises(HyLoRADAError, match=f"^figure '{name}' reads the {lacking}[^\n]*'smoke' does not"):
            figure_row(settings, name)
    with pytest.raises(HyLoRADAError, match="did you mean 'ablation'"):
        figure_row(settings, "ablatoin")


@pytest.mark.parametrize("name", FIGURES)
def test_every_row_has_its_function_a_question_and_a_key(name):
    row = FIGURES[name]
    assert callable(row.draw) and row.draw.__module__ == row.module
    assert row.reads in (BENCHMARK, *STUDIES)
    assert "?" in row.caption and row.caption.endswith(".") and len(row.caption.split()) > 12


def test_the_list_of_figures_needs_nothing_heavy():
    code = "import hylorada.study.figures.rows, sys; print(*sys.modules)"
    loaded = printed(code)
    assert "hylorada.study.figures.rows" in loaded.split()
    assert {"torch", "matplotlib", "pandas", "seaborn", "scipy"} & set(loaded.split()) == set()


def _grey(colour: str) -> float:
    """Luma, 0 black to 1 white."""
    return colorsys.rgb_to_yiq(*mpl.colors.to_rgb(colour))[0]
