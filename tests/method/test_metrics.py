"""The one table of metrics: each name gives the number of its formula, and the middle that of first windows alone."""

from dataclasses import replace

import numpy as np
import pytest
from bases import FAMILIES
from scored_texts import letters, random_store

from hylorada import HyLoRADAError
from hylorada.evaluation import dataset_nll
from hylorada.metrics import METRICS, PERPLEXITIES, all_metrics


def test_six_perplexities_of_one_store_go_by_their_names():
    tokens = replace(random_store(), text_bytes=2 * random_store().text_bytes)  # each text a single window
    taken = all_metrics(tokens)
    assert taken.keys() == METRICS.keys()
    assert {name: taken[name] for name in PERPLEXITIES} == {
        "perplexity": tokens.corpus_perplexity(),
        "arithmetic_perplexity": tokens.arithmetic_perplexity(),
        "geometric_perplexity": tokens.geometric_perplexity(),
        "word_perplexity": tokens.word_perplexity(),
        "byte_perplexity": tokens.byte_perplexity(),
        "lim_perplexity": tokens.lost_in_the_middle_published(),
    }
    assert len({taken[name] for name in PERPLEXITIES}) == 6
    with pytest.raises(HyLoRADAError, match="bytes|words"):
        all_metrics(tokens.first_windows())


def test_without_a_long_text_the_middle_is_absent_and_the_rest_is_there():
    long = random_store()
    short = replace(long.select(long.position < 99), text_bytes=long.text_bytes, text_words=long.text_words)
    assert {name for name, value in all_metrics(long).items() if value is None} == set()
    absent = {name for name, value in all_metrics(short).items() if value is None}
    assert absent == {name for name, metric in METRICS.items() if metric.of_middle} != set()


def test_the_middle_is_read_within_first_windows():
    model, tokenizer, text = FAMILIES["gpt2"](), letters(), "of shoes and ships and sealing wax " * 3
    tokens = dataset_nll(model, [text, ""], tokenizer, max_length=50, progress=False)
    cut = dataset_nll(model, [text[:50]], tokenizer, max_length=50, progress=False)
    first = tokens.first_windows().lost_in_the_middle_published(50)
    assert first == pytest.approx(cut.lost_in_the_middle_published(50), rel=1e-5)
    assert first != pytest.approx(tokens.lost_in_the_middle_published(50), rel=1e-3)
    longer = random_store()
    second = replace(longer, context=np.where(longer.position > 110, longer.position - 110, longer.position))
    assert all_metrics(second)["lim_perplexity"] == second.first_windows().lost_in_the_middle_published()
    assert all_metrics(second)["lim_perplexity"] != second.lost_in_the_middle_published()
