"""Rows of a published run: filled with the end token, masked or not, and scored line by line."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bases import gpt2
from published_training import AS_PUBLISHED, END, LENGTH, SMALL, rows, stage, train
from torch.utils.data import default_collate

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.evaluation import token_nll
from hylorada.landmark_redesigns import PooledLandmark
from hylorada.study.plan.protocol import training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.run.follow import follow, padding_share, published_batches, published_perplexity


@pytest.mark.parametrize("design", ["original", "per_layer"])
def test_landmarks_that_pool_take_padding_for_text_in_training_alone(design):
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])

    def pooled(protocol, training: bool) -> list[list]:
        """What each pooling part takes for text, of the same batch."""
        config = HyLoRADAConfig(landmark_design=design, landmark_pooling="sequence", position_bias_enabled=False)
        model = HyLoRADAModel(gpt2(), config).train(training)
        follow(protocol, model)
        taken: list[list] = []
        for module in model.modules():
            if isinstance(module, PooledLandmark):
                module.register_forward_pre_hook(lambda module, args: taken.append(args[2].int().tolist()))
        model(torch.full((2, 6), 7), attention_mask=mask)
        assert len(taken) == (1 if design == "original" else 2)
        return taken

    everything, by_mask = torch.ones_like(mask).tolist(), mask.tolist()
    study = PROTOCOLS["landmark_study"]
    for protocol, training, expected in (
        (study, True, everything),
        (study, False, by_mask),
        (replace(study, pools_over_padding=False), True, by_mask),
    ):
        assert all(real == expected for real in pooled(protocol, training))


def test_rows_are_filled_with_the_end_token_which_counts_as_a_target():
    short, blank, long = ([7, END, 9], [], list(range(1, LENGTH + 5)))
    first, second, third = published_batches(AS_PUBLISHED, [short, blank, long], END)
    assert first["input_ids"].tolist() == first["labels"].tolist() == [7, END, 9] + [END] * (LENGTH - 3)
    assert first["attention_mask"].tolist() == [1, 1, 1] + [0] * (LENGTH - 3)
    assert first["position_ids"].tolist() == list(range(LENGTH))
    assert not second["attention_mask"].any() and (second["labels"] == END).all()
    assert third["labels"].tolist() == long[:LENGTH] and third["attention_mask"].all()
    assert padding_share([first]) == (LENGTH - 3) / (LENGTH - 1)
    assert padding_share([first, second, third]) == (LENGTH - 3 + LENGTH - 1) / (3 * (LENGTH - 1))


def test_masked_padding_is_no_target_and_rows_stay_in_their_steps():
    """The mask is all that differs: the same rows in the same steps, of which blank ones add nothing."""
    masked = replace(PROTOCOLS["padding_masked"], **SMALL)
    batches = published_batches(masked, [[7, END, 9], [], [4]], END)
    assert [(b["labels"] != -100).sum() for b in batches] == [3, 0, 1]
    assert batches[0]["labels"].tolist() == [7, END, 9] + [-100] * (LENGTH - 3)
    assert [b["attention_mask"].sum() for b in batches] == [3, 0, 1] and padding_share(batches) == 0
    counted = replace(PROTOCOLS["as_published"], **SMALL)
    for one, other in zip(batches, published_batches(counted, [[7, END, 9], [], [4]], END), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in ("input_ids", "attention_mask", "position_ids"))
    history, published = (train(stage("rslora", gpt2(), p), p) for p in (masked, counted))
    real = [min(len(row), LENGTH) - 1 for row in rows() if len(row) > 1]
    assert sum(row["targets"] for row in history) == sum(real) and len(history) == len(published)


def test_a_step_of_blank_rows_alone_is_passed_over_where_padding_is_masked():
    masked = replace(PROTOCOLS["padding_masked"], **SMALL)
    given = {"learning_rate": 1e-3, "seed": 0}
    config = TrainingConfig(**training_config(masked, given))
    assert config.allow_empty_steps and not TrainingConfig(**training_config(AS_PUBLISHED, given)).allow_empty_steps
    model = stage("rslora", gpt2(), masked)
    batches = published_batches(masked, [[]] * 7 + [[7, 8, 9]], END)
    result = HyLoRADATrainer(model, config, batches, progress=False, collate=default_collate).train()
    assert sorted(row["targets"] for row in result.history) == [0, 2]
    assert [row["loss"] > 0 for row in result.history] == [row["targets"] > 0 for row in result.history]


def test_a_protocol_that_packs_gives_no_rows_and_no_rows_train_nothing():
    with pytest.raises(HyLoRADAError, match="'corrected' packs its text"):
        published_batches(PROTOCOLS["corrected"], rows(), END)
    with pytest.raises(HyLoRADAError, match="15 rows leave nothing to train on"):
        published_batches(PROTOCOLS["landmark_study"], rows(15), END)


def test_the_published_metric_is_the_mean_of_the_lines_perplexities():
    """Line by line through the model's own loss, cut at the window, lines under ten tokens skipped."""
    model = stage("landmarks", gpt2(), AS_PUBLISHED).eval()
    lines = [row for row in rows() if row]
    perplexities = []
    for row in lines:
        if len(row) >= 10:
            ids = torch.tensor([row[:LENGTH]])
            with torch.no_grad():
                perplexities.append(math.exp(model(ids, labels=ids).loss.item()))
    nll = token_nll(model, lines, max_length=LENGTH, progress=False)
    assert published_perplexity(nll, AS_PUBLISHED.min_tokens) == pytest.approx(np.mean(perplexities), rel=1e-5)
    assert 0 < len(perplexities) < len(lines)
    assert published_perplexity(nll) != pytest.approx(nll.corpus_perplexity(), rel=1e-3)
