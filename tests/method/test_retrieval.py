"""Retrieval by the likeliest listed value: each score in full, models with a known answer, every place counted."""

import random
import re
import string
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bases import CONTEXT, FAMILIES, VOCABULARY, adapt, without_zeros
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from hylorada import HyLoRADAConfig, HyLoRADAError
from hylorada.retrieval import (
    Question,
    candidate_log_probs,
    continuations,
    is_hit,
    key_value_questions,
    measure_retrieval,
    passkey_questions,
    tokens_to_read,
    words_of_length,
)
from hylorada.retrieved import MEASURABLE, NOT_MEASURABLE, Place, verdict
from hylorada.wilson import wilson

SIGNS = [sign for sign in string.printable if sign not in "\t\r\x0b\x0c"]
WORDS = ["ash", "bay", "cow", "dew", "elm", "fog", "gum", "hay", "ivy", "jam", "kit", "log"]  # no two begin alike
LETTERS = random.Random(0)
FILLER = [" ".join("".join(LETTERS.choices("abcdefgh", k=n % 8 + 1)) for n in range(150)), "", "a\nb", "c d " * 40]


def signs() -> PreTrainedTokenizerFast:
    """One token a printable sign; their ids fit the tiny models."""
    core = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(SIGNS)}, unk_token="?"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")


def whole_words(words: list[str]) -> PreTrainedTokenizerFast:
    """One token a word of `words` with the space before it, and one a sign for all else."""
    pieces = [*(f" {word}" for word in words), *string.ascii_lowercase, "\n", ":", " ", "?"]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    cut = Regex("|".join(rf" {word}(?![a-z])" for word in words) + "|[\\s\\S]")
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split(cut, "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")


class Copier(nn.Module):
    """After each token, what came after the longest earlier match of the tokens before it (the last of equal ones)."""

    def __init__(self, longest: int = 99, scale: float = 1.0) -> None:
        super().__init__()
        self.longest, self.scale, self.read = longest, scale, 0
        self.embedding = nn.Embedding(VOCABULARY, 1)
        self.head = nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        nn.init.eye_(self.head.weight)
        self.config = PreTrainedConfig(max_position_embeddings=4096)
        self.decoder = Decoder(self)

    def forward(self, **inputs):
        return SimpleNamespace(logits=self.scale * self.head(self.decoder(**inputs)[0]))

    def get_decoder(self):
        return self.decoder

    def get_input_embeddings(self):
        return self.embedding

    def get_output_embeddings(self):
        return self.head


class Decoder(nn.Module):
    def __init__(self, owner: Copier) -> None:
        super().__init__()
        object.__setattr__(self, "owner", owner)  # past nn.Module: the owner holds this one

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        self.owner.read += input_ids.numel() if attention_mask is None else int(attention_mask.sum())
        hidden = torch.zeros(*input_ids.shape, VOCABULARY)
        for row, ids in enumerate(input_ids.tolist()):
            for last in range(1, len(ids)):
                copied = max(range(last), key=lambda end: (self.matched(ids, end, last), end))
                if self.matched(ids, copied, last):
                    hidden[row, last, ids[copied + 1]] = 10.0
        return (hidden,)

    def matched(self, ids: list[int], end: int, last: int) -> int:
        length = 0
        while length < min(end + 1, self.owner.longest) and ids[end - length] == ids[last - length]:
            length += 1
        return length


def slow_score(model: nn.Module, question: Question, candidate: tuple[int, ...]) -> float:
    """sum log p(token | all before it), one forward a token over exactly what comes before."""
    score = 0.0
    for place, token in enumerate(candidate):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([question.context + candidate[:place]])).logits[0, -1].float()
        score += logits.log_softmax(dim=-1)[token].item()
    return score


