"""What becomes of base and adapter when things go wrong or out of order: nothing is lost, nothing acts in silence."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from bases import adapt, gpt2, llama, tokens, without_zeros
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.checkpoint import describe_base, read_adapter, write_adapter
from hylorada.methods import METHODS, method_config
from hylorada.trainer import parameter_groups

PLAIN = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)
WIDE = HyLoRADAConfig(train_embeddings=True, train_norms=True, daa_enabled=True, sparse_enabled=True)


def untouched(base) -> bool:
    """Whether a llama is as it comes: trainable, its own modules, configuration and attention."""
    fresh = llama()
    return (
        all(p.requires_grad for p in base.parameters())
        and [name for name, _ in base.named_modules()] == [name for name, _ in fresh.named_modules()]
        and base.config.to_dict() == fresh.config.to_dict()
        and not any(m._forward_hooks or m._forward_pre_hooks for m in base.modules())
        and torch.equal(base(tokens()).logits, fresh(tokens()).logits)
    )


def test_saving_replaces_an_earlier_adapter_and_nothing_else(tmp_path):
    model = adapt(llama(), PLAIN)
    model.save_pretrained(tmp_path / "out")
    model.save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(HyLoRADAError, match="holds other things .notes.txt."):
        model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("frozen", ["everything", "position_bias", "landmark", "A"])
def test_an_adapter_is_saved_whole_whatever_of_it_trains(frozen, tmp_path):
    model = without_zeros(adapt(llama(), HyLoRADAConfig(use_dora_magnitude=True, train_norms=True)))
    model.save_pretrained(tmp_path / "before")
    if frozen == "everything":
        model.requires_grad_(False)
    for name, parameter in model.adapter_tensors().items():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(frozen) and not name.endswith(frozen))
    model.save_pretrained(tmp_path / "after")
    before, after = (load_file(tmp_path / name / "hylorada.safetensors") for name in ("before", "after"))
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    loaded = HyLoRADAModel.from_pretrained(llama(), tmp_path / "after").eval()
    assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)


def test_what_remains_after_merging_is_saved_frozen_too(tmp_path):
    kept = without_zeros(adapt(llama(), HyLoRADAConfig())).merge_and_unload(keep_dynamic=True)
    names = list(kept.adapter_tensors())
    kept.requires_grad_(False).save_pretrained(tmp_path / "a")
    assert {name.split(".")[0] for name in names} == {"position_bias", "landmark"}
    assert sorted(load_file(tmp_path / "a" / "hylorada.safetensors")) == sorted(names)


def test_freezing_reaches_the_adapter_alone_and_a_base_that_trains_is_refused(tmp_path):
    model = adapt(llama(), HyLoRADAConfig(use_dora_magnitude=True, magnitude_gated=False))
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    assert model.requires_grad_(False).trainable_parameters() == []
    with pytest.raises(HyLoRADAError, match="every part of this adapter is frozen"):
        HyLoRADATrainer(model, TrainingConfig(), [{"input_ids": [1, 2]}])
    model.requires_grad_(True)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == training
    model.base_model.lm_head.requires_grad_(True)
    for act in (model.trainable_parameters, lambda: model.save_pretrained(tmp_path / "a")):
        with pytest.raises(HyLoRADAError, match="base_model.lm_head.weight trains and is no part of the adapter"):
            act()


def test_no_empty_adapter_takes_the_place_of_a_good_one(tmp_path):
    model = adapt(llama(), PLAIN)
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(HyLoRADAError, match="there is no tensor to write to hylorada.safetensors"):
        write_adapter(tmp_path / "a", model.hylorada_config.to_dict(), describe_base(model.base_model), {})
    HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")


@pytest.mark.parametrize(
    "config",
    [
        HyLoRADAConfig(s2_attn_enabled=True),  # groups as long as the context
        HyLoRADAConfig(rope_scaling_type="yarn", rope_scaling_factor=2.0, lora_target_modules=["nothing"]),
        HyLoRADAConfig(
            num_landmarks=2**17, num_position_buckets=2**24, rope_scaling_type="yarn", rope_scaling_factor=2.0
        ),
    ],
)
def test_a_failed_construction_leaves_the_base_as_it_was(config):
    base = llama()
    with pytest.raises((HyLoRADAError, RuntimeError)):
        HyLoRADAModel(base, config)
    assert untouched(base)


def test_a_failed_load_leaves_the_base_as_it_was(tmp_path):
    config = HyLoRADAConfig(gradient_checkpointing=True, train_norms=True)
    adapt(llama(), config).save_pretrained(tmp_path / "a")
    settings, shape, held = read_adapter(tmp_path / "a")
    held.popitem()
    write_adapter(tmp_path / "a", settings, shape, held)
    base = llama()
    with pytest.raises(HyLoRADAError, match="1 missing"):
        HyLoRADAModel.from_pretrained(base, tmp_path / "a")
    assert untouched(base) and not base.is_activation_checkpointing


def test_a_disabled_adapter_is_neither_saved_nor_merged_nor_trained(tmp_path):
    model = without_zeros(adapt(llama(), PLAIN))
    before = model(tokens()).logits
    with model.disable_adapter():
        for act in (
            lambda: model.save_pretrained(tmp_path / "a"),
            model.merge_and_unload,
            model.count_params,
            lambda: HyLoRADATrainer(model, TrainingConfig(), [{"input_ids": [1, 2]}]),
        ):
            with pytest.raises(HyLoRADAError, match="the adapter is disabled"):
                act()
        model.train()
    assert not list(tmp_path.iterdir())
    assert all(module.training for module in model.modules())
    assert torch.equal(model.eval()(tokens()).logits, before)


def test_a_merged_adapter_is_gone_and_leaves_the_base_to_others(tmp_path):
    model = without_zeros(adapt(llama(), HyLoRADAConfig.from_dict(PLAIN.to_dict() | {"gradient_checkpointing": True})))
    merged = model.merge_and_unload()
    assert not merged.is_activation_checkpointing
    with pytest.raises(HyLoRADAError, match="the adapter is merged"):
        model.save_pretrained(tmp_path / "a")
    second = without_zeros(adapt(merged, WIDE))
    before = second(tokens()).logits
    assert model.merge_and_unload() is merged
    assert torch.equal(second(tokens()).logits, before)


def test_an_unloaded_adapter_leaves_the_base_as_it_was_and_is_gone(tmp_path):
    base = llama()
    model = without_zeros(adapt(base, HyLoRADAConfig.from_dict(WIDE.to_dict() | {"gradient_checkpointing": True})))
    model.train()(tokens(), labels=tokens()).loss.backward()
    assert model.unload() is base and untouched(base.eval()) and not base.is_activation_checkpointing
    for act in (lambda: model.save_pretrained(tmp_path / "a"), model.merge_and_unload, model.unload):
        with pytest.raises(HyLoRADAError, match="the adapter is unloaded"):
            act()
    assert without_zeros(adapt(base, WIDE)).count_params()["trainable"] > 0


def test_an_adapter_of_a_merged_base_is_refused_on_another(tmp_path):
    model = without_zeros(adapt(llama(), HyLoRADAConfig()))
    kept = model.merge_and_unload(keep_dynamic=True)
    kept.save_pretrained(tmp_path / "a")
    with pytest.raises(HyLoRADAError, match="for another base model: adapter merged"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")


def test_an_adapter_is_refused_on_the_model_that_it_was_merged_into(tmp_path):
    """Loaded there it would act twice; the mark goes with the merged model, and a second adapter knows it."""
    model = without_zeros(adapt(llama(), PLAIN))
    model.save_pretrained(tmp_path / "first")
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    for base in (merged, reloaded):
        with pytest.raises(HyLoRADAError, match="adapter merged into it: none there, [0-9a-f]{16} here"):
            HyLoRADAModel.from_pretrained(base, tmp_path / "first")
    second = without_zeros(adapt(merged, PLAIN, seed=1))
    second.save_pretrained(tmp_path / "second")
    on_reloaded = HyLoRADAModel.from_pretrained(reloaded, tmp_path / "second").eval()
    torch.testing.assert_close(on_reloaded(tokens()).logits, second(tokens()).logits)
    again = HyLoRADAModel.from_pretrained(llama(), tmp_path / "first").merge_and_unload()  # as any machine would
    HyLoRADAModel.from_pretrained(again, tmp_path / "second")
    with pytest.raises(HyLoRADAError, match="adapter merged into it: [0-9a-f]{16} there, none here"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path / "second")


@pytest.mark.parametrize(("settings", "is_marked"), [({}, False), ({"rope_scaling_type": "linear"}, True)])
def test_a_base_into_which_nothing_was_merged_stays_plain(settings, is_marked):
    factor = {"rope_scaling_factor": 2.0} if settings else {}
    dynamic = HyLoRADAConfig(lora_enabled=False, position_bias_enabled=False, **settings, **factor)
    base = adapt(llama(), dynamic).merge_and_unload(keep_dynamic=True).base_model
    assert ("merged" in describe_base(base)) == is_marked


def test_masters_stay_float32_and_a_cast_is_refused():
    model = adapt(llama(), HyLoRADAConfig(use_dora_magnitude=True))
    for cast in (lambda: model.to(torch.bfloat16), model.half, model.double):
        with pytest.raises(HyLoRADAError, match="stay float32"):
            cast()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model.to("cpu")


@pytest.mark.parametrize("part", [{"daa_enabled": True}, {"s2_attn_enabled": True, "s2_group_size": 8}])
def test_an_attention_exchanged_behind_the_adapter_is_told(part):
    model = adapt(llama(), HyLoRADAConfig(**part))
    own = model.base_model.config._attn_implementation
    model.base_model.set_attn_implementation("eager")
    with pytest.raises(HyLoRADAError, match="set to 'eager' after it was adapted"):
        model(tokens())
    model.base_model.set_attn_implementation(own)
    assert model(tokens()).logits.isfinite().all()


def test_a_block_that_makes_the_adapter_impossible_leaves_it_off_as_a_whole():
    model = without_zeros(adapt(llama(), HyLoRADAConfig(daa_enabled=True)))
    with pytest.raises(HyLoRADAError, match="acts in 'sdpa' attention"), model.disable_adapter() as base:
        base.set_attn_implementation("eager")
    with pytest.raises(HyLoRADAError, match="the adapter is disabled"):
        model.adapter_tensors()
    torch.testing.assert_close(model.base_model(tokens()).logits, llama()(tokens()).logits, rtol=1e-4, atol=1e-4)


def test_a_model_can_be_copied_after_a_pass_with_gradients():
    model = without_zeros(adapt(llama(), HyLoRADAConfig(landmark_design="per_layer")))
    logits = model(tokens()).logits
    assert torch.equal(copy.deepcopy(model)(tokens()).logits, logits)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: T5ForConditionalGeneration(
                T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)
            ),
            "T5",
        ),
        (
            lambda: BertForMaskedLM(
                BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
            ),
            "Bert",
        ),
    ],
)
def test_models_that_do_not_go_from_left_to_right_are_refused(make, said):
    with pytest.raises(HyLoRADAError, match=f"a {said}.* is no causal language model"):
        HyLoRADAModel(make(), HyLoRADAConfig(lora_target_modules=["q"]))


def test_every_rate_reaches_its_part():
    rates = dict(learning_rate=1e-4, position_bias_lr=1e-3, landmark_lr=1e-2, embedding_lr=1e-6)
    for base in (llama(), gpt2()):  # untied and tied
        model = adapt(base, WIDE)
        groups = {group["lr"]: group["params"] for group in parameter_groups(model, TrainingConfig(**rates))}
        sizes = {rate: sum(p.numel() for p in groups[value]) for rate, value in rates.items()}
        counts = model.count_params()
        assert sizes["embedding_lr"] == counts["embeddings"] and sizes["position_bias_lr"] == counts["position_bias"]
        assert sizes["landmark_lr"] == counts["landmark"] and sum(sizes.values()) == counts["trainable"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_resumes_to_the_same_bits(method, tmp_path):
    config = method_config(method, HyLoRADAConfig(s2_group_size=8, lora_dropout=0.1))
    data = [{"input_ids": row} for row in tokens(4, 20).tolist()]
    settings = TrainingConfig(batch_size=1, checkpoint_every=2, embedding_lr=1e-3)

    def trained(folder, stop: int | None = None):
        def on_step(row, total):
            if row["step"] == stop:
                raise KeyboardInterrupt

        model = adapt(llama(), config)
        HyLoRADATrainer(model, settings, data, tmp_path / folder, progress=False, on_step=on_step).train()
        return model.adapter_tensors()

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("stopped", stop=3)
    resumed = trained("stopped")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    start = adapt(llama(), config).adapter_tensors()
    assert all(not torch.equal(whole[name], start[name]) for name in whole)


def test_a_state_that_is_not_whole_is_passed_over_in_words(tmp_path, caplog):
    """Training then goes on from the state before it, or begins anew, and ends in the same adapter."""
    data = [{"input_ids": row} for row in tokens(6, 8).tolist()]

    def trained(folder: Path, steps: list[int]) -> dict[str, torch.Tensor]:
        def noted(row: dict, total: int) -> None:
            shutil.copytree(folder / "training_state", tmp_path / "kept", dirs_exist_ok=True)
            steps.append(row["step"])

        model, settings = adapt(llama(), PLAIN), TrainingConfig(checkpoint_every=1, batch_size=2)
        HyLoRADATrainer(model, settings, data, folder, progress=False, on_step=noted).train()
        return model.adapter_tensors()

    whole = trained(tmp_path / "whole", [])
    older, newest = (tmp_path / "kept" / name for name in ("step-00000002", "step-00000003"))
    noise = b"noise"
    breaks = {
        "optimizer.pt is not there": ("optimizer.pt", None),
        "optimizer.pt is damaged": ("optimizer.pt", noise),
        "optimizer.pt is damaged,": ("optimizer.pt", (newest / "optimizer.pt").read_bytes()[:-400]),
        "optimizer.pt is damaged, ": ("optimizer.pt", b""),
        "state.json holds a list": ("state.json", b"[]"),
        "state.json lacks history, seconds": ("state.json", b'{"settings": {}}'),
        "state.json is damaged, or no JSON": ("state.json", b"{"),
        "hylorada.safetensors is not in it": ("adapter/hylorada.safetensors", None),
        "hylorada.safetensors is damaged": ("adapter/hylorada.safetensors", noise),
    }
    for number, (said, (name, content)) in enumerate(breaks.items()):
        folder, there = tmp_path / str(number), [newest, older][: 1 + number % 2]
        for state in there:
            shutil.copytree(state, folder / "training_state" / state.name)
        broken = folder / "training_state" / newest.name / name
        broken.unlink() if content is None else broken.write_bytes(content)
        caplog.clear()
        steps = []
        torch.testing.assert_close(trained(folder, steps), whole, rtol=0, atol=0)
        assert steps == ([3] if older in there else [1, 2, 3])
        (line,) = (record.message for record in caplog.records if record.levelname == "WARNING")
        assert re.search(said, line) and line.startswith(str(folder / "training_state" / newest.name))
        assert [path.name for path in (folder / "training_state").iterdir()] == [newest.name]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: HyLoRADAModel(llama(), {"lora_rank": 4}), "no HyLoRADAConfig"),
        (lambda: HyLoRADAModel(llama(), "balanced"), "no HyLoRADAConfig"),
        (lambda: HyLoRADAConfig.preset(["balanced"]), "is not known"),
        (lambda: HyLoRADAConfig.from_dict(None), "no dictionary of settings"),
        (lambda: HyLoRADAConfig(landmark_design="per_layer", num_landmarks=5), "use an even number"),
        (lambda: method_config(["lora"]), "is not known"),
        (lambda: method_config("lora", {}), "no HyLoRADAConfig"),
        (lambda: TrainingConfig(learning_rate="fast"), "learning_rate='fast' is of the wrong kind; give a number"),
        (lambda: TrainingConfig(batch_size=1.5), "batch_size=1.5 is of the wrong kind; give a whole number"),
        (lambda: TrainingConfig(lr_schedule=3), "lr_schedule=3 is of the wrong kind; give text"),
        (lambda: HyLoRADATrainer(llama(), TrainingConfig(), [{"input_ids": [1, 2]}]), "has no adapter to train"),
        (lambda: HyLoRADATrainer(adapt(llama(), PLAIN), TrainingConfig(), [{"ids": [1]}]), "each needs 'input_ids'"),
        (
            lambda: HyLoRADAModel(llama(), HyLoRADAConfig(lora_target_modules=["x_proj"])),
            "allowed: down_proj, gate_proj",
        ),
    ],
)
def test_misuse_is_told_on_one_line(act, said):
    with pytest.raises(HyLoRADAError) as error:
        act()
    assert said in str(error.value) and "\n" not in str(error.value)
    assert "lm_head" not in str(error.value)


@pytest.mark.parametrize("broken", [{"adapter": None}, {"base": None}, {"adapter": []}])
def test_a_folder_that_lacks_half_its_description_is_refused(tmp_path, broken):
    adapt(llama(), PLAIN).save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "hylorada_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | broken))
    with pytest.raises(HyLoRADAError, match=f"says nothing of '{next(iter(broken))}'"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")


def test_no_adapter_goes_onto_another():
    """What is saved would be the second alone."""
    first = HyLoRADAModel(llama(), HyLoRADAConfig())
    for second in (HyLoRADAConfig(), HyLoRADAConfig(lora_enabled=False, position_bias_enabled=False)):
        with pytest.raises(HyLoRADAError, match="a HyLoRADAModel is adapted already"):
            HyLoRADAModel(first, second)
    HyLoRADAModel(first.unload(), HyLoRADAConfig())


@pytest.mark.parametrize(
    ("take_out", "said"),
    [
        (lambda model: model.requires_grad_(False), "every part of this adapter is frozen"),
        (lambda model: model.merge_and_unload(), "the adapter is merged"),
        (lambda model: model.unload(), "the adapter is unloaded"),
        (lambda model: model.base_model.lm_head.requires_grad_(True), "lm_head.weight trains and is no part of"),
    ],
    ids=["frozen", "merged", "unloaded", "more"],
)
def test_a_trainer_looks_again_before_its_first_step(take_out, said):
    """A base that was given back trains all its weights, of which the optimiser would hold none."""
    model = adapt(llama(), PLAIN)
    trainer = HyLoRADATrainer(model, TrainingConfig(), [{"input_ids": row} for row in tokens(2, 8).tolist()])
    take_out(model)
    with pytest.raises(HyLoRADAError, match=said):
        trainer.train()
    assert trainer.history == []


def test_a_place_that_cannot_hold_checkpoints_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").touch()
    model, data = adapt(llama(), PLAIN), [{"input_ids": [1, 2]}]
    for place, said in (("file", "is no folder; name a folder"), ("file/in", "so in cannot lie in it")):
        with pytest.raises(HyLoRADAError, match=said):
            HyLoRADATrainer(model, TrainingConfig(), data, tmp_path / place)
        with pytest.raises(HyLoRADAError, match="could not be written|is no folder"):
            model.save_pretrained(tmp_path / place, is_main_process=True)


def test_a_name_is_no_base_to_load_an_adapter_on(tmp_path):
    HyLoRADAModel(llama(), HyLoRADAConfig()).save_pretrained(tmp_path / "a")
    with pytest.raises(HyLoRADAError, match="a str is no causal language model"):
        HyLoRADAModel.from_pretrained("a-name", tmp_path / "a")
