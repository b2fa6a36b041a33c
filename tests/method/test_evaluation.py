"""Every token once, each with the context it should have, by every way in that a user has."""

import itertools
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from bases import CONTEXT, FAMILIES, VOCABULARY, adapt, without_zeros
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scored_texts import EOS, ids_of, letters, random_store, slow_nll, table

from hylorada import HyLoRADAConfig, HyLoRADAError
from hylorada.evaluation import (
    context_length,
    dataset_nll,
    evaluate_lost_in_the_middle,
    evaluate_perplexity,
    run_full_evaluation,
    score_windows,
    token_nll,
)
from hylorada.metrics import METRICS
from hylorada.nll import STORED
from hylorada.texts import texts_of


@given(n_tokens=st.integers(0, 60), max_length=st.integers(2, 20), stride=st.integers(1, 20), extra=st.booleans())
@settings(deadline=None)
def test_windows_score_no_token_twice_and_leave_out_first_ones_only(n_tokens, max_length, stride, extra):
    stride = min(stride, max_length - 1 if extra else max_length)
    windows = list(score_windows(n_tokens, max_length, stride))
    scored = [t for _, end, first in windows for t in range(first, end)]
    assert scored == sorted(set(scored))
    assert all(begin < first < end <= begin + max_length for begin, end, first in windows)
    unscored = set(range(n_tokens)) - set(scored)
    if stride < max_length:
        assert unscored <= {0}
    else:
        assert unscored == set(range(0, n_tokens, stride))


@pytest.mark.parametrize(
    ("n_tokens", "max_length", "stride", "windows"),
    [
        (0, 4, 4, []),
        (1, 4, 4, []),
        (4, 4, 4, [(0, 4, 1)]),
        (5, 4, 4, [(0, 4, 1)]),  # the one token left over has no context in its own window
        (6, 4, 4, [(0, 4, 1), (4, 6, 5)]),
        (7, 4, 3, [(0, 4, 1), (3, 7, 4)]),
        (8, 4, 3, [(0, 4, 1), (3, 7, 4), (6, 8, 7)]),
        (6, 4, 1, [(0, 4, 1), (1, 5, 4), (2, 6, 5)]),
    ],
)
def test_windows_are_those_worked_out_by_hand(n_tokens, max_length, stride, windows):
    assert list(score_windows(n_tokens, max_length, stride)) == windows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(family):
    model = FAMILIES[family]()
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    tokens = token_nll(model, [ids_of(40), ids_of(3), [EOS] * 9], max_length=16, progress=False)
    for perplexity in (tokens.corpus_perplexity(), tokens.geometric_perplexity(), tokens.arithmetic_perplexity()):
        assert perplexity == pytest.approx(VOCABULARY, rel=1e-5)


SLOW = {family: build() for family, build in FAMILIES.items()}


@pytest.mark.parametrize("family", FAMILIES)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    max_length=st.integers(2, 12),
    stride=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    score_all=st.booleans(),
)
@settings(deadline=None, max_examples=15)
def test_every_nll_is_that_of_one_forward_over_its_explicit_context(
    family, lengths, max_length, stride, batch_size, score_all
):
    model, stride = SLOW[family], min(stride, max_length)
    texts = [ids_of(length, seed) for seed, length in enumerate(lengths)]
    assume(max(lengths) >= 2)
    tokens = token_nll(model, texts, max_length, stride, batch_size, score_all, progress=False)
    step = min(stride, max_length - 1) if score_all else stride
    wanted = []
    for text, ids in enumerate(texts):
        for target in range(1, len(ids)):
            # the earliest window that holds the target; later ones find it scored
            begin = next(begin for begin in range(0, len(ids), step) if begin + max_length > target)
            if begin < target:
                wanted.append((text, text, target, target - begin, ids[target], slow_nll(model, ids, target, begin)))
    wanted = np.array(wanted, dtype=float)
    for column, name in enumerate(STORED[:-1]):
        np.testing.assert_array_equal(getattr(tokens, name), wanted[:, column], err_msg=name)
    np.testing.assert_allclose(tokens.nll, wanted[:, -1], rtol=2e-4, atol=2e-4)


