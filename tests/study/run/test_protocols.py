"""Protocols: the published loops re-enacted in plain torch against the library, and every fact of the table."""

import json
import math
import subprocess
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from tiny import FAMILIES, VOCABULARY, gpt2, llama
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.evaluation import token_nll
from hylorada.landmark_redesigns import PooledLandmark
from hylorada.lora import GatedMagnitude, HyLoRADAUnified
from hylorada.positions import FixedBuckets
from hylorada.study.plan.protocol import GIVEN, adapter_config, fitted, protocol_of, training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.stages import STAGES
from hylorada.study.run.follow import (
    drawn_from,
    follow,
    hooked_in_alone,
    in_base_dtype,
    padding_share,
    published_batches,
    published_perplexity,
    with_buckets,
    without_positions,
)
from hylorada.study.sources.lines import Lines, lines_of, select_lines

LENGTH, END = 24, 0
SMALL = {"block_tokens": LENGTH, "evaluation_tokens": LENGTH}  # tiny models have 64 positions
AS_PUBLISHED = replace(PROTOCOLS["as_published"], **SMALL)
PASSED = replace(PROTOCOLS["positions_passed"], **SMALL)
TRAINED = replace(PROTOCOLS["bucket_module_trained"], **SMALL)
FIXES = {
    "padding_masked": "padding_in_loss",
    "positions_passed": "positions_reach_bias",
    "buckets_fixed": "landmark_buckets",
    "bucket_module_trained": "bucket_module_registered",
    "masters_kept": "adapter_dtype",
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(count: int = 16) -> list[list[int]]:
    """Ids of lines as they come: blank, of one token, short, and longer than a block; the end token inside some."""
    draw = np.random.default_rng(5)
    lengths = [0, 3, 9, 1, 30, 0, 14, LENGTH] * (count // 8 + 1)
    return [draw.integers(END, VOCABULARY, length).tolist() for length in lengths[:count]]


def stage(name: str, base: nn.Module, protocol, seed: int = 5, **changes) -> HyLoRADAModel:
    torch.manual_seed(seed)
    model = HyLoRADAModel(
        base, adapter_config(protocol, replace(STAGES[name].adapter, max_positions=LENGTH, **changes))
    )
    follow(protocol, model)
    return model


def train(model: HyLoRADAModel, protocol, count: int = 16, collate=default_collate, **settings) -> list[dict]:
    config = TrainingConfig(**training_config(protocol, {"seed": 3} | settings))
    batches = published_batches(protocol, rows(count), END)
    return HyLoRADATrainer(model, config, batches, progress=False, collate=collate).train().history


def logits(model: HyLoRADAModel) -> torch.Tensor:
    ids = torch.tensor([row for row in rows() if len(row) == LENGTH])
    with torch.no_grad():
        return model(ids).logits


def trained(model: HyLoRADAModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.adapter_tensors().items()}


class PlainLoRA(nn.Module):
    """W x + b + s·B A x and nothing else, around either kind of layer."""

    def __init__(self, layer: nn.Module, A: torch.Tensor, B: torch.Tensor, scaling: float) -> None:
        super().__init__()
        self.layer, self.scaling = layer, scaling
        self.A, self.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.scaling * (x @ self.A.T @ self.B.T)


def plain(base: nn.Module, model: HyLoRADAModel) -> nn.Module:
    """The same adapted model without the library: no hooks, no positions, the loss of transformers."""
    base.requires_grad_(False)
    layers = {name: m for name, m in model.base_model.named_modules() if isinstance(m, HyLoRADAUnified)}
    for name, layer in layers.items():
        inner = base.get_submodule(name)
        base.set_submodule(name, PlainLoRA(inner, layer.lora.A.detach(), layer.lora.B.detach(), layer.lora.scaling))
    return base.train()


def recorded(taken: list[dict]):
    """A collate that notes the batches, so that the re-enactment sees the same rows in the same order."""

    def collate(items: list[dict]) -> dict:
        taken.append(default_collate(items))
        return taken[-1]

    return collate


def padded(row: list[int]) -> tuple[list[int], list[int]]:
    """What the tokenizer of the published loop gave for a line: cut, or filled with end tokens, and the mask."""
    real = row[:LENGTH]
    return real + [END] * (LENGTH - len(real)), [1] * len(real) + [0] * (LENGTH - len(real))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ablation_trains_as_the_published_loop_did(family):
    """AdamW over all parameters at 5e-4, labels are the ids, mask given, no clipping: every loss and every weight."""
    model = stage("rslora", FAMILIES[family](), AS_PUBLISHED, lora_dropout=0.0)
    loop = plain(FAMILIES[family](), model)
    taken: list[dict] = []
    history = train(model, AS_PUBLISHED, collate=recorded(taken))
    optimizer = torch.optim.AdamW(loop.parameters(), lr=5e-4)
    losses = []
    for batch in taken:
        loss = loop(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["input_ids"]
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    assert [row["loss"] for row in history] == pytest.approx(losses, rel=1e-5)
    assert {row["learning_rate"] for row in history} == {5e-4}
    assert {row["targets"] for row in history} == {4 * (LENGTH - 1)}
    seen = sorted(
        (ids.tolist(), mask.tolist())
        for b in taken
        for ids, mask in zip(b["input_ids"], b["attention_mask"], strict=True)
    )
    assert seen == sorted(padded(row) for row in rows())
    for name, layer in loop.named_modules():
        if isinstance(layer, PlainLoRA):
            ours = model.base_model.get_submodule(name).lora
            torch.testing.assert_close(ours.B, layer.B, rtol=1e-3, atol=2e-6)
            torch.testing.assert_close(ours.A, layer.A, rtol=1e-3, atol=2e-6)


def test_the_landmark_study_trains_as_its_published_loop_did():
    """Accumulation, warm-up from zero, a line to zero, clipping, and rows that fill no whole step left out."""
    protocol = replace(
        PROTOCOLS["landmark_study"],
        **SMALL,
        gradient_accumulation_steps=3,
        warmup_ratio=0.3,
        learning_rate=1e-2,
        max_grad_norm=0.1,
    )
    model = stage("rslora", gpt2(), protocol, lora_dropout=0.0)
    loop = plain(gpt2(), model)
    taken: list[dict] = []
    history = train(model, protocol, count=47, collate=recorded(taken))
    steps, warmup = 47 // 2 // 3, 2
    assert len(history) == steps == 7 and len(taken) == steps * 3
    own = [p for p in loop.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else (steps - step) / (steps - warmup)
    )
    for index, batch in enumerate(taken):
        loss = loop(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["input_ids"]
        ).loss
        (loss / 3).backward()
        if index % 3 == 0:
            mean = 0.0
        mean += loss.item() / 3
        if index % 3 == 2:
            row = history[index // 3]
            assert row["loss"] == pytest.approx(mean, rel=1e-5)
            assert row["learning_rate"] == pytest.approx(schedule.get_last_lr()[0])
            norm = nn.utils.clip_grad_norm_(own, 0.1)
            assert norm > 0.1, "else clipping is not tried"
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert history[0]["learning_rate"] == 0 < history[1]["learning_rate"]


def test_500_rows_make_125_steps_and_31():
    for name, steps in (("as_published", 125), ("landmark_study", 31)):
        protocol = replace(PROTOCOLS[name], block_tokens=8)
        batches = published_batches(protocol, rows(500), END)
        assert len(batches) == steps * protocol.batch_size * protocol.gradient_accumulation_steps


@pytest.mark.parametrize("name", FIXES)
def test_a_single_fix_changes_one_field_and_to_the_corrected_value(name):
    fixed, published, corrected = (asdict(PROTOCOLS[row]) for row in (name, "as_published", "corrected"))
    differing = {field for field in fixed if fixed[field] != published[field]}
    assert differing == {"label", FIXES[name]}
    assert fixed[FIXES[name]] == corrected[FIXES[name]]


def test_each_protocol_has_a_label_of_its_own():
    assert len({protocol.label for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


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


def test_an_unregistered_module_resumes_bit_for_bit_and_saves_when_it_is_put_back(tmp_path):
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
    assert not any(name.startswith("landmark.") for name in trained(whole))
    whole.landmark.requires_grad_(True)
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


WIKITEXT = [
    "",
    " = Salt = \n",
    "",
    " Salt is " + "a mineral " * 12 + "\n",
    "",
    " = = Uses = = \n",
    "",
    " It is " + "used " * 20 + "\n",
]


def chosen(wanted: Lines, lines: list[str]) -> list[str]:
    """The lines that a protocol takes, by their lengths alone."""
    sizes = (np.array([len(line) for line in lines]), np.array([len(line.strip()) for line in lines]))
    return [lines[index] for index in select_lines(wanted, *sizes)]


def test_first_rows_keep_blank_ones_and_headings_and_long_lines_leave_them_out():
    assert chosen(Lines("train", 4), WIKITEXT) == WIKITEXT[:4]
    assert chosen(Lines("validation", 2, longer_than=100), WIKITEXT) == [WIKITEXT[3], WIKITEXT[7]]
    edge = [" " * 150, "x" * 100, " " + "y" * 99 + "\n", "z" * 100 + "\n"]
    assert chosen(Lines("test", 2, 100), edge) == edge[2:]  # more than 100, white space counted, but not alone
    assert chosen(Lines("test", 1, 99, stripped=True), edge) == edge[1:2]
    with pytest.raises(HyLoRADAError, match="validation text has 2 lines of more than 100 characters and 3 are asked"):
        chosen(Lines("validation", 3, 100), WIKITEXT)
    with pytest.raises(HyLoRADAError, match="train text has 8 lines and 500 are asked for"):
        chosen(AS_PUBLISHED.training_text, WIKITEXT)


def test_protocols_take_the_lines_that_their_fields_say():
    published, study = PROTOCOLS["as_published"], PROTOCOLS["landmark_study"]
    few = {"count": 1}
    assert chosen(replace(published.training_text, **few), WIKITEXT) == [""]
    assert chosen(replace(published.evaluation_text, **few), WIKITEXT) == [WIKITEXT[3]]
    padded_with_space = " " * 40 + "twelve chars"
    assert chosen(replace(study.training_text, **few), [padded_with_space, WIKITEXT[7]]) == [WIKITEXT[7]]
    assert (published.evaluation_text.split, study.evaluation_text.split) == ("validation", "test")


def test_a_scale_cuts_counts_and_no_other_fact():
    published = PROTOCOLS["as_published"]
    assert fitted(published, None, None, 4096) == published
    cut = fitted(published, 16, 40, 256)
    assert (cut.training_text.count, cut.evaluation_text.count) == (16, 40)
    assert cut.block_tokens == cut.evaluation_tokens == 256
    assert fitted(published, 9_999, 9_999, 512) == published  # more than was published is not as published
    assert fitted(PROTOCOLS["corrected"], 1, 1, 1) == PROTOCOLS["corrected"]
    counts = {"training_text", "evaluation_text", "block_tokens", "evaluation_tokens"}
    assert {f.name for f in fields(cut) if getattr(cut, f.name) != getattr(published, f.name)} == counts


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_comes_back_from_its_facts_as_they_are_kept_in_a_record(name):
    assert protocol_of(json.loads(json.dumps(asdict(PROTOCOLS[name])))) == PROTOCOLS[name]


def test_articles_become_lines_and_lines_stay_lines():
    assert lines_of(["Salt\n\nSalt is white.", "Moss"]) == ["Salt\n", "", "Salt is white.\n", "Moss\n"]
    assert lines_of(WIKITEXT) == WIKITEXT


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


def test_training_settings_are_the_protocols_over_those_of_the_scale():
    scale = {
        "learning_rate": 1e-4,
        "landmark_lr": 2e-4,
        "batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_epochs": 3,
    }
    published = TrainingConfig(**training_config(PROTOCOLS["as_published"], scale | {"seed": 4}))
    assert (published.learning_rate, published.landmark_lr, published.batch_size, published.seed) == (5e-4, 5e-4, 4, 4)
    assert published.max_grad_norm is None and published.lr_schedule == "constant" and published.warmup_ratio == 0
    corrected = TrainingConfig(**training_config(PROTOCOLS["corrected"], scale))
    assert corrected == TrainingConfig(**scale)  # the defaults of the library are those of the corrected protocol
    with pytest.raises(HyLoRADAError, match="'corrected' does not fix landmark_lr, batch_size"):
        training_config(PROTOCOLS["corrected"], {"learning_rate": 1e-4})


def test_what_is_given_from_outside_is_given_in_the_corrected_protocol_alone():
    for name, protocol in PROTOCOLS.items():
        given = [field.name for field in fields(protocol) if getattr(protocol, field.name) == GIVEN]
        assert bool(given) == (name == "corrected"), (name, given)


def test_reading_protocols_needs_no_torch():
    code = (
        "import sys; import hylorada.study.plan.protocols; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
