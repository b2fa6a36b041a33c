"""What the figures of buckets, gates, metrics, places, rates, scaling and cost claim: the numbers they show."""

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_studies import (
    BEST,
    LEVELS,
    PLACES,
    base_records,
    by_layers,
    by_length,
    by_rank,
    by_rate,
    change,
    points,
    stage_records,
    study_records,
    texts,
)

from hylorada.errors import HyLoRADAError
from hylorada.metrics import PERPLEXITIES
from hylorada.positions import FixedBuckets
from hylorada.study.figures.cost import s2_cost
from hylorada.study.figures.landmarks import bucket_map, landmark_gates
from hylorada.study.figures.metrics import gain_by_kind, metric_bridge
from hylorada.study.figures.places import end_token, retrieval, shifted_windows
from hylorada.study.figures.rates import learning_rates
from hylorada.study.figures.scaling import base_scaling, context_scaling, module_scaling, rank_scaling
from hylorada.study.figures.style import COLOURS
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.sweeps import RATES
from hylorada.study.results.rates import best_rates, tuned_rates


def test_the_bucket_map_says_how_many_buckets_one_window_reaches(stages):
    figure = bucket_map(stages, STAGES)
    said = dict(axes.get_title().split("\n") for axes in figure.axes if "\n" in axes.get_title())
    window = stages.record("landmarks", 0).specification.block_tokens
    for title, spacing, length in (
        ("logarithmic", "log", window),
        ("linear", "linear", window),
        ("linear over 32,768", "linear", 32_768),
    ):
        reached = len(set(FixedBuckets(32, length, spacing)(torch.arange(window)).tolist()))
        assert said[title] == f"reaches {reached} of 32"
    assert said["linear over 32,768"] == "reaches 1 of 32"
    assert re.fullmatch(r"\d+ to \d+ at once", said["learnable, trained"])
    shares = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(shares) == 5
    for weights in shares:  # (buckets, positions)
        assert weights.shape == (32, window)
        np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-5)


def test_every_seeds_boundaries_are_drawn_from_where_they_began(stages):
    axes = next(axes for axes in bucket_map(stages, STAGES).axes if axes.get_title().startswith("learned boundaries"))
    even = np.arange(1, 32) / 32
    thin = [line for line in axes.lines if line.get_marker() == "."]
    assert len(thin) == 3
    for seed, line in enumerate(thin):
        np.testing.assert_allclose(line.get_xdata(), 512 * even, rtol=1e-5)
        learned = np.array(stages.record("learned_buckets", seed).learned["landmark.boundaries"])
        np.testing.assert_allclose(line.get_ydata(), 512 * (learned - even), atol=1e-3)


def test_a_landmarks_share_is_the_softmax_of_its_places_gates(stages):
    fixed = landmark_gates(stages, STAGES).axes[0]
    gates = np.exp(np.array(stages.record("landmarks", 2).learned["landmark.position_gates"]))  # (buckets, landmarks)
    shares = 100 * gates / gates.sum(axis=1, keepdims=True)
    bucket = np.floor(32 * np.log1p(np.arange(512)) / np.log1p(512)).astype(int).clip(max=31)
    levels = [{y for (_, y), _ in lines.get_segments()} for lines in fixed.collections[1:]]
    assert len(levels) == 3 * 8, "a set of lines for each landmark of each seed"
    for landmark, shown in enumerate(levels[16:]):
        assert sorted(shown) == pytest.approx(sorted(set(shares[bucket, landmark])), rel=1e-5)
    (dark,) = (line.get_ydata() for line in fixed.lines if len(line.get_ydata()) == 512)
    assert np.ptp(dark) == pytest.approx(max(max(shown) - min(shown) for shown in levels), rel=1e-5)


def test_the_soft_buckets_have_a_line_for_each_landmark_of_each_seed(stages):
    soft = landmark_gates(stages, STAGES).axes[1]
    lines = [line.get_ydata() for line in soft.lines if len(line.get_ydata()) == 512]
    assert len(lines) == 3 * 8 + 1
    np.testing.assert_allclose(np.sum(lines[:-1], axis=0), 3 * 100, rtol=1e-5)


def test_gates_are_refused_where_no_stage_has_any(places):
    with pytest.raises(HyLoRADAError, match="^neither of landmarks, learned_buckets has a record[^\n]*$"):
        landmark_gates(stage_records(stages=("base", "rslora")), STAGES)
    assert len(landmark_gates(places, STAGES).axes) == 1
    with pytest.raises(HyLoRADAError, match="^no record of stage 'learned_buckets'"):
        bucket_map(places, STAGES)


