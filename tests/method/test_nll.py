"""The store of NLL: every metric against a slow recomputation from a table, and a file that comes back as written."""

import math

import numpy as np
import pandas as pd
import pytest
from bases import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from scored_texts import letters, random_store, store, table

from hylorada import HyLoRADAError
from hylorada.evaluation import dataset_nll, evaluate_perplexity
from hylorada.nll import STORED, TokenNLL


def test_aggregates_are_the_three_perplexities():
    model, tokenizer, texts = FAMILIES["gpt2"](), letters(), ["some words", "ab", "and more"]
    tokens = dataset_nll(model, texts, tokenizer, max_length=8, progress=False)
    means = table(tokens).groupby("text").nll.mean()
    wanted = {
        "corpus": (math.exp(table(tokens).nll.mean()), table(tokens).nll.mean()),
        "mean_of_texts": (np.exp(means).mean(), means.mean()),
        "geometric": (math.exp(means.mean()), means.mean()),
    }
    for aggregate, both in wanted.items():
        got = evaluate_perplexity(model, texts, tokenizer, max_length=8, aggregate=aggregate, progress=False)
        assert got == pytest.approx(both)
    with pytest.raises(HyLoRADAError, match="mean_of_texts"):
        evaluate_perplexity(model, texts, tokenizer, max_length=8, aggregate="mean_of_text")


@given(st.lists(st.lists(st.floats(0, 20), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_arithmetic_perplexity_is_never_below_the_geometric(nll):
    tokens = store(nll)
    assert tokens.arithmetic_perplexity() >= tokens.geometric_perplexity() * (1 - 1e-9)


def test_views_are_what_a_table_gives():
    tokens = random_store()
    rows = table(tokens)
    means = rows.groupby("text").nll.mean()
    assert tokens.corpus_perplexity() == pytest.approx(math.exp(rows.nll.mean()))
    assert tokens.arithmetic_perplexity() == pytest.approx(np.exp(means).mean())
    assert tokens.arithmetic_perplexity(min_tokens=10) == pytest.approx(np.exp(means.iloc[1:]).mean())
    assert tokens.geometric_perplexity() == pytest.approx(math.exp(means.mean()))
    assert tokens.worst_texts_share(2) == pytest.approx(np.exp(means).nlargest(2).sum() / np.exp(means).sum())
    assert tokens.bits_per_byte() == pytest.approx(rows.nll.sum() / len(rows) / math.log(2))
    assert tokens.byte_perplexity() == pytest.approx(2 ** tokens.bits_per_byte())
    assert tokens.word_perplexity() == pytest.approx(math.exp(rows.nll.sum() / tokens.text_words.sum()))

    edges = [0, 2, 50, 300, 400]
    binned = rows.groupby(pd.cut(rows.position, edges, right=False), observed=False).nll
    mean, count = tokens.nll_by_position(edges)
    np.testing.assert_allclose(mean, binned.mean())
    np.testing.assert_array_equal(count, binned.count())
    assert np.isnan(mean[-1]) and count[-1] == 0

    by_kind = rows.groupby(rows.token_id.map({0: "word", 1: "layout"})).nll.mean()
    kinds = tokens.nll_by_kind([1, 0])
    np.testing.assert_allclose([kinds[kind]["mean_nll"] for kind in by_kind.index], by_kind)
    articles, mean, count = tokens.nll_by_article()
    np.testing.assert_allclose(mean, rows.groupby("article").nll.mean().loc[articles])
    np.testing.assert_array_equal(count, rows.groupby("article").nll.count())


def test_the_contrast_sees_a_hard_middle_and_nothing_else():
    flat, hard_middle, falling = np.full(120, 2.0), np.repeat([1.0, 4.0, 2.0], 40), np.linspace(5, 1, 120)
    texts, contrasts = store([flat, hard_middle, [9.0], falling]).middle_contrasts()
    assert texts.tolist() == [0, 1, 3]
    np.testing.assert_allclose(contrasts, [0, 2.5, 0], atol=1e-6)
    assert store([flat, hard_middle]).middle_contrast() == pytest.approx(1.25)
    with pytest.raises(HyLoRADAError, match="no text has 100 tokens; the longest has 10"):
        store([[1.0] * 9]).middle_contrast()


def test_a_store_comes_back_as_it_was_written(tmp_path):
    tokens = random_store()
    tokens.save(tmp_path / "nll.npz")
    back = TokenNLL.load(tmp_path / "nll.npz")
    for name in (*STORED, "text_bytes", "text_words"):
        np.testing.assert_array_equal(getattr(back, name), getattr(tokens, name))
    assert [path.name for path in tmp_path.iterdir()] == ["nll.npz"]


def test_a_failed_write_leaves_the_old_store_and_nothing_else(tmp_path, monkeypatch):
    random_store().save(tmp_path / "nll.npz")
    before = (tmp_path / "nll.npz").read_bytes()

    def half(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(HyLoRADAError, match="No space left"):
        random_store().save(tmp_path / "nll.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["nll.npz"] and (tmp_path / "nll.npz").read_bytes() == before


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not a store")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", **{name: np.array([None]) for name in (*STORED, "text_bytes", "text_words")})
    for name in ("absent.npz", "text.npz", "other.npz", "pickle.npz"):
        with pytest.raises(HyLoRADAError, match=name):
            TokenNLL.load(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [(dict(token_id=[1]), "equally long"), (dict(text_words=[1]), "equally long")],
)
def test_columns_of_unequal_length_are_refused(columns, message):
    with pytest.raises(HyLoRADAError, match=message):
        store([[1.0, 2.0], [3.0]], **columns)
