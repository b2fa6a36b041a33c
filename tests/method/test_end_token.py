"""p(end) on text: each probability from whole logits, what it costs, and which positions count."""

import math

import numpy as np
import pytest
import torch
from bases import CONTEXT, FAMILIES, VOCABULARY, adapt, without_zeros

from hylorada import HyLoRADAConfig, HyLoRADAError
from hylorada.end_token import EndProbability, end_probability
from hylorada.evaluation import token_nll

END = VOCABULARY - 1


def ids_of(length: int, seed: int = 0) -> list[int]:
    return torch.randint(END, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def slow_log_probs(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """log p of every token after each prefix of one window, (tokens - 1, vocabulary)."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(dim=-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk_tokens", [3, 512])
def test_each_probability_is_that_of_whole_logits(family, chunk_tokens):
    model, texts = FAMILIES[family](), [ids_of(16, 1), [], [7], ids_of(9, 2), ids_of(2, 3)]
    ends = end_probability(model, texts, END, 16, chunk_tokens=chunk_tokens, batch_size=2, progress=False)
    slow = [slow_log_probs(model, texts[text])[:, END] for text in (0, 3, 4)]
    assert ends.text.tolist() == [0] * 15 + [3] * 8 + [4]
    assert ends.position.tolist() == [*range(1, 16), *range(1, 9), 1]
    np.testing.assert_allclose(ends.nll, -np.concatenate(slow), rtol=1e-4, atol=1e-4)
    probabilities = np.exp(np.concatenate(slow))
    assert ends.mean() == pytest.approx(probabilities.mean(), rel=1e-3)
    np.testing.assert_allclose(ends.quantiles([0, 0.5, 1]), np.quantile(probabilities, [0, 0.5, 1]), rtol=1e-3)


def test_the_adapted_model_is_asked_with_its_adapters():
    model, ids = without_zeros(adapt(FAMILIES["llama"](), HyLoRADAConfig(lora_rank=2))), ids_of(12)
    ends = end_probability(model, [ids], END, progress=False)
    np.testing.assert_allclose(ends.nll, -slow_log_probs(model, ids)[:, END], rtol=1e-3)
    assert not np.allclose(ends.nll, end_probability(FAMILIES["llama"](), [ids], END, progress=False).nll, rtol=0.05)


@pytest.mark.parametrize(("max_length", "stride"), [(16, None), (16, 5), (10, 10), (None, None)])
def test_positions_and_windows_are_those_of_the_token_store(max_length, stride):
    model, texts = FAMILIES["gpt2"](), [ids_of(40, 1), [], ids_of(1), [*ids_of(10, 2), END, 4, END]]
    ends = end_probability(model, texts, END, max_length, stride, progress=False)
    tokens = token_nll(model, texts, max_length, stride, progress=False)
    for name in ("text", "position"):
        np.testing.assert_array_equal(getattr(ends, name), getattr(tokens, name))
    np.testing.assert_array_equal(ends.is_end, tokens.token_id == END)
    assert ends.is_end.sum() == 2
    np.testing.assert_allclose(ends.nll[ends.is_end], tokens.nll[ends.is_end], rtol=1e-5)  # where the end is the text


def test_an_end_that_the_text_has_is_no_text():
    nll = -np.log([0.25, 0.9, 0.5])
    ends = EndProbability(np.zeros(3), np.arange(1, 4), nll, np.array([False, True, False]))
    np.testing.assert_allclose(ends.on_text, [0.25, 0.5])
    assert ends.mean() == pytest.approx(0.375)
    np.testing.assert_allclose(ends.quantiles((0, 0.5, 1)), [0.25, 0.375, 0.5])
    assert ends.perplexity_factor() == pytest.approx((0.75 * 0.5) ** -0.5)


def test_the_factor_is_what_leaving_out_the_end_would_take_off_the_perplexity():
    model, ids = FAMILIES["qwen2"](), ids_of(16)
    log_probs = slow_log_probs(model, ids)
    own = log_probs[np.arange(15), ids[1:]]
    without = np.delete(np.exp(log_probs), END, axis=1).sum(axis=1)  # END is the last id: the others keep theirs
    factor = math.exp(-own.mean()) / math.exp(-(own - np.log(without)).mean())
    assert end_probability(model, [ids], END, progress=False).perplexity_factor() == pytest.approx(factor, rel=1e-4)
    assert factor > 1


def test_a_uniform_model_expects_the_end_as_any_token():
    model = FAMILIES["llama"]()
    torch.nn.init.zeros_(model.lm_head.weight)
    ends = end_probability(model, [ids_of(16)], END, progress=False)
    np.testing.assert_allclose(ends.on_text, 1 / VOCABULARY, rtol=1e-5)
    assert ends.perplexity_factor() == pytest.approx(VOCABULARY / (VOCABULARY - 1), rel=1e-5)


def test_a_model_that_expects_nothing_but_the_end_has_no_finite_factor():
    ends = EndProbability(np.zeros(1), np.ones(1), np.zeros(1), np.array([False]))
    assert ends.mean() == 1.0 and ends.perplexity_factor() == math.inf


def test_a_bfloat16_model_is_scored_with_float32_logits():
    model, ids = FAMILIES["llama"]().bfloat16(), torch.tensor([ids_of(12)])
    with torch.no_grad():
        hidden = model.model(ids)[0][0, :-1].float()
    logits = hidden @ model.lm_head.weight.detach().float().T
    ends = end_probability(model, ids.tolist(), END, progress=False)
    np.testing.assert_allclose(ends.nll, -logits.log_softmax(dim=-1)[:, END], rtol=1e-5)


def test_the_modules_are_back_in_their_modes():
    model = adapt(FAMILIES["gpt2"](), HyLoRADAConfig(lora_dropout=0.5)).train()
    first, second = (end_probability(model, [ids_of(9)], END, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.nll, second.nll)
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(max_length=CONTEXT + 1), "windows of 2 to 64 tokens"),
        (dict(max_length=1), "windows of 2 to 64"),
        (dict(max_length=8, stride=9), "stride=9"),
        (dict(max_length=8, stride=0), "stride=0"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(end_id=VOCABULARY), "end_id=97, is outside the model's 97"),
        (dict(texts=[[1, VOCABULARY]]), "belongs to the model"),
        (dict(texts=[[], [1]]), "none of 2 texts has two tokens"),
        (dict(texts=[]), "none of 0 texts"),
        (dict(texts=[[1, END, END]]), "not the end token"),
    ],
)
def test_what_cannot_be_scored_is_refused(options, message):
    with pytest.raises(HyLoRADAError, match=message):
        end_probability(FAMILIES["gpt2"](), **({"texts": [ids_of(9)], "end_id": END, "progress": False} | options))