def test_the_bridge_shows_six_perplexities_of_every_seed_on_both_texts(stages):
    articles, lines, _ = metric_bridge(stages, STAGES).axes
    assert [label.get_text() for label in articles.get_yticklabels()] == [
        metric.words for metric in PERPLEXITIES.values()
    ]
    for row, name in enumerate(PERPLEXITIES):
        base = stages.record("base", None).results[name]
        found = [stages.record("rslora", seed).results[name] for seed in range(3)]
        shown = {(x, round(y - row, 2)) for line in articles.lines for x, y in zip(*line.get_data(), strict=True)}
        assert {(base, -0.17), *((value, 0.17) for value in found)} <= shown
        first, last = map(float, texts(articles)[row].split(" → "))
        assert first == pytest.approx(base, rel=5e-3) and min(found) * 0.995 <= last <= max(found) * 1.005
    assert texts(lines)[3] == "none", "no line is long enough for deciles"


def test_the_worst_texts_add_up_and_stand_beside_what_alike_ones_would_have(stages):
    shares = metric_bridge(stages, STAGES).axes[2]
    widths = [bar.get_width() for bar in shares.patches]
    expected = [100 * sum(3 - 0.4 * i for i in range(5)) / texts for texts in (13, 13, 200, 200)]
    assert widths == pytest.approx(expected)
    alike = [lines.get_segments()[0][0][0] for lines in shares.collections if len(lines.get_segments()) == 1]
    assert alike == pytest.approx([100 * 5 / 13, 100 * 5 / 200])


def test_without_the_lines_the_bridge_is_that_of_the_articles():
    records = stage_records()
    for key, record in records.by_run.items():
        change(records, key, measures=replace(record.measures, lines=None))
    assert [axes.get_title() for axes in metric_bridge(records, STAGES).axes] == ["whole articles", "five worst texts"]


