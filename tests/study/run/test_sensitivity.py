"""What tells noise from an effect: scoring in float32, a placebo, and how far training could take a part at most."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import SMOKE

from hylorada import HyLoRADAModel, TrainingConfig
from hylorada.nll import TokenNLL
from hylorada.parts import owners
from hylorada.rates import share_of_rate
from hylorada.scoring import token_nll
from hylorada.study.plan.runs import plan
from hylorada.study.run.ceiling import ceilings
from hylorada.study.run.execute import execute
from hylorada.study.run.inputs import Inputs, load_base
from hylorada.study.run.score import main_texts
from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.identity import model_folder
from hylorada.study.sources.tokens import read_tokens

SHORT = replace(SMOKE, seeds=[0], train_tokens=256, test_tokens_per_article=96, studies={}, measures={"placebo": 1})
IN_FLOAT32 = replace(SHORT, evaluation_dtype="float32")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory) -> dict:
    """The runs of rsLoRA and of the untouched base, scored in bfloat16 and in float32: records and folders."""
    folder, inputs, found = tmp_path_factory.mktemp("made"), Inputs(), {}
    for dtype, settings in (("bfloat16", SHORT), ("float32", IN_FLOAT32)):
        for stage in ("base", "rslora"):
            (run,) = plan(settings, "ablation")[stage]
            where = folder / run.name
            tokens = tokens_path(SMOKE.base, SMOKE.corpus, data)
            record = execute(run, where, model_folder(SMOKE.base, data), tokens, progress=False, inputs=inputs)
            found[dtype, stage] = run, record, where
    return found | {"inputs": inputs}


@pytest.mark.parametrize("stage", ["base", "rslora"])
def test_a_run_scored_in_float32_is_its_adapter_on_the_float32_base(made, data, stage):
    run, record, folder = made["float32", stage]
    assert run.specification.dtype == "bfloat16" and run.specification.scored_in == "float32"
    model = load_base(model_folder(SMOKE.base, data), "float32")
    if stage != "base":
        model = HyLoRADAModel.from_pretrained(model, folder / "adapter").eval()
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, data))
    how = {"max_length": SMOKE.block_tokens, "stride": SMOKE.evaluation_stride, "batch_size": SMOKE.evaluation_batch}
    expected = token_nll(model, main_texts(run.specification, text), **how, progress=False)
    assert np.array_equal(TokenNLL.load(folder / "nll.npz").nll, expected.nll)
    _, short, _ = made["bfloat16", stage]
    assert record.results["mean_nll"] != short.results["mean_nll"]
    assert record.training is None or record.training.history == short.training.history, "trained alike"


def test_both_bases_stay_for_the_next_run(made):
    assert set(made["inputs"]._bases) == {"bfloat16", "float32"}


def test_a_placebo_is_the_same_adapter_but_for_chance(made):
    for dtype in ("bfloat16", "float32"):
        placebo = made[dtype, "rslora"][1].measures.placebo
        assert placebo.moved == 1e-4 and len(placebo.changes) == 2 and placebo.token_sd > 0
    assert made["float32", "base"][1].measures.placebo is None
    assert (
        made["float32", "rslora"][1].measures.placebo.token_sd < made["bfloat16", "rslora"][1].measures.placebo.token_sd
    )


def test_only_the_low_rank_update_alone_has_a_placebo():
    for stage, runs in plan(SHORT, "ablation").items():
        assert ("placebo" in runs[0].specification.measures) == (stage == "rslora")


def test_a_ceiling_is_the_gradient_times_the_way_that_the_rates_leave(data):
    base = load_base(model_folder(SMOKE.base, data), "float32")
    torch.manual_seed(0)
    (run,) = plan(SMOKE, "ablation")["landmarks"][:1]
    model = HyLoRADAModel(base, run.specification.adapter)
    config = TrainingConfig(learning_rate=1e-3, position_bias_lr=2e-3, landmark_lr=3e-3, magnitude_lr=4e-3)
    texts = [np.arange(2, 40), np.arange(5, 25)]
    found = ceilings(model, config, 10, texts)
    assert all(parameter.grad is None for parameter in model.parameters())
    targets = sum(len(ids) - 1 for ids in texts)
    model.eval()
    loss = sum(
        torch.nn.functional.cross_entropy(
            model(torch.tensor(ids)[None]).logits[0, :-1], torch.tensor(ids[1:]), reduction="sum"
        )
        for ids in texts
    )
    (loss / targets).backward()
    reach = sum(share_of_rate("cosine", 0.03, step, 10) for step in range(10))
    rates = {"magnitude": 4e-3, "position_bias": 2e-3, "landmark": 3e-3}
    expected = dict.fromkeys(rates, 0.0)
    for parameter, part in owners(model).items():
        if part in rates and parameter.requires_grad and parameter.grad is not None:
            expected[part] += rates[part] * reach * parameter.grad.abs().sum().item()
    assert found == pytest.approx(expected, rel=1e-3) and min(found.values()) > 0