def questions_of_three_kinds() -> list[Question]:
    """Contexts of several lengths; values of several tokens and of one."""
    spelled = key_value_questions(signs(), WORDS, pairs=3, trials=2)
    shorter = key_value_questions(signs(), WORDS, pairs=2, trials=1)
    hidden = passkey_questions(signs(), FILLER, lengths=[61], depths=[0.5], trials=1, candidates=3)
    return [*spelled, *shorter, *hidden, *key_value_questions(whole_words(WORDS), WORDS, pairs=4, trials=2)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_score_is_the_sum_of_log_probabilities_over_the_tokens_of_the_value(family, batch_size):
    model, questions = FAMILIES[family](), questions_of_three_kinds()
    for question, scores in zip(questions, candidate_log_probs(model, questions, batch_size, False), strict=True):
        slow = [slow_score(model, question, candidate) for candidate in question.candidates]
        np.testing.assert_allclose(scores, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapted_model_is_asked_with_its_adapters_and_without_its_dropout(family):
    everything = HyLoRADAConfig(lora_rank=2, lora_dropout=0.5, daa_enabled=True, position_bias_enabled=True)
    model, questions = without_zeros(adapt(FAMILIES[family](), everything)), questions_of_three_kinds()
    model.train()
    scores = candidate_log_probs(model, questions, progress=False)
    assert model.training
    model.eval()
    for question, got in zip(questions, scores, strict=True):
        slow = [slow_score(model, question, candidate) for candidate in question.candidates]
        np.testing.assert_allclose(got, slow, rtol=1e-3, atol=1e-3)
    assert not np.allclose(scores[0], candidate_log_probs(FAMILIES[family](), questions, progress=False)[0], rtol=0.01)


def test_a_bfloat16_model_is_asked_with_float32_logits():
    model, question = FAMILIES["llama"]().bfloat16(), questions_of_three_kinds()[-1]  # of one-token values
    with torch.no_grad():
        hidden = model.model(torch.tensor([question.context]))[0][0, -1].float()
    log_probs = (hidden @ model.lm_head.weight.detach().float().T).log_softmax(dim=-1)
    (scores,) = candidate_log_probs(model, [question], progress=False)
    np.testing.assert_allclose(scores, [log_probs[token].item() for (token,) in question.candidates], rtol=1e-5)


def test_a_model_that_copies_finds_every_value_at_every_place():
    asked = key_value_questions(signs(), WORDS, pairs=5, trials=4) + key_value_questions(signs(), WORDS, 3, 4)
    result = measure_retrieval(Copier(), asked, progress=False)
    assert [(place.size, place.index, place.hits, place.trials) for place in result.places] == [
        *((3, index, 4, 4) for index in range(3)),
        *((5, index, 4, 4) for index in range(5)),
    ]
    assert (result.share, result.verdict) == (1.0, MEASURABLE)
    assert [place.chance for place in result.places] == [1 / 3] * 3 + [1 / 5] * 5
    assert result.chance == pytest.approx((12 / 3 + 20 / 5) / 32)


def test_a_model_that_copies_finds_the_passkey_at_every_depth_and_length():
    asked = passkey_questions(signs(), FILLER, lengths=[120, 70], depths=[0, 0.5, 1], trials=3)
    result = measure_retrieval(Copier(), asked, progress=False)
    wanted = [(size, depth, 3, 3) for size in (70, 120) for depth in (0, 0.5, 1)]
    assert [(place.size, place.depth, place.hits, place.trials) for place in result.places] == wanted


def test_a_liking_for_the_last_line_hits_there_alone_and_its_share_is_chance():
    asked = key_value_questions(whole_words(WORDS), WORDS, pairs=4, trials=12)
    result = measure_retrieval(Copier(longest=1), asked, progress=False)
    assert [place.hits for place in result.places] == [0, 0, 0, 12]
    assert result.share == result.chance == 0.25


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_model_is_at_chance(family):
    asked = key_value_questions(whole_words(WORDS), WORDS, pairs=4, trials=60)
    result = measure_retrieval(FAMILIES[family](), asked, batch_size=64, progress=False)
    assert all(place.low <= 0.25 <= place.high and 0 < place.hits < 60 == place.trials for place in result.places)
    assert result.verdict == NOT_MEASURABLE


def test_a_model_that_finds_all_values_alike_is_at_chance():
    model = FAMILIES["llama"]()
    nn.init.zeros_(model.lm_head.weight)
    asked = key_value_questions(signs(), WORDS, pairs=4, trials=60)
    assert len({score for scores in candidate_log_probs(model, asked, 64, False) for score in scores}) == 1
    result = measure_retrieval(model, asked, batch_size=64, progress=False)
    assert result.verdict == NOT_MEASURABLE and all(place.hits > 0 for place in result.places)


@pytest.mark.parametrize("model", [FAMILIES["gpt2"](), Copier(), Copier(longest=1)], ids=["random", "oracle", "last"])
def test_the_order_of_the_list_changes_nothing(model):
    questions = questions_of_three_kinds()
    shuffled, orders = [], []
    for question in questions:
        order = random.Random(1).sample(range(len(question.candidates)), len(question.candidates))
        listed = tuple(question.candidates[c] for c in order)
        shuffled.append(replace(question, candidates=listed, answer=order.index(question.answer)))
        orders.append(order)
    first, second = (candidate_log_probs(model, asked, progress=False) for asked in (questions, shuffled))
    for before, after, order in zip(first, second, orders, strict=True):
        np.testing.assert_array_equal(before[order], after)
    hits = [list(map(is_hit, *pair)) for pair in ((questions, first), (shuffled, second))]
    assert hits[0] == hits[1]


def test_of_equal_scores_the_lowest_token_ids_are_taken_in_any_order():
    question = Question((1,), ((7,), (5,), (9,)), answer=1, size=3, index=0, depth=0.0)
    assert is_hit(question, np.zeros(3)) and not is_hit(question, np.array([0.0, 0.0, 0.1]))
    assert is_hit(replace(question, candidates=((5,), (9,), (7,)), answer=0), np.zeros(3))


def test_the_pair_that_is_asked_for_moves_and_the_others_keep_their_order():
    tokenizer, places = signs(), (0, 2, 3)
    questions = key_value_questions(tokenizer, WORDS, pairs=4, trials=2, indices=places)
    assert [question.index for question in questions] == [0, 2, 3, 0, 2, 3]
    assert [question.depth for question in questions] == [0, 2 / 3, 1] * 2 and {q.size for q in questions} == {4}
    for trial in (questions[:3], questions[3:]):
        others = []
        for question in trial:
            start, *lines, query = tokenizer.decode(question.context).split("\n")
            value = tokenizer.decode(question.candidates[question.answer])
            assert start == "" and lines.pop(question.index) == query + value
            others.append(lines)
            listed = {tokenizer.decode(candidate) for candidate in question.candidates}
            assert listed == {value, *(line.split(":")[1] for line in lines)}
            assert len({query, *(line.split(":")[0] + ":" for line in lines)}) == len(listed) == 4
        assert others[0] == others[1] == others[2]


@pytest.mark.parametrize("length", [75, 110, 200])
def test_the_passkey_stands_at_its_depth_in_the_same_filler(length):
    tokenizer, depths = signs(), (0, 0.25, 0.5, 0.9, 1)
    questions = passkey_questions(tokenizer, FILLER, [length], depths, trials=2, candidates=3)
    assert [question.depth for question in questions] == [*depths] * 2
    assert [question.index for question in questions] == [*range(5)] * 2
    longest_word = max(map(len, re.findall(r"\s*\S+", " ".join(FILLER))))
    for trial in (questions[:5], questions[5:]):
        fillers = set()
        for question in trial:
            size = len(question.context) + len(question.candidates[0])
            assert length - longest_word < size <= length == question.size
            text, values = tokenizer.decode(question.context), list(map(tokenizer.decode, question.candidates))
            before, after = text.removesuffix("\nThe pass key is").split(f"\nThe pass key is{values[question.answer]}.")
            fillers.add(before + after)
            assert abs(len(before) - question.depth * len(before + after)) <= longest_word / 2
            assert all(re.fullmatch(r" [1-9]\d{4}", value) for value in values) and len({*values}) == 3
            assert [text.count(value) for value in values] == [1, 0, 0]  # the others stand nowhere
        assert len(fillers) == 1 and fillers.pop() in "\n\n".join(FILLER)


def test_a_number_of_the_filler_is_never_listed():
    filler = " ".join(str(number) for number in range(10, 90))
    questions = passkey_questions(signs(), [filler], lengths=[75], trials=9, candidates=3, digits=2)
    for question in questions:
        text = signs().decode(question.context).replace("The pass key is", "")
        assert not any(text.count(signs().decode(value)) for value in question.candidates[1:])
        assert text.count(signs().decode(question.candidates[0])) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda trials, seed: key_value_questions(signs(), WORDS, pairs=3, trials=trials, seed=seed),
        lambda trials, seed: passkey_questions(signs(), FILLER, [80], [0, 1], trials=trials, seed=seed),
    ],
    ids=["key-value", "passkey"],
)
def test_a_seed_makes_the_questions_and_more_trials_only_add_to_them(make):
    few, many = make(2, 0), make(4, 0)
    assert few == make(2, 0) == many[: len(few)] and len(many) == 2 * len(few)
    assert len({question.context for question in [*many, *make(4, 1)]}) == 2 * len(many)