def test_the_adapted_model_is_scored_with_its_adapters_and_positions():
    model = without_zeros(adapt(FAMILIES["llama"](), HyLoRADAConfig(lora_rank=2)))
    ids = ids_of(20)
    tokens = token_nll(model, [ids, ids_of(5)], max_length=8, stride=4, progress=False)
    slow = [slow_nll(model, ids, t, t - c) for t, c in zip(tokens.position[:19], tokens.context[:19], strict=True)]
    np.testing.assert_allclose(tokens.nll[:19], slow, rtol=1e-4)
    assert not np.allclose(slow, [slow_nll(FAMILIES["llama"](), ids, t, 0) for t in range(1, 20)], rtol=1e-2)


@pytest.mark.parametrize(("max_length", "stride"), [(10, 10), (10, 4), (10, 9), (64, 64), (13, 5)])
def test_joined_texts_are_scored_as_the_hugging_face_guide_does(max_length, stride):
    model, tokenizer, texts = FAMILIES["gpt2"](), letters(), ["some words", "", "and some more of them"]
    stream = torch.tensor([tokenizer("\n\n".join(texts), add_special_tokens=False)["input_ids"]])
    total, scored, previous_end = 0.0, 0, 0
    for begin in range(0, stream.shape[1], stride):
        end = min(begin + max_length, stream.shape[1])
        window, labels = stream[:, begin:end], stream[:, begin:end].clone()
        labels[:, : -(end - previous_end)] = -100
        targets = int((labels[:, 1:] != -100).sum())
        if targets:  # the guide's own loop would give nan for a window of one token
            with torch.no_grad():
                total += model(window, labels=labels).loss.item() * targets
        scored, previous_end = scored + targets, end
        if end == stream.shape[1]:
            break
    tokens = dataset_nll(model, texts, tokenizer, max_length, stride, join=True, progress=False)
    assert len(tokens.nll) == scored and tokens.n_texts == 1
    options = dict(max_length=max_length, stride=stride, join=True, progress=False)
    perplexity, loss = evaluate_perplexity(model, texts, tokenizer, **options)
    assert loss == pytest.approx(total / scored, rel=1e-5) and perplexity == pytest.approx(math.exp(loss))


def test_a_text_of_exactly_one_window_loses_its_first_token_only():
    tokens = token_nll(FAMILIES["llama"](), [ids_of(16)], max_length=16, progress=False)
    assert tokens.position.tolist() == list(range(1, 16)) and (tokens.context == tokens.position).all()


def test_texts_without_a_target_are_skipped_and_counted():
    model, tokenizer = FAMILIES["gpt2"](), letters()
    tokens = dataset_nll(model, ["", "a", "ab", "\n"], tokenizer, max_length=8, progress=False)
    assert (tokens.n_texts, tokens.n_skipped, tokens.text.tolist()) == (4, 3, [2])
    for nothing in ([], ["", "a"]):
        with pytest.raises(HyLoRADAError, match="has a token to score"):
            dataset_nll(model, nothing, tokenizer, max_length=8, progress=False)


def test_a_bos_makes_the_first_token_a_target_and_nothing_else_is_added():
    model, tokenizer = FAMILIES["gpt2"](), letters()
    without = dataset_nll(model, ["abc", ""], tokenizer, max_length=8, progress=False)
    with_bos = dataset_nll(model, ["abc", ""], tokenizer, max_length=8, add_bos=True, progress=False)
    assert without.token_id.tolist() == [1, 2] and with_bos.token_id.tolist() == [0, 1, 2]
    assert (without.text_bytes.tolist(), with_bos.text_bytes.tolist()) == ([2, 0], [3, 0])
    assert with_bos.nll[0] == pytest.approx(slow_nll(model, [tokenizer.bos_token_id, 0], 1, 0), rel=1e-4)
    tokenizer.bos_token = None
    with pytest.raises(HyLoRADAError, match="no BOS"):
        dataset_nll(model, ["abc"], tokenizer, max_length=8, add_bos=True)


