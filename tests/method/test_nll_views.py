"""The views that compare parts of a store: kinds of tokens, places of the window, the worst texts, six perplexities."""

import math

import numpy as np
import pytest
from bases import CONTEXT, FAMILIES, VOCABULARY
from scored_texts import EOS, ids_of, letters, random_store, slow_nll, store
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hylorada import HyLoRADAError
from hylorada.evaluation import dataset_nll, token_nll
from hylorada.nll import KINDS, TokenNLL, shifted_copies, token_kinds

WINDOW = 16


def byte_level(pieces: list[str]) -> PreTrainedTokenizerFast:
    """One token a UTF-8 byte, and one for each of the given pieces as byte-level tokenizers spell them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*alphabet, *pieces])}
    core = Tokenizer(models.BPE(vocabulary, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    tokenizer.add_tokens([AddedToken("<|file|>", special=True), AddedToken("def")])
    return tokenizer


def test_a_token_is_told_by_the_text_it_stands_for():
    kinds_of = {
        "layout": ["Ċ", "Ġ", "ĠĠĠ", ".", "Ġ=", "Ġ@", "-", "Ċ++", "âĢĵ"],  # the last is a dash
        "word": ["Ġthe", "x", "7", "'s", "Ã©", "Ġâ" + "ĠÃ©"],
        "piece": ["Ã", "Ġâ", "ĠâĢ"],
    }
    tokenizer = byte_level([piece for pieces in kinds_of.values() for piece in pieces if len(piece) > 1])
    kinds, vocabulary = token_kinds(tokenizer), tokenizer.get_vocab()
    assert len(kinds) == len(vocabulary) == len(tokenizer)
    for kind, pieces in kinds_of.items():
        assert {piece: KINDS[kinds[vocabulary[piece]]] for piece in pieces} == dict.fromkeys(pieces, kind)
    told = {name: KINDS[kinds[vocabulary[name]]] for name in ("<|end|>", "<|file|>", "def")}
    assert told == {"<|end|>": "layout", "<|file|>": "layout", "def": "word"}


def test_each_kind_has_its_mean_and_its_share_of_the_whole():
    tokens = store([[1.0, 5.0, 2.0], [4.0]], token_id=[0, 1, 0, 2])
    wanted = {
        "layout": (1.5, 2, 3 / 12, 0.5),
        "word": (4.5, 2, 9 / 12, 0.5),
        "piece": (math.nan, 0, 0.0, 0.0),
    }
    for kinds in ([0, 1, 1], np.array([False, True, True])):
        got = tokens.nll_by_kind(kinds)
        assert list(got) == list(wanted)
        for kind, row in got.items():
            assert tuple(row.values()) == pytest.approx(wanted[kind], nan_ok=True)
        assert list(got["word"]) == ["mean_nll", "tokens", "nll_share", "token_share"]
    assert tokens.nll_by_kind([2, 2, 0])["piece"]["tokens"] == 3


@pytest.mark.parametrize("kinds", [[0], [0, 3], [-1, 0], []])
def test_a_token_without_a_kind_is_refused(kinds):
    with pytest.raises(HyLoRADAError, match=f"{len(kinds)} kinds from .* do not fit token ids up to 1"):
        store([[1.0, 2.0]]).nll_by_kind(kinds)


def test_kinds_are_taken_from_the_tokenizer_of_the_texts():
    tokenizer = letters()
    tokens = dataset_nll(FAMILIES["gpt2"](), ["a b\n</s>c", "", "\n"], tokenizer, max_length=8, progress=False)
    kinds = tokens.nll_by_kind(token_kinds(tokenizer))
    assert {kind: row["tokens"] for kind, row in kinds.items()} == {"layout": 3, "word": 2, "piece": 0}
    total = sum(row["mean_nll"] * row["tokens"] for row in kinds.values() if row["tokens"])
    assert total == pytest.approx(tokens.nll.sum(), rel=1e-6)


def shifted(model, texts: list[list[int]], shifts: int, **options) -> TokenNLL:
    copies = shifted_copies(texts, WINDOW, shifts)
    return token_nll(model, copies, WINDOW, WINDOW, score_all=False, progress=False, **options)


@pytest.mark.parametrize("shifts", [2, 4, 8])
def test_each_token_stands_once_in_every_part_of_the_window(shifts):
    model, texts, part = FAMILIES["llama"](), [ids_of(45, 1), ids_of(7), [], ids_of(CONTEXT, 2)], WINDOW // shifts
    matched = shifted(model, texts, shifts).matched_over_shifts(WINDOW, shifts)
    wanted = {}  # (text, position, context) -> NLL, of tokens that no shift puts first in a window
    for text, ids in enumerate(texts):
        for target in range((shifts - 1) * part + 1, len(ids)):
            contexts = [(target - shift * part) % WINDOW for shift in range(shifts)]
            if all(contexts):
                wanted |= {(text, target, c): slow_nll(model, ids, target, target - c) for c in contexts}
    places = list(zip(*(getattr(matched, name).tolist() for name in ("text", "position", "context")), strict=True))
    assert sorted(places) == sorted(wanted)
    np.testing.assert_allclose(matched.nll, [wanted[place] for place in places], rtol=2e-4, atol=2e-4)
    ids = [texts[text][position] for text, position, _ in places]
    np.testing.assert_array_equal(matched.token_id, ids)
    np.testing.assert_array_equal(matched.article, matched.text)
    assert matched.n_texts == 4 and matched.n_skipped == 2

    means, counts = matched.nll_by_position(np.arange(0, WINDOW + 1, part), by="context")
    assert set(counts) == {len(places) // shifts}
    for bin in range(shifts):
        inside = [nll for (_, _, context), nll in wanted.items() if context // part == bin]
        assert means[bin] == pytest.approx(np.mean(inside), rel=1e-4)


def test_what_hangs_on_the_token_alone_is_the_same_in_every_part():
    """A text that gets harder towards its end looks like a matter of place until tokens are matched."""
    texts = [ids_of(40, seed) for seed in range(3)]
    tokens = shifted(FAMILIES["gpt2"](), texts, 4)
    position = tokens.position + tokens.text % 4 * 4
    tokens = TokenNLL(**{name: getattr(tokens, name) for name in vars(tokens)} | {"nll": position / 10})
    edges = [0, 4, 8, 12, 16]
    assert np.ptp(tokens.nll_by_position(edges, by="context")[0]) > 0.1
    assert np.ptp(tokens.matched_over_shifts(WINDOW, 4).nll_by_position(edges, by="context")[0]) < 1e-6


def test_articles_that_are_given_stay():
    texts, articles = [ids_of(20, 1), ids_of(20, 2)], [7, 7]
    tokens = shifted(FAMILIES["gpt2"](), texts, 2, article_ids=np.repeat(articles, 2))
    assert set(tokens.matched_over_shifts(WINDOW, 2).article) == {7}


@pytest.mark.parametrize("length", [WINDOW - 7, WINDOW - 6, WINDOW, WINDOW + 1])
def test_the_shortest_text_with_a_token_in_both_halves_is_half_a_window_and_two(length):
    tokens = shifted(FAMILIES["gpt2"](), [ids_of(length)], 2)
    if length < WINDOW // 2 + 2:
        with pytest.raises(HyLoRADAError, match="takes a text of 10 tokens"):
            tokens.matched_over_shifts(WINDOW, 2)
    else:
        matched = tokens.matched_over_shifts(WINDOW, 2)
        assert sorted(set(matched.position)) == [t for t in range(9, length) if t % 8]


@pytest.mark.parametrize("shifts", [1, 3, 16, 0])
def test_shifts_that_do_not_cut_the_window_are_refused(shifts):
    with pytest.raises(HyLoRADAError, match=f"shifts={shifts} does not cut a window of max_length=16"):
        shifted_copies([[1, 2]], WINDOW, shifts)
    with pytest.raises(HyLoRADAError, match="does not cut"):
        random_store().matched_over_shifts(WINDOW, shifts)


def test_copies_scored_in_other_windows_are_refused():
    copies = shifted_copies([ids_of(40)], WINDOW, 2)
    for options in (dict(stride=WINDOW), dict(stride=8, score_all=False)):
        tokens = token_nll(FAMILIES["gpt2"](), copies, WINDOW, progress=False, **options)
        with pytest.raises(HyLoRADAError, match="score_all=False: score them so"):
            tokens.matched_over_shifts(WINDOW, 2)
    three = token_nll(FAMILIES["gpt2"](), [ids_of(12)] * 3, WINDOW, progress=False)
    with pytest.raises(HyLoRADAError, match="not shifted_copies at 2 shifts"):
        three.matched_over_shifts(WINDOW, 2)


def test_the_worst_texts_are_named_with_their_shares():
    tokens = store([[0.0, 2.0], [3.0], [1.0], [2.0, 4.0]])  # means 1, 3, 1, 3
    perplexities = np.exp([1.0, 3.0, 1.0, 3.0])
    texts, shares = tokens.worst_texts(3)
    assert texts.tolist() == [1, 3, 0]  # of equal ones the first
    np.testing.assert_allclose(shares, perplexities[[1, 3, 0]] / perplexities.sum())
    assert tokens.worst_texts_share(3) == pytest.approx(shares.sum())
    texts, shares = tokens.worst_texts()  # five are more than there are
    assert len(texts) == 4 and shares.sum() == pytest.approx(1.0)


def test_first_windows_read_the_middle_of_each_text_cut_at_the_window():
    model, tokenizer, text = FAMILIES["gpt2"](), letters(), "of shoes and ships and sealing wax " * 3
    tokens = dataset_nll(model, [text, ""], tokenizer, max_length=50, progress=False)
    cut = dataset_nll(model, [text[:50]], tokenizer, max_length=50, progress=False)
    within = tokens.first_windows().lost_in_the_middle_published(50)
    assert within == pytest.approx(cut.lost_in_the_middle_published(50), rel=1e-5)
    assert within != pytest.approx(tokens.lost_in_the_middle_published(50), rel=1e-3)


@pytest.mark.parametrize(
    "texts", [[[], ids_of(WINDOW)], [[3], ids_of(WINDOW)], [ids_of(WINDOW)], [[5, EOS, EOS, *ids_of(WINDOW - 3)]]]
)
def test_empty_lines_single_tokens_whole_windows_and_ends_keep_every_view_in_step(texts):
    tokens = token_nll(FAMILIES["qwen2"](), texts, WINDOW, progress=False)
    assert len(tokens.nll) == WINDOW - 1  # label shift: a window has one target less than tokens
    kinds = tokens.nll_by_kind(np.arange(VOCABULARY) % 2)
    assert sum(row["tokens"] for row in kinds.values()) == WINDOW - 1
    assert tokens.worst_texts()[0].tolist() == [len(texts) - 1] and tokens.worst_texts_share() == 1.0
    matched = shifted(FAMILIES["qwen2"](), texts, 2).matched_over_shifts(WINDOW, 2)
    assert set(matched.text) == {len(texts) - 1} and len(matched.nll) == 2 * 7  # tokens 9 to 15, at two places