def test_the_tokens_of_a_value_are_those_it_adds_to_its_context():
    """Encoded by itself a value may begin otherwise: here any text gets a space in front."""
    core = Tokenizer(models.WordLevel({"▁": 0, "a": 1, "b": 2, ":": 3, "?": 4}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always", split=False), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    alone = tokenizer("b", add_special_tokens=False)["input_ids"]
    assert alone == [0, 2]
    assert continuations(tokenizer, "a:", ["b", " b", "ab"]) == ((0, 1, 3), ((2,), (0, 2), (1, 2)))


def test_a_value_that_changes_the_tokens_before_it_is_refused():
    core = Tokenizer(models.BPE({"a": 0, "b": 1, ":": 2, " ": 3, ": ": 4}, merges=[(":", " ")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert continuations(tokenizer, "a:", ["b", "ab"]) == ((0, 2), ((1,), (0, 1)))
    with pytest.raises(HyLoRADAError, match="joins the end of 'a:' with ' b'"):
        continuations(tokenizer, "a:", ["b", " b"])


def test_words_are_chosen_by_their_tokens_as_values():
    texts = ["The fog, the LOG & fogs; so 12 fog_s", "hay-jam"]
    assert words_of_length(whole_words(["fog", "log", "the"]), texts) == ["fog", "log", "the"]
    assert words_of_length(whole_words(["fog", "log", "the"]), texts, tokens=4) == ["hay", "jam"]
    assert words_of_length(signs(), texts, tokens=5) == ["fogs"]
    assert words_of_length(signs(), []) == []


def test_the_budget_is_what_the_model_reads_and_short_values_share_a_row():
    questions, model = questions_of_three_kinds(), Copier()
    candidate_log_probs(model, questions, batch_size=3, progress=False)
    assert model.read == tokens_to_read(questions) + 2  # two tokens tell how logits are made
    assert measure_retrieval(Copier(), questions, progress=False).tokens_read == tokens_to_read(questions)
    one_token = key_value_questions(whole_words(WORDS), WORDS, pairs=4, trials=1, indices=[2])
    assert tokens_to_read(one_token) == len(one_token[0].context)
    spelled = key_value_questions(signs(), WORDS, pairs=4, trials=1, indices=[2])
    assert tokens_to_read(spelled) == 4 * (len(spelled[0].context) + 3)


@pytest.mark.parametrize(
    ("hits", "word"),
    [([5, 5, 5], NOT_MEASURABLE), ([5, 8, 2], NOT_MEASURABLE), ([5, 5, 20], MEASURABLE), ([5, 0, 5], MEASURABLE)],
)
def test_the_verdict_asks_whether_chance_is_in_every_interval(hits, word):
    assert verdict([Place(4, i, i / 2, hit, 20, *wilson(hit, 20), 0.25) for i, hit in enumerate(hits)]) == word


def test_a_model_that_scales_its_logits_is_asked_for_those():
    """Half the logits are those of half the output layer."""
    halved, questions = Copier(), questions_of_three_kinds()
    halved.head.weight.data *= 0.5
    scaled = candidate_log_probs(Copier(scale=0.5), questions, progress=False)
    wanted = candidate_log_probs(halved, questions, progress=False)
    np.testing.assert_allclose(np.concatenate(scaled), np.concatenate(wanted), rtol=1e-6)


def ask(questions: list[Question], **options) -> None:
    candidate_log_probs(FAMILIES["llama"](), questions, progress=False, **options)


def question(**columns) -> Question:
    return Question(**(dict(context=(1, 2), candidates=((3,), (4,)), answer=0, size=2, index=0, depth=0.0) | columns))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ask([]), "0 questions"),
        (lambda: ask([question()], batch_size=0), "batches of 0"),
        (lambda: ask([question(context=(1,) * (CONTEXT + 1))]), "65 tokens does not fit this model's context of 64"),
        (lambda: ask([question(candidates=((3,), (VOCABULARY,)))]), "belongs to the model"),
        (lambda: question(context=()), "without context"),
        (lambda: question(candidates=((3,), (4, 5))), r"\[1, 2\] tokens"),
        (lambda: question(candidates=((), ())), r"\[0\] tokens"),
        (lambda: question(candidates=((3,),)), "two or more"),
        (lambda: question(candidates=((3,), (3,))), "each once"),
        (lambda: question(answer=2), "answer 2 of 2"),
        (lambda: key_value_questions(signs(), WORDS, pairs=7), "14 different words"),
        (lambda: key_value_questions(signs(), WORDS * 9, pairs=7), "14 different words"),
        (lambda: key_value_questions(signs(), WORDS, pairs=1), "pairs=1"),
        (lambda: key_value_questions(signs(), WORDS, pairs=3, indices=[3]), "places from 0 to 2"),
        (lambda: key_value_questions(signs(), [*WORDS[:5], "longer"], pairs=3, trials=9), r"\[4, 7\] tokens"),
        (lambda: passkey_questions(signs(), ["two words"], [75]), "give 75 words"),
        (lambda: passkey_questions(signs(), FILLER, [50]), "no room for filler"),
        (lambda: passkey_questions(signs(), FILLER, [75], depths=[1.5]), "shares from 0 to 1"),
        (lambda: passkey_questions(signs(), FILLER, [75], digits=0), "a digit or more"),
        (lambda: passkey_questions(signs(), FILLER, [75], digits=1, candidates=10), "use more digits"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong, message):
    with pytest.raises(HyLoRADAError, match=message):
        wrong()
