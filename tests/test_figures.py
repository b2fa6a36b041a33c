"""What the figures show, and that they are the same bytes whenever they are drawn."""

import colorsys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from fake_records import fake_study
from matplotlib.text import Text

from hylorada.study.figures import COLOURS, FIGURES, MARKERS, _edges, ablation, position_nll, save_figure, study_rows
from hylorada.study.records import load_records
from hylorada.study.stages import STAGES
from hylorada.study.studies import Row
from hylorada.study.tables import ablation_table


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    results = tmp_path_factory.mktemp("study")
    return load_records(fake_study(results)[1], results)


def points(axes, marker: str) -> list[float]:
    return sorted(x for line in axes.lines if line.get_marker() == marker for x in line.get_xdata())


@pytest.mark.parametrize("stage", list(STAGES)[1:])
def test_every_seed_is_a_dot_at_its_perplexity(records, stage):
    measured = records.frame.query("stage == @stage")["perplexity"].sort_values()
    np.testing.assert_allclose(points(ablation(records).axes[0], MARKERS[stage]), measured, rtol=1e-6)


def test_stages_stand_in_order_with_the_base_on_top_and_as_the_dashed_line(records):
    axes = ablation(records).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [stage.label for stage in STAGES.values()]
    assert axes.yaxis_inverted()
    base = records.frame["perplexity"][0]
    assert points(axes, MARKERS["base"]) == pytest.approx([base])
    vertical = [line for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert vertical[0].get_xdata()[0] == pytest.approx(base) and vertical[0].is_dashed()


def test_the_mean_lies_in_its_interval_and_is_the_tables(records):
    axes, means = ablation(records).axes[0], ablation_table(records)["perplexity"][1:]
    assert points(axes, "|") == pytest.approx(sorted(means))
    bars = [line.get_xdata() for line in axes.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    assert len(bars) == 5
    assert all(low < mean < high for (low, high), mean in zip(bars, means, strict=True))


def test_one_seed_is_drawn_without_interval(tmp_path):
    one = load_records(fake_study(tmp_path, seeds=1)[1], tmp_path)
    axes = ablation(one).axes[0]
    assert not [line for line in axes.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    assert len(points(axes, MARKERS["rslora"])) == 1
    assert len(position_nll(one).axes[1].lines) == 1 + 5


def test_every_row_of_a_study_is_drawn_from_the_row_it_is_held_against(records):
    """The ablation's own stages as the rows of a study, so that the records are at hand."""
    rows = {name: Row(label=stage.label, adapter=stage.adapter, against=stage.on) for name, stage in STAGES.items()}
    axes = study_rows(records, rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.label for row in rows.values()]
    table = ablation_table(records)
    assert sorted(points(axes, "o")) == pytest.approx(sorted(records.frame["perplexity"][1:]))
    starts = [line.get_xdata()[0] for line in axes.lines if line.is_dashed()]
    perplexity = dict(zip(table["stage"], table["perplexity"], strict=True))
    assert starts == pytest.approx([perplexity[row.against] for row in rows.values() if row.against])
    bars = [line for line in axes.lines if line.get_color() == "black" and line.get_marker() == "None"]
    assert len(bars) == 5


def test_the_bins_hold_every_position_once_and_only_the_first_and_last_break_the_steps():
    for last in range(1, 1100):
        edges = _edges(last)
        assert edges[0] == 1 and edges[-1] == last + 1 and (np.diff(edges) > 0).all()
        assert all(right / left < 2.1 for left, right in pairwise(edges[1:]))


def test_the_curves_are_the_mean_over_seeds_and_their_difference_from_the_base(records):
    level, difference = position_nll(records).axes[:2]
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
    thin = [line for line in position_nll(records).axes[0].lines if line.get_linewidth() < 1]
    assert len(thin) == 5 * 3


@pytest.mark.parametrize("name", FIGURES)
def test_equal_records_give_equal_bytes(records, name, tmp_path):
    for folder in ("a", "b"):
        save_figure(FIGURES[name](records), tmp_path / folder / name)
    for ending in ("pdf", "png"):
        first, second = ((tmp_path / folder / f"{name}.{ending}").read_bytes() for folder in ("a", "b"))
        assert first == second and b"CreationDate" not in first
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{name}.pdf", f"{name}.png"]


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_in_print_and_inside_the_figure(records, name):
    figure = FIGURES[name](records)
    figure.draw_without_rendering()
    inside = figure.bbox.padded(1)
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            assert text.get_fontsize() >= 7
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_changes_no_setting_of_the_readers(records, name, tmp_path):
    before = dict(mpl.rcParams)
    save_figure(FIGURES[name](records), tmp_path / name)
    assert dict(mpl.rcParams) == before


def test_stages_are_told_apart_in_grey_print():
    assert list(COLOURS) == list(STAGES) == list(MARKERS)
    lightness = [_grey(colour) for colour in COLOURS.values()]
    assert all(darker + 0.08 < lighter for darker, lighter in pairwise(lightness)) and lightness[-1] < 0.8
    assert len(set(MARKERS.values())) == len(STAGES)


def _grey(colour: str) -> float:
    """Luma, 0 black to 1 white."""
    return colorsys.rgb_to_yiq(*mpl.colors.to_rgb(colour))[0]