def test_a_bfloat16_model_is_scored_with_float32_logits():
    model, ids = FAMILIES["llama"]().bfloat16(), torch.tensor([ids_of(12)])
    with torch.no_grad():
        hidden = model.model(ids)[0][0, :-1].float()
    logits = hidden @ model.lm_head.weight.detach().float().T
    wanted = -logits.log_softmax(dim=-1)[torch.arange(11), ids[0, 1:]]
    tokens = token_nll(model, ids.tolist(), max_length=16, progress=False)
    np.testing.assert_allclose(tokens.nll, wanted, rtol=1e-5)


def test_an_end_of_text_inside_a_text_is_a_token_like_any_other():
    model, ids = FAMILIES["llama"](), [5, EOS, EOS, 7]
    tokens = token_nll(model, [ids], max_length=8, progress=False)
    np.testing.assert_allclose(tokens.nll, [slow_nll(model, ids, t, 0) for t in (1, 2, 3)], rtol=1e-4)


def test_bytes_and_words_are_those_of_the_scored_tokens():
    tokens = dataset_nll(FAMILIES["gpt2"](), ["aé cd e</s>", "xy"], letters(), max_length=4, progress=False)
    assert tokens.text_bytes.tolist() == [len("é cd e".encode()), 1]  # the end of text is no text
    assert tokens.text_words.tolist() == [3, 1]
    joined = dataset_nll(FAMILIES["gpt2"](), ["abcdefgh"], letters(), max_length=4, join=True, progress=False)
    assert joined.text_bytes.tolist() == [6]  # a and e begin the two windows


def test_batches_do_not_change_the_numbers_or_their_order():
    model, texts = FAMILIES["gpt2"](), [ids_of(n, n) for n in (3, 40, 9, 0, 17)]
    one, many = (token_nll(model, texts, 16, 8, batch_size=size, progress=False) for size in (1, 7))
    np.testing.assert_allclose(one.nll, many.nll, rtol=1e-4, atol=1e-5)
    for name in STORED[:-1]:
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_every_module_is_back_in_its_mode_and_no_gradient_is_left():
    model = adapt(FAMILIES["gpt2"](), HyLoRADAConfig()).train()
    model.base_model.transformer.h[1].eval()
    before = [module.training for module in model.modules()]
    token_nll(model, [ids_of(9)], max_length=8, progress=False)
    assert [module.training for module in model.modules()] == before
    model(input_ids=torch.tensor([ids_of(9)]), labels=torch.tensor([ids_of(9)])).loss.backward()  # still trainable