def test_the_parts_of_a_gain_add_up_to_it(stages):
    own, whole = gain_by_kind(stages, STAGES).axes
    shares = {"s": 0.2, "o": 0.8}  # of layout and words among the tokens, by their marks

    def means(axes, marker):
        return [line.get_xdata()[0] for line in axes.lines if (line.get_marker(), line.get_markersize()) == (marker, 5)]

    for marker, share in shares.items():
        np.testing.assert_allclose(means(whole, marker), share * np.array(means(own, marker)))
    total = [line.get_xdata()[0] for line in whole.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(np.sum([means(whole, marker) for marker in shares], axis=0), total)
    assert len(total) == 5 and max(total) < 0
    small = Counter(len(line.get_xdata()) for line in own.lines if line.get_markersize() == 2.5)
    assert small == {3: 5 * 2}, "each stage's seeds, on each kind that has tokens"


def test_p_end_is_drawn_by_seed_with_its_cost(places):
    axes = end_token(places, STAGES).axes[0]
    means = [places.record(*key).measures.end_token.mean for key in places.by_run]
    assert points(axes, "o") == pytest.approx(sorted(means))
    assert len(points(axes, ">")) == len(means)
    assert texts(axes)[0] == "+0.01 %"
    places = stage_records(stages=("base",))
    measured = places.record("base", None).measures
    endless = replace(measured, end_token=replace(measured.end_token, perplexity_factor=None))
    change(places, ("base", None), measures=endless)
    assert texts(end_token(places, STAGES).axes[0])[0] == "infinite"


def test_shifted_windows_show_the_same_tokens_in_each_part(places):
    level, difference = shifted_windows(places, STAGES).axes
    base = next(line for line in level.lines if line.get_label() == "base model")
    assert list(base.get_xdata()) == [64, 192, 320, 448] and len(level.lines) == 4 + 3 * 3
    np.testing.assert_allclose(base.get_ydata(), places.record("base", None).measures.shifts.nll)
    changes = {line.get_label(): line.get_ydata() for line in difference.lines}
    expected = np.log(LEVELS["landmarks"] / LEVELS["base"]) + 0.002
    np.testing.assert_allclose(changes["+ landmarks"], expected)


def test_retrieval_stands_beside_chance_with_the_intervals_of_the_record(places):
    figure = retrieval(places, STAGES)
    assert len(figure.axes) == 3 * len(PLACES)
    found = places.record("base", None).measures.retrieval["key_value"].places
    for row, size in enumerate((4, 8)):
        base = figure.axes[row * len(PLACES)]
        bars = [tuple(line.get_ydata()) for line in base.lines if len(line.get_ydata()) == 2 and not line.is_dashed()]
        assert bars == [pytest.approx((100 * p.low, 100 * p.high)) for p in found if p.size == size]
        (chance,) = {line.get_ydata()[0] for line in base.lines if line.is_dashed()}
        assert chance == pytest.approx(100 / size)
    rslora = figure.axes[1]
    small = [line for line in rslora.lines if line.get_markersize() == 2.5]
    assert len(small) == 5 * 3, "every seed is a point at every depth"
    assert [texts(axes) for axes in figure.axes] == [[]] * 8 + [["not measurable here"]] * 4


@pytest.mark.parametrize(("measure", "draw"), [("end_token", end_token), ("shifts", shifted_windows)])
def test_a_measure_that_was_not_taken_is_asked_for_on_one_line(measure, draw):
    records = stage_records(stages=PLACES)
    change(records, ("rslora", 1), measures=replace(records.record("rslora", 1).measures, **{measure: None}))
    with pytest.raises(HyLoRADAError, match=f"^rslora-seed1-\\w+ was made without the measure '{measure}'; [^\n]+$"):
        draw(records, STAGES)


def test_the_marked_rate_is_the_lowest_and_open_at_an_edge():
    records, rows = study_records("rates", by_rate)
    best = best_rates(records, rows)
    assert list(best["rate"]) == list(BEST.values())
    assert list(best["on_edge"]) == [rate in (min(RATES), max(RATES)) for rate in BEST.values()]
    panels = learning_rates(records, rows).axes
    for axes, (_, found) in zip(panels, best.iterrows(), strict=False):
        (ring,) = (line for line in axes.lines if (line.get_marker(), line.get_markersize()) == ("o", 6))
        (line,) = (line for line in axes.lines if line.get_color() == COLOURS["rslora"] and line.get_linestyle() == "-")
        assert ring.get_ydata()[0] == np.nanmin(line.get_ydata()) == found["perplexity"]
        assert ring.get_xdata()[0] == line.get_xdata()[np.nanargmin(line.get_ydata())]
        assert (ring.get_markerfacecolor() == "white") == axes.get_title().endswith("(edge)") == found["on_edge"]


def test_the_best_rates_become_the_setting_that_trains_each_arm_at_its_own():
    found = tuned_rates(best_rates(*study_records("rates", by_rate)))
    assert found == BEST | {"landmarks": BEST["hylorada"]}  # one model under two names
    replace(load_settings("full"), tuned_rates=found)  # refuses a name that is no arm


def test_every_run_of_the_grid_is_a_dot_and_one_that_diverged_a_triangle_at_the_rim():
    records, rows = study_records("rates", by_rate)
    panels = learning_rates(records, rows).axes
    dots = [len(points(axes, "o")) - 1 for axes in panels[: len(BEST)]]  # the ring aside
    rims = [points(axes, "^") for axes in panels[: len(BEST)]]
    sparse = list(BEST).index("sparse")
    assert rims[sparse] == [max(RATES)] * 3
    assert all(seeds + len(rim) == len(RATES) * 3 for seeds, rim in zip(dots, rims, strict=True))
    top = panels[sparse].get_ylim()[1]
    (triangle,) = (line for line in panels[sparse].lines if line.get_marker() == "^")
    assert triangle.get_ydata()[0] < top and len(panels[len(BEST)].lines) == 0


@pytest.mark.parametrize(
    ("draw", "study", "of", "x"),
    [
        (rank_scaling, "ranks", by_rank, lambda record: record.specification.adapter.lora_rank),
        (context_scaling, "context", by_length, lambda record: record.specification.block_tokens),
        (module_scaling, "modules", by_layers, lambda record: record.trainable / 1e6),
    ],
)
def test_scaling_shows_every_seed_and_a_line_through_the_means(draw, study, of, x):
    records, rows = study_records(study, of)
    axes = draw(records, rows).axes[0]
    seeds = sorted(tuple(point) for dots in axes.collections[:1] for point in dots.get_offsets())
    expected = sorted((x(record), record.results["perplexity"]) for record in records.by_run.values())
    np.testing.assert_allclose(seeds, expected)
    by_row = {}
    for (row, _), record in records.by_run.items():
        by_row.setdefault((row, x(record)), []).append(math.log(record.results["perplexity"]))
    means = sorted((place, math.exp(np.mean(logs))) for (_, place), logs in by_row.items())
    drawn = sorted(point for line in axes.lines for point in zip(*line.get_data(), strict=True))
    np.testing.assert_allclose(drawn, means)


def test_bases_are_told_apart_by_size_and_stages_keep_their_looks():
    axes = base_scaling(*base_records()).axes[0]
    shown = [line for line in axes.lines if len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in shown] == [[124, 355, 774]] * 3
    assert [line.get_color() for line in shown] == [COLOURS[stage] for stage in ("base", "rslora", "landmarks")]
    assert len([point for dots in axes.collections[:1] for point in dots.get_offsets()]) == 3 * (1 + 2 + 2)


def test_the_cost_is_the_benchmarks_beside_lines_of_its_growth(benchmark):
    time, memory = s2_cost(benchmark).axes
    rows = benchmark["sections"]["attention"]
    for axes, column in ((time, "milliseconds"), (memory, "peak_mib")):
        lines = {line.get_label(): line for line in axes.lines}
        for kind in ("full", "in groups"):
            measured = [row[column] for row in rows if row["name"].endswith(f", {kind}")]
            assert list(lines[f"attention {kind}"].get_ydata()) == measured and len(measured) == 6
        for label, power in (("in proportion to length", 1), ("to its square", 2)):
            x, y = lines[label].get_data()
            np.testing.assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), power)


def test_a_benchmark_without_attention_is_refused_on_one_line(benchmark):
    with pytest.raises(HyLoRADAError, match="^this benchmark has no section `attention`[^\n]*$"):
        s2_cost({"sections": {"training": benchmark["sections"]["training"]}})
