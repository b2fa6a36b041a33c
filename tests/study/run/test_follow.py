"""Following a protocol: what it takes from the model, which buckets it uses, and which dtype the adapter has."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bases import FAMILIES, gpt2, llama
from published_training import AS_PUBLISHED, END, LENGTH, PASSED, SMALL, TRAINED, logits, rows, stage, train, trained
from torch.nn import functional as F
from torch.utils.data import default_collate

from hylorada import HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.evaluation import token_nll
from hylorada.lora import GatedMagnitude
from hylorada.positions import FixedBuckets
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.protocol import adapter_config, training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.run.follow import (
    drawn_from,
    follow,
    hooked_in_alone,
    in_base_dtype,
    published_batches,
    with_buckets,
    without_positions,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_stage_3_is_stage_2_bit_for_bit_unless_positions_are_passed(family):
    """The structural zero: with no positions the bias is not there, in training and after."""

    def run(name: str, protocol) -> tuple[list[dict], torch.Tensor, dict]:
        model = stage(name, FAMILIES[family](), protocol)
        history = train(model, protocol)
        return history, logits(model), trained(model)

    without, with_bias, passed = (
        run("magnitude", AS_PUBLISHED),
        run("position_bias", AS_PUBLISHED),
        run("position_bias", PASSED),
    )
    assert with_bias[0] == without[0]
    assert torch.equal(with_bias[1], without[1])
    assert with_bias[2].keys() - without[2].keys() == {"position_bias.bias", "position_bias.weight"}
    assert all(torch.equal(with_bias[2][name], tensor) for name, tensor in without[2].items())
    assert not with_bias[2]["position_bias.bias"].any() and not with_bias[2]["position_bias.weight"]
    assert passed[0][0] == without[0][0] and passed[0][1:] != without[0][1:]  # neutral at the start
    assert not torch.equal(passed[1], without[1]) and passed[2]["position_bias.bias"].any()


def test_positions_are_taken_only_from_a_bias_that_is_there():
    with pytest.raises(HyLoRADAError, match="no adapted layer has a position bias"):
        without_positions(stage("rslora", gpt2(), AS_PUBLISHED))


def gates_that_learned(protocol, name: str = "landmarks") -> list[int]:
    """Rows of the place gates that a gradient reached in one pass over blocks of LENGTH tokens."""
    model = stage(name, gpt2(), protocol)
    batch = default_collate(published_batches(protocol, rows(), END))
    F.cross_entropy(
        model(batch["input_ids"], position_ids=batch["position_ids"]).logits[:, :-1].flatten(0, 1),
        batch["input_ids"][:, 1:].flatten(),
    ).backward()
    return model.landmark.position_gates.grad.any(dim=1).nonzero()[:, 0].tolist()


def test_only_bucket_0_is_ever_used_as_published():
    assert gates_that_learned(AS_PUBLISHED) == [0]
    assert len(gates_that_learned(replace(PROTOCOLS["buckets_fixed"], **SMALL))) > 10
    assert gates_that_learned(replace(PROTOCOLS["landmark_study"], **SMALL)) == [0, 1]  # 16 positions a bucket


def test_the_published_buckets_hold_1024_positions_and_16():
    for name, size in (("as_published", 1024), ("landmark_study", 16)):
        buckets = PROTOCOLS[name].landmark_buckets
        places = torch.arange(buckets.positions)
        assert torch.equal(FixedBuckets(32, buckets.positions, buckets.spacing)(places), places // size)


def test_fixed_buckets_are_logarithmic_over_the_length_in_use():
    model = stage("landmarks", gpt2(), replace(PROTOCOLS["buckets_fixed"], **SMALL))
    places = torch.arange(LENGTH)
    by_formula = (32 * torch.log1p(places.double()) / math.log1p(LENGTH)).floor().long()
    assert torch.equal(model.landmark.bucket(places), by_formula)


def test_a_position_bias_keeps_its_own_buckets_when_those_of_the_landmarks_change():
    model = stage("landmarks", gpt2(), PASSED)
    assert model.position_bias.bucket(torch.arange(LENGTH)).unique().numel() > 10
    assert not model.landmark.bucket(torch.arange(LENGTH)).any()


def test_learned_buckets_cover_1024_positions_as_published():
    assert stage("learned_buckets", gpt2(), AS_PUBLISHED).landmark.get_learned_boundaries()[0] == 32
    fixed = stage("learned_buckets", gpt2(), replace(PROTOCOLS["buckets_fixed"], **SMALL))
    assert fixed.landmark.get_learned_boundaries()[0] == LENGTH / 32
    with pytest.raises(HyLoRADAError, match="no landmarks with buckets"):
        with_buckets(stage("rslora", gpt2(), AS_PUBLISHED), AS_PUBLISHED.landmark_buckets)


def landmark_tensors(model: HyLoRADAModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.landmark.named_parameters()}


def test_the_learned_module_never_trains_as_published_and_trains_when_it_is_registered():
    for protocol, moves in ((AS_PUBLISHED, False), (TRAINED, True)):
        model = stage("learned_buckets", gpt2(), protocol)
        before = landmark_tensors(model)
        train(model, protocol)
        after = landmark_tensors(model)
        assert [torch.equal(after[name], tensor) for name, tensor in before.items()] == [not moves] * 5


def scored(model: HyLoRADAModel) -> np.ndarray:
    return token_nll(model, rows(), LENGTH, progress=False).nll


def test_dropout_stays_on_at_evaluation_and_is_seeded():
    model = stage("learned_buckets", gpt2(), AS_PUBLISHED).eval()
    assert not np.array_equal(scored(model), scored(model))
    with drawn_from(1):
        first = scored(model)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with drawn_from(1):
        again = scored(model)
    with drawn_from(2):
        other = scored(model)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "protocol"), [("learned_buckets", TRAINED), ("landmarks", AS_PUBLISHED)])
def test_dropout_is_off_at_evaluation_wherever_the_module_is_registered(name, protocol):
    model = stage(name, gpt2(), protocol).train()
    assert np.array_equal(scored(model), scored(model))


def test_dropout_that_stays_on_has_the_rate_of_the_module():
    model = stage("learned_buckets", gpt2(), AS_PUBLISHED, lora_dropout=0.25).eval()
    with drawn_from(0):
        kept = model.landmark.dropout(torch.ones(40_000))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3]) and (kept == 0).float().mean() == pytest.approx(
        0.25, abs=0.01
    )


def test_an_unregistered_module_resumes_bit_for_bit_and_is_saved(tmp_path):
    def run(folder=None, stop_after=None):
        model = stage("learned_buckets", gpt2(), AS_PUBLISHED)
        config = TrainingConfig(**training_config(AS_PUBLISHED, {"seed": 3, "checkpoint_every": folder and 1}))

        def stop(row: dict, total: int) -> None:
            if row["step"] == stop_after:
                raise KeyboardInterrupt

        batches = published_batches(AS_PUBLISHED, rows(), END)
        trainer = HyLoRADATrainer(model, config, batches, folder, False, stop, default_collate)
        return model, trainer.train().history

    whole, history = run()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=2)
    resumed, joined = run(tmp_path)
    assert joined == history
    assert all(torch.equal(trained(resumed)[name], tensor) for name, tensor in trained(whole).items())
    assert not any(p.requires_grad for p in whole.landmark.parameters())
    whole.save_pretrained(tmp_path / "adapter")
    loaded = HyLoRADAModel.from_pretrained(gpt2(), tmp_path / "adapter")
    follow(AS_PUBLISHED, loaded)
    with drawn_from(1):
        first = scored(whole)
    with drawn_from(1):
        assert np.array_equal(scored(loaded), first)


def test_only_landmarks_at_the_final_norm_can_be_hooked_in_alone_and_only_once():
    with pytest.raises(HyLoRADAError, match="no landmarks whose dropout"):
        hooked_in_alone(stage("rslora", gpt2(), AS_PUBLISHED))
    with pytest.raises(HyLoRADAError, match="already"):
        hooked_in_alone(stage("learned_buckets", gpt2(), AS_PUBLISHED))


@pytest.mark.parametrize("protocol", [AS_PUBLISHED, PASSED, TRAINED], ids=lambda protocol: protocol.label)
@pytest.mark.parametrize("name", [name for name in STAGES if name != "base"])
def test_without_masters_everything_of_the_adapter_is_of_the_bases_type(name, protocol):
    model = stage(name, gpt2().to(torch.bfloat16), protocol)
    train(model, protocol)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    masters = stage(name, gpt2().to(torch.bfloat16), replace(protocol, adapter_dtype="float32"))
    assert {p.dtype for p in masters.trainable_parameters()} == {torch.float32}


def test_a_float32_base_keeps_a_float32_adapter():
    model = stage("landmarks", llama(), AS_PUBLISHED)
    before = trained(model)
    in_base_dtype(model)
    assert all(torch.equal(trained(model)[name], tensor) for name, tensor in before.items())


def test_in_bfloat16_without_masters_a_magnitude_of_a_half_or_more_cannot_move():
    """Half a step of its last digit is 2^-10 there, more than a step of AdamW at 5e-4; masters do move."""
    for protocol, moves in ((AS_PUBLISHED, False), (replace(AS_PUBLISHED, adapter_dtype="float32"), True)):
        model = stage("magnitude", gpt2().to(torch.bfloat16), protocol)
        parts = [module for module in model.modules() if isinstance(module, GatedMagnitude)]
        before = [part.magnitude.detach().clone() for part in parts]
        train(model, protocol)
        large = [(part.magnitude != old)[old >= 0.5] for part, old in zip(parts, before, strict=True)]
        assert sum(map(len, large)) > 100 and torch.cat(large).any().item() == moves


def test_follow_passes_by_what_a_model_lacks_and_the_corrected_protocol_changes_nothing():
    for name in ("rslora", "learned_buckets"):
        model = stage(name, llama(), PROTOCOLS["corrected"])
        base = llama()
        torch.manual_seed(5)
        same = HyLoRADAModel(base, replace(STAGES[name].adapter, max_positions=LENGTH))
        assert torch.equal(logits(model.eval()), logits(same.eval()))
        assert trained(model).keys() == trained(same).keys()


def test_the_landmark_study_has_four_landmarks_and_float32_masters():
    model = stage("landmarks", gpt2().to(torch.bfloat16), replace(PROTOCOLS["landmark_study"], **SMALL))
    assert model.landmark.landmarks.shape == (4, 32)
    assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
    assert (
        adapter_config(PROTOCOLS["corrected"], replace(STAGES["landmarks"].adapter, num_landmarks=3)).num_landmarks == 3
    )
