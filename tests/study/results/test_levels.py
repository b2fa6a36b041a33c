"""Bases with tokenizers of their own: levels in bits a byte of the text, effects on their own base."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from fake_studies import BASE_SIZES, base_records
from repository import ROOT, scale_file

from hylorada.cli import main
from hylorada.errors import HyLoRADAError
from hylorada.nll import TokenNLL
from hylorada.study.figures.ablation import study_rows_in_bits
from hylorada.study.figures.rows import FIGURES
from hylorada.study.page.tables import study_table as page_table
from hylorada.study.paper.sentences.effects import bases_sentence
from hylorada.study.paper.tables import study_tabular
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES
from hylorada.study.results.levels import LEVELS, article_bytes, byte_means, level_of
from hylorada.study.results.rows import TABLES
from hylorada.study.results.statistics import article_means
from hylorada.study.sources.registry import MODELS, folder_name
from hylorada.study.trace import freshness

ARTICLES, BYTES = 6, 240  # bytes of the first article; each further one has as many more
WIDTHS = dict(zip(BASE_SIZES, (2, 3, 4), strict=True))  # bytes of a token of each base
SHORT = {name: folder_name(f"local:{name}", MODELS) for name in BASE_SIZES}
NATS = {"base": 0.60, "rslora": 0.55, "landmarks": 0.548}  # a byte, of the text under each arm


def store(width: int, nats: float, seed: int) -> TokenNLL:
    """The same articles in tokens of `width` bytes at so many nats a byte on the whole, more in some articles."""
    sizes = BYTES * np.arange(1, ARTICLES + 1)
    article = np.repeat(np.arange(ARTICLES), sizes // width)
    by_article = 1 + 0.1 * np.sin(np.arange(ARTICLES)) + 0.001 * seed
    scale = nats / (by_article * sizes / sizes.sum()).sum()
    position = np.concatenate([np.arange(1, size // width + 1) for size in sizes])
    nll = scale * width * by_article[article]
    return TokenNLL(article, article, position, position, np.zeros(len(nll)), nll, sizes, sizes // 5)


@pytest.fixture(scope="module")
def bases():
    """Records of three bases, whose text has so many bytes whatever the tokens, and their rows."""
    records, rows = base_records(seeds=2)
    for (name, seed), record in records.by_run.items():
        width = WIDTHS[rows[name].changes["base"].removeprefix("local:")]
        tokens = store(width, NATS[rows[name].arm] * (1 + 0.001 * (seed or 0)), seed or 0)
        records.tokens[name, seed] = tokens
        numbers = {"bits_per_byte": tokens.bits_per_byte(), "mean_nll": tokens.mean_nll()}
        records.by_run[name, seed] = replace(record, results=record.results | numbers)
    return records, rows


@pytest.fixture(scope="module")
def table(bases):
    study = STUDIES["bases"]
    return TABLES["bases"].make(*bases, study.shows, study.level)


def test_bits_a_byte_are_those_of_the_text_whatever_its_tokens():
    two, four = store(2, 0.6, 0), store(4, 0.6, 0)
    assert article_means([two]).mean == pytest.approx(article_means([four]).mean / 2)
    for tokens in (two, four):
        slow = sum(tokens.nll.tolist()) / sum(tokens.text_bytes.tolist()) / math.log(2)
        assert byte_means([tokens]).mean == pytest.approx(slow) == pytest.approx(0.6 / math.log(2), rel=1e-6)
        assert byte_means([tokens]).mean == pytest.approx(tokens.bits_per_byte())
        assert article_bytes(tokens).tolist() == [240, 480, 720, 960, 1200, 1440]


def test_an_article_in_several_texts_has_the_bytes_of_all_of_them_and_one_unscored_has_none():
    tokens = replace(
        store(4, 0.6, 0), article=np.minimum(store(4, 0.6, 0).article, 4), text_bytes=[240, 480, 720, 960, 1200, 1440]
    )
    assert article_bytes(tokens).tolist() == [240, 480, 720, 960, 2640]
    assert article_bytes(tokens.select(tokens.text != 1)).tolist() == [0, 0, 0, 0]  # the sizes are unknown then
    with pytest.raises(HyLoRADAError, match="the bytes of these articles are not known"):
        byte_means([tokens.select(tokens.text != 1)])


def test_the_table_has_bits_a_byte_and_no_perplexity(table, bases):
    assert level_of(table) == "bits_per_byte" and not [name for name in table if "perplexity" in name]
    levels = table.set_index("stage")["bits_per_byte"]
    for name in bases[1]:
        found = [record.results["bits_per_byte"] for (row, _), record in bases[0].by_run.items() if row == name]
        assert levels[name] == pytest.approx(np.mean(found))
    small, large = (levels[f"base_{SHORT[size]}"] for size in ("small", "large"))
    assert small == pytest.approx(large)  # where their perplexities are exp(1.2) and exp(2.4)
    text = study_tabular(table)
    assert "bits a byte" in text and "perplexity" not in text and "ppl." not in text
    assert f"{SHORT['small']}, untouched & 0 &  & {small:.4f}" in text


def test_an_effect_is_in_percent_on_its_own_base_and_the_same_in_bits_a_byte(table):
    lines = table.set_index("stage")
    effects = {name: lines["effect"][f"landmarks_{SHORT[name]}"] for name in WIDTHS}
    for name, width in WIDTHS.items():
        row = lines.loc[f"landmarks_{SHORT[name]}"]
        nats = math.log1p(row["effect"] / 100)  # a token
        assert row["bits_change"] == pytest.approx(nats / width / math.log(2), rel=1e-6)
        assert row["bits_change"] == pytest.approx((0.548 - 0.55) * 1.0005 / math.log(2), rel=1e-4)
    assert effects["large"] == pytest.approx(2 * effects["small"], rel=1e-2)


def test_the_interval_of_a_level_draws_articles_by_their_bytes(table, bases):
    drawn = table.set_index("stage").loc[f"rslora_{SHORT['large']}"]
    assert drawn["bits_per_byte_low"] < drawn["bits_per_byte"] < drawn["bits_per_byte_high"]
    small = table.set_index("stage").loc[f"rslora_{SHORT['small']}"]
    assert small["bits_per_byte_low"] == pytest.approx(drawn["bits_per_byte_low"])


def test_the_sentence_reads_levels_in_bits_and_effects_on_their_own_base(table):
    settings = replace(load_settings("micro"), bases=[f"local:{name}" for name in BASE_SIZES])
    said = bases_sentence(settings, table)
    assert said.count("bits a byte") == 1 + 3 and said.count("of perplexity on") == 3
    assert said.startswith("Untouched, the bases stand at 0.866 (local-small-")
    single = table.assign(effect_low=math.nan, effect_high=math.nan)
    assert bases_sentence(settings, single) == ""


def test_page_and_figure_say_bits_a_byte(table, bases):
    lines = page_table("bases", table.replace({"against": {"": None}}), "", "", {name: [] for name in bases[1]}).lines
    assert lines[0].cells["bits a byte"][0].text == f"{table['bits_per_byte'][0]:.4f}"
    assert all("perplexity" not in line.cells for line in lines)
    assert FIGURES["bases"].drawn_by == "ablation.study_rows_in_bits" and FIGURES["direct"].drawn_by.endswith("_rows")
    axes = study_rows_in_bits(*bases).axes[0]
    assert axes.get_xlabel() == "bits a byte (lower is better)"
    marks = [x for line in axes.lines if line.get_marker() in ("o", "X") for x in line.get_xdata()]
    assert sorted(marks) == pytest.approx(
        sorted(record.results["bits_per_byte"] for record in bases[0].by_run.values())
    )


def test_a_table_in_bits_is_told_to_be_of_other_records(table, bases, tmp_path):
    by_row = {name: [r for (row, _), r in bases[0].by_run.items() if row == name] for name in bases[1]}
    table.to_csv(tmp_path / "bases.csv", index=False)
    assert freshness._other_records(tmp_path / "bases.csv", by_row) == ""
    table.assign(bits_per_byte=1.0).to_csv(tmp_path / "bases.csv", index=False)
    assert f"base_{SHORT['small']} has bits a byte 1" in freshness._other_records(tmp_path / "bases.csv", by_row)


def test_only_studies_whose_rows_differ_in_their_base_are_read_in_bits():
    assert {name for name, study in STUDIES.items() if study.level != "perplexity"} == {
        name for name, study in STUDIES.items() if "base" in study.varies
    }
    assert {study.level for study in STUDIES.values()} <= set(LEVELS)


def test_the_command_prints_each_study_in_its_own_level(tmp_path, capsys):
    scale = scale_file("micro")
    scale["studies"] = {"bases": scale["studies"]["bases"]}
    del scale["train_lines"]  # which neither table reads
    (tmp_path / "scale.yaml").write_text(yaml.safe_dump(scale))
    out = ["--out", str(tmp_path / "paper"), "--csv", str(tmp_path / "tables" / "ablation.csv")]
    kept = str(ROOT / "data" / "reference" / "micro")
    assert main(["table", "--scale", str(tmp_path / "scale.yaml"), "--records", kept, *out]) == 0
    ablation, bases = re.split(r"\n\n.*\n", capsys.readouterr().out)
    assert "bits_per_byte" in bases and "perplexity" not in bases
    assert "perplexity" in ablation and "bits" not in ablation