def test_dropout_is_off_while_scoring():
    model = without_zeros(adapt(FAMILIES["gpt2"](), HyLoRADAConfig(lora_dropout=0.5))).train()
    first, second = (token_nll(model, [ids_of(9)], max_length=8, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.nll, second.nll)


def test_progress_goes_to_a_terminal_on_stderr_and_can_be_silenced(capsys, monkeypatch):
    token_nll(FAMILIES["gpt2"](), [ids_of(9)], max_length=8)
    assert not capsys.readouterr().err, "a log is no place for a bar"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    token_nll(FAMILIES["gpt2"](), [ids_of(9)], max_length=8)
    loud = capsys.readouterr()
    token_nll(FAMILIES["gpt2"](), [ids_of(9)], max_length=8, progress=False)
    assert "scoring" in loud.err and not loud.out and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(max_length=CONTEXT + 1), "windows of 2 to 64 tokens"),
        (dict(max_length=1), "windows of 2 to 64"),
        (dict(max_length=8, stride=9), "stride=9"),
        (dict(max_length=8, stride=0), "stride=0"),
        (dict(max_length=8, batch_size=0), "batch_size=0"),
        (dict(max_length=8, article_ids=[1, 2]), "article_ids of shape .2,. for 1 texts"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_that_does_not_fit_is_refused(family, options, message):
    with pytest.raises(HyLoRADAError, match=message):
        token_nll(FAMILIES[family](), [ids_of(9)], **options)


def test_tokens_of_another_tokenizer_are_refused():
    with pytest.raises(HyLoRADAError, match="belongs to the model"):
        token_nll(FAMILIES["gpt2"](), [[1, VOCABULARY]], max_length=8)


def test_rope_scaling_widens_the_longest_window():
    config = FAMILIES["llama"]().config
    config.rope_parameters = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    assert context_length(type(FAMILIES["llama"]())(config)) == 4 * CONTEXT


def test_a_dataset_and_a_list_of_its_texts_are_the_same_data():
    model, tokenizer, texts = FAMILIES["gpt2"](), letters(), ["some words", "", "and more"]
    listed = evaluate_perplexity(model=model, dataset=texts, tokenizer=tokenizer, max_length=8, progress=False)
    dataset = Dataset.from_dict({"text": texts, "n": [0, 1, 2]})
    assert (
        evaluate_perplexity(model=model, dataset=dataset, tokenizer=tokenizer, max_length=8, progress=False) == listed
    )


TEXTS = ["some words", "and more", "a third"]
ROWS = {"n": [0, 1, 2], "text": TEXTS}
SAME = {
    "slice": lambda: Dataset.from_dict(ROWS)[:3],
    "column": lambda: Dataset.from_dict(ROWS)["text"],
    "dictionary": lambda: ROWS,
    "rows": lambda: Dataset.from_dict(ROWS).to_list(),
    "stream": lambda: Dataset.from_dict(ROWS).to_iterable_dataset(),
    "stream without names": lambda: IterableDataset.from_generator(lambda: iter(Dataset.from_dict(ROWS))),
    "generator": lambda: iter(TEXTS),
    "tuple": lambda: tuple(TEXTS),
    "frame": lambda: pd.DataFrame(ROWS),
    "series": lambda: pd.Series(TEXTS, index=[7, 8, 9]),
    "array": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array(TEXTS, dtype=object),
    "numpy format": lambda: Dataset.from_dict(ROWS).with_format("numpy"),
    "pandas format": lambda: Dataset.from_dict(ROWS).with_format("pandas"),
    "splits, one chosen": lambda: DatasetDict(train=Dataset.from_dict(ROWS))["train"],
    "torch data set": lambda: torch.utils.data.Subset(TEXTS, [0, 1, 2]),
}
NO_TEXTS = {
    "splits": lambda: DatasetDict(train=Dataset.from_dict(ROWS)),
    "streamed splits": lambda: IterableDatasetDict(train=Dataset.from_dict(ROWS).to_iterable_dataset()),
    "other columns": lambda: Dataset.from_dict({"line": TEXTS}),
    "other columns of a slice": lambda: Dataset.from_dict({"line": TEXTS})[:2],
    "other columns of a frame": lambda: pd.DataFrame({"line": TEXTS}),
    "two columns of one name": lambda: pd.DataFrame([TEXTS[:2]], columns=["text", "text"]),
    "other rows": lambda: [{"line": text} for text in TEXTS],
    "dictionary of dictionaries": lambda: {"text": {"line": TEXTS}},
    "lists by split": lambda: {"train": TEXTS},
    "one text": lambda: "some words",
    "bytes": lambda: [b"some words"],
    "token ids": lambda: [[1, 2], [3]],
    "ids of one text": lambda: [1, 2],
    "a table of texts": lambda: np.array([TEXTS]),
    "holes": lambda: pd.Series(["some words", None]),
    "nothing": lambda: None,
}


@pytest.mark.parametrize("kind", SAME)
def test_texts_are_the_same_in_whatever_a_user_has_them(kind):
    assert texts_of(SAME[kind]()) == TEXTS and texts_of(SAME[kind](), 2) == TEXTS[:2]


@pytest.mark.parametrize("kind", NO_TEXTS)
def test_what_holds_no_texts_is_refused_and_no_name_is_scored(kind):
    with pytest.raises(HyLoRADAError, match="give a list of str") as told:
        evaluate_perplexity(FAMILIES["gpt2"](), NO_TEXTS[kind](), letters(), max_length=8)
    assert "\n" not in str(told.value)


def test_half_a_character_is_told():
    with pytest.raises(HyLoRADAError, match="half a character"):
        texts_of(["a whole one", "half of one: \ud83c"])


def test_a_stream_is_read_as_far_as_it_is_asked_for():
    read = iter(f"text {number}" for number in itertools.count())
    assert texts_of(read, 2) == ["text 0", "text 1"] and next(read) == "text 2"
    for count in (0, -1, 1.5, True):
        with pytest.raises(HyLoRADAError, match="num_samples"):
            texts_of(TEXTS, count)


@pytest.mark.parametrize("wrong", [["a text"], [[1.5, 2]], [[[1, 2]]], {"input_ids": [[1, 2]]}])
def test_token_lists_hold_whole_numbers(wrong):
    with pytest.raises(HyLoRADAError, match="no list of token ids"):
        token_nll(FAMILIES["gpt2"](), wrong, max_length=8)


def test_lost_in_the_middle_is_the_published_loop():
    tokens = random_store()
    losses = [[] for _ in range(10)]
    for _, rows in table(tokens).groupby("text"):
        nll, length = rows.sort_values("position").nll.to_numpy(), len(rows) + 1
        if length < 100:  # leaves the texts of 130, 257 and 99 scored tokens
            continue
        size = (length - 1) // 10
        for decile in range(10):
            losses[decile].append(nll[decile * size : (decile + 1) * size if decile < 9 else None].mean())
    assert len(losses[0]) == 3
    deciles = [math.exp(np.mean(values)) for values in losses]
    np.testing.assert_allclose(tokens.decile_perplexities(), deciles)
    assert tokens.lost_in_the_middle_published() == pytest.approx(np.mean(deciles))


def test_the_first_windows_are_the_texts_cut_at_the_window():
    model, texts = FAMILIES["llama"](), [ids_of(50, 1), ids_of(9, 2)]
    cut = token_nll(model, [ids[:16] for ids in texts], 16, progress=False)
    first = token_nll(model, texts, 16, stride=5, progress=False).first_windows()
    np.testing.assert_allclose(first.nll, cut.nll, rtol=1e-4)
    np.testing.assert_array_equal(first.position, cut.position)
    with pytest.raises(HyLoRADAError, match="bytes of these texts are not known"):
        first.bits_per_byte()


def test_lost_in_the_middle_reads_each_text_up_to_the_window():
    model, tokenizer, text = FAMILIES["gpt2"](), letters(), "of shoes and ships " * 5
    results = evaluate_lost_in_the_middle(
        model=model,
        dataset=[text, "short", text],
        tokenizer=tokenizer,
        min_tokens=40,
        max_length=50,
        num_samples=2,
        progress=False,
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:50]
    nll = np.array([slow_nll(model, ids, target, 0) for target in range(1, 50)])
    deciles = [math.exp(part.mean()) for part in np.split(nll, range(4, 40, 4))]
    assert results["texts"] == 1 and results["max_length"] == 50
    np.testing.assert_allclose(results["decile_perplexities"], deciles, rtol=1e-4)
    assert results["perplexity"] == pytest.approx(np.mean(deciles), rel=1e-4)


def test_the_full_evaluation_names_its_window_and_counts_everything():
    model, tokenizer = adapt(FAMILIES["gpt2"](), HyLoRADAConfig(lora_rank=2)), letters()
    texts = ["of shoes and ships", "", "and sealing wax"]
    options = dict(model=model, test_dataset=texts, tokenizer=tokenizer, max_length=8, progress=False)
    metrics = run_full_evaluation(**options, stride=4, config=model.hylorada_config)
    scored = (len(texts[0]) - 1) + (len(texts[2]) - 1)
    wanted = dict(texts=3, texts_skipped=1, scored_tokens=scored, bytes=scored, words=7, max_length=8, stride=4)
    assert {name: metrics[name] for name in wanted} == wanted
    perplexity = evaluate_perplexity(model, texts, tokenizer, 8, 4, progress=False)[0]
    assert METRICS.keys() <= metrics.keys() and metrics["loss"] == metrics["mean_nll"]
    assert metrics["perplexity"] == perplexity and metrics["lim_perplexity"] is None
    assert metrics["word_perplexity"] == pytest.approx(metrics["byte_perplexity"] ** (scored / 7))
    with pytest.raises(HyLoRADAError, match="not the one this model was built with"):
        run_full_evaluation(**options, config=HyLoRADAConfig(lora_rank=3))
