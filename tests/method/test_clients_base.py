"""What a HyLoRADAModel answers by its base, and what a base refuses while an adapter is in it."""

import copy
import inspect
import pickle
from contextlib import nullcontext

import pytest
import torch
from accelerate import cpu_offload
from accelerate.state import AcceleratorState
from bases import FAMILIES, adapt, families, llama, tokens, without_zeros
from family_bases import family_base
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    XLNetConfig,
    XLNetLMHeadModel,
)

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, export_peft
from hylorada.as_pretrained import ADAPTERS_OF_PEFT, ANSWERED_BY_BASE
from hylorada.evaluation import token_nll

PLAIN = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)
SERVES_AS_IT_IS = {  # what PreTrainedModel does for any module with a configuration, or no tool asks of an instance
    *("num_parameters", "get_memory_footprint", "get_parameter_or_buffer", "named_non_persistent_buffers"),
    *("warn_if_padding_and_no_attention_mask", "is_custom_code", "dequantize"),
    "dummy_inputs",
    *("can_record_outputs", "retrieve_modules_from_names", "register_for_auto_class", "get_init_context"),
    *(
        "config_class",
        "base_model_prefix",
        "generation_config_class",
        "post_init",
        "init_weights",
        "initialize_weights",
    ),
    *("init_parallel_plans", "get_expanded_tied_weights_keys", "mark_tied_weights_as_initialized"),
    *("maybe_distribute_model", "prepare_distribute_model", "save_distributed_checkpoint", "should_save_on_this_rank"),
    *("gather_sharded_state_dict_for_save", "barrier_after_gathered_checkpoint_save"),
}


def test_every_name_of_a_pretrained_model_is_the_bases_or_the_models_own():
    """A new version of transformers that asks for more is found here."""
    asked = {name for name in dir(PreTrainedModel) if not name.startswith("_")} - set(dir(nn.Module))
    own = {name for cls in HyLoRADAModel.__mro__[:2] for name in vars(cls)}
    assert asked - own == SERVES_AS_IT_IS


@families
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_what_the_base_answers_it_answers_through_the_model(family):
    base = FAMILIES[family]()
    wanted = {name: getattr(base, name) for name in ANSWERED_BY_BASE if hasattr(base, name)}
    model = adapt(base, HyLoRADAConfig())
    for name, value in wanted.items():
        found = getattr(model, name)
        assert getattr(found, "__func__", found) is getattr(value, "__func__", value) or found == value, name
    for name in set(ANSWERED_BY_BASE) - wanted.keys():
        assert not hasattr(model, name)
    model.config.use_cache = False
    model.generation_config = copy.deepcopy(base.generation_config)
    model.name_or_path = "renamed"
    assert base.config.use_cache is False and base.generation_config is model.generation_config
    assert base.name_or_path == "renamed" and model.base_model is base
    assert model.loss_type == "ForCausalLM"  # GPT-2 has none, and takes this loss


def refusals(model: HyLoRADAModel, folder) -> dict[str, str]:
    """What each way of using the base alone is answered with."""
    arguments = TrainingArguments(str(folder / "run"), use_cpu=True, report_to=[])
    calls = {
        "train": lambda: Trainer(model.base_model, arguments),
        "save": lambda: model.base_model.save_pretrained(folder / "base"),
        "save what is inside": lambda: model.base_model.get_decoder().save_pretrained(folder / "base"),
        "share": lambda: model.base_model.push_to_hub("nowhere"),
        "peft": lambda: get_peft_model(model.base_model, LoraConfig(target_modules=["gate_proj"])),
        "peft inside": lambda: get_peft_model(model.base_model.get_decoder(), LoraConfig(target_modules=["gate_proj"])),
        "add": lambda: model.base_model.add_adapter(LoraConfig(target_modules=["gate_proj"])),
        "peft on it": lambda: get_peft_model(model, LoraConfig(target_modules=["gate_proj"])),
    }
    said = {}
    for name, call in calls.items():
        with pytest.raises(HyLoRADAError) as refusal:
            call()
        said[name] = str(refusal.value)
    AcceleratorState._reset_state(reset_partial_state=True)
    return said


def test_an_adapted_base_is_not_trained_saved_or_adapted_by_itself(tmp_path):
    model = adapt(llama(), HyLoRADAConfig())
    before = model(tokens()).logits
    said = refusals(model, tmp_path)
    assert "give the HyLoRADAModel itself to the trainer" in said["train"]
    for way in ("save", "save what is inside", "share"):
        assert "HyLoRADAModel.save_pretrained(" in said[way] and "merge_and_unload()" in said[way]
    assert all("merge_and_unload() returns" in said[way] for way in ("peft", "peft inside", "add", "peft on it"))
    assert not (tmp_path / "base").exists()
    assert torch.equal(model(tokens()).logits, before) and len(model.trainable_parameters()) > 10
    for name in ADAPTERS_OF_PEFT:
        with pytest.raises(HyLoRADAError, match="PEFT's layers"):
            getattr(model, name)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("frozen", "every part of this adapter is frozen; call model.requires_grad_.True."),
        ("disabled", "the adapter is disabled, .* do this after the block that disables it"),
        ("merged", "the adapter is merged, .* or with base_model, which is a plain model now"),
        ("unloaded", "the adapter is unloaded, .* or with base_model, which is a plain model now"),
        ("more", "lm_head.weight trains and is no part of the adapter"),
    ],
)
def test_trainer_evaluates_what_cannot_be_trained_and_refuses_to_train_it(state, said, tmp_path):
    model, ids = without_zeros(adapt(llama(), PLAIN)), tokens(2, 12)
    acts = {"frozen": lambda: model.requires_grad_(False), "merged": model.merge_and_unload, "unloaded": model.unload}
    acts["more"] = lambda: model.get_output_embeddings().requires_grad_(True)
    rows = [{"input_ids": row, "labels": row} for row in ids.tolist()]
    with model.disable_adapter() if state == "disabled" else nullcontext():
        acts.get(state, lambda: None)()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True)
        trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
        wanted = model(ids, labels=ids).loss.item()
        assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)
        assert torch.from_numpy(trainer.predict(rows).predictions).allclose(model(ids).logits, atol=1e-5)
        with pytest.raises(HyLoRADAError, match=said) as told:  # a training begins so, after half a second
            trainer.train() if state == "merged" else model.zero_grad()
        assert "\n" not in str(told.value)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_base_is_itself_again_once_the_adapter_is_out(tmp_path):
    model, ids = without_zeros(adapt(llama(), PLAIN)), tokens()
    plain, adapted = llama()(ids).logits, model(ids).logits
    arguments = TrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to=[])
    with model.disable_adapter() as base:
        assert type(base) is LlamaForCausalLM and type(base.get_decoder()) is LlamaModel
        base.save_pretrained(tmp_path / "plain")
        Trainer(base, arguments)
    assert isinstance(model.base_model, LlamaForCausalLM) and type(model.base_model).__name__ == "LlamaForCausalLM"
    with pytest.raises(HyLoRADAError, match="holds adapted layers"):
        model.base_model.save_pretrained(tmp_path / "no")
    merged = model.merge_and_unload()
    assert type(merged) is LlamaForCausalLM
    merged.save_pretrained(tmp_path / "merged")
    Trainer(merged, arguments)
    AcceleratorState._reset_state(reset_partial_state=True)
    for name, wanted in (("plain", plain), ("merged", adapted)):
        read = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
        torch.testing.assert_close(read(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    refused = llama()
    with pytest.raises(HyLoRADAError, match="matches no"):
        HyLoRADAModel(refused, HyLoRADAConfig(lora_target_modules=("nothing",)))
    assert type(refused) is LlamaForCausalLM


def test_copies_and_pickles_are_adapted_too(tmp_path):
    model, ids = without_zeros(adapt(llama(), HyLoRADAConfig())), tokens()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(ids, None).logits, model(ids, None).logits)
        assert inspect.signature(twin.forward) == inspect.signature(model.forward)
        with torch.no_grad():
            twin.position_bias.bias.fill_(2.0)
        assert not torch.allclose(twin(ids).logits, model(ids).logits, atol=1e-3)
        with pytest.raises(HyLoRADAError, match="holds adapted layers"):
            twin.base_model.save_pretrained(tmp_path / "no")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_base_with_pefts_layers_is_refused_until_they_are_merged():
    theirs = get_peft_model(llama(), LoraConfig(target_modules=["gate_proj"], task_type="CAUSAL_LM"))
    for base in (theirs, theirs.get_base_model()):
        with pytest.raises(HyLoRADAError, match="holds PEFT's layers.*merge_and_unload"):
            HyLoRADAModel(base)
    HyLoRADAModel(theirs.merge_and_unload())


def test_only_the_adapter_is_loaded_from_a_state_dict_without_the_base():
    model, other = without_zeros(adapt(llama(), HyLoRADAConfig())), adapt(llama(), HyLoRADAConfig())
    told = other.load_state_dict(model.adapter_tensors(), strict=False)
    assert torch.equal(other(tokens()).logits, model(tokens()).logits)
    assert set(told.missing_keys) == other.state_dict().keys() - other.adapter_tensors().keys()
    with pytest.raises(HyLoRADAError, match="1 missing"):
        other.load_state_dict(dict(list(model.adapter_tensors().items())[1:]), strict=False)
    other.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(model.adapter_tensors())


def test_a_trainers_checkpoint_keeps_what_is_there_and_a_folder_of_its_own_does_not(tmp_path):
    model = adapt(llama(), HyLoRADAConfig())
    (tmp_path / "tokenizer.json").write_text("{}")
    model.save_pretrained(tmp_path, state_dict=None, is_main_process=False)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    with pytest.raises(HyLoRADAError, match="holds other things"):
        model.save_pretrained(tmp_path)
    doubled = {name: 2 * tensor for name, tensor in model.adapter_tensors().items()}
    model.save_pretrained(
        tmp_path, state_dict=doubled | {"base_model.lm_head.weight": torch.ones(2)}, is_main_process=True
    )
    held = HyLoRADAModel.from_pretrained(llama(), tmp_path).adapter_tensors()
    assert all(torch.equal(held[name], tensor) for name, tensor in doubled.items())
    with pytest.raises(HyLoRADAError, match="'push_to_hub' is no argument"):
        model.save_pretrained(tmp_path / "new", push_to_hub=True)


def test_data_parallel_is_refused():
    with pytest.raises(HyLoRADAError, match="one process a GPU"):
        adapt(llama(), PLAIN)._replicate_for_data_parallel()


# where the base is


def test_a_base_with_weights_elsewhere_is_refused_in_one_line(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path / "base")(tokens()).logits
    modules = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
    for places in ({"": "cpu"}, dict.fromkeys(modules, "cpu")):
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "base", device_map=places)
        model = adapt(whole, HyLoRADAConfig(use_dora_magnitude=True, landmark_enabled=False))
        torch.testing.assert_close(model(tokens()).logits, wanted, rtol=1e-5, atol=1e-5)
    places = dict.fromkeys(modules, "cpu") | {"model.layers.1": "disk", "model.norm": "disk"}
    options = dict(device_map=places, offload_folder=tmp_path / "off")
    spread = AutoModelForCausalLM.from_pretrained(tmp_path / "base", **options)
    with pytest.raises(
        HyLoRADAError, match=r"\d+ weights of this base model are not in memory .model.layers.1.*device_map"
    ):
        HyLoRADAModel(spread, PLAIN)
    offloaded = llama()
    cpu_offload(offloaded, torch.device("cpu"))
    with pytest.raises(HyLoRADAError, match="21 weights of this base model are not in memory"):
        HyLoRADAModel(offloaded, PLAIN)
    half = llama()
    half.model.layers[1].to("meta")
    with pytest.raises(HyLoRADAError, match="not in memory") as refusal:
        HyLoRADAModel(half)
    assert "\n" not in str(refusal.value)


def test_a_base_of_shapes_is_for_counting_alone(tmp_path):
    with torch.device("meta"):
        model = HyLoRADAModel(llama(), PLAIN)
    assert model.count_params()["trainable"] == HyLoRADAModel(llama(), PLAIN).count_params()["trainable"]
    for use in (
        model.trainable_parameters,
        model.merge_and_unload,
        lambda: model.save_pretrained(tmp_path / "adapter"),
        lambda: export_peft(model, tmp_path / "theirs"),
        lambda: model.generate(tokens()),
        lambda: token_nll(model, tokens().tolist()),
    ):
        with pytest.raises(HyLoRADAError, match="shapes without numbers"):
            use()


def test_a_base_that_reads_later_tokens_is_refused():
    """BERT as its checkpoints are; told to be a decoder it is taken, as is GPT-NeoX, whose configs say the same."""
    with pytest.raises(HyLoRADAError, match="is_decoder=False; load it with"):
        HyLoRADAModel(family_base("bert", is_decoder=False).train())
    with pytest.raises(HyLoRADAError, match="guesses tokens from both sides"):
        HyLoRADAModel(XLNetLMHeadModel(XLNetConfig(vocab_size=9, d_model=8, n_layer=1, n_head=1)))
    HyLoRADAModel(family_base("bert"))
    HyLoRADAModel(family_base("gpt_neox").train())


def test_a_base_on_two_devices_takes_adapted_layers_alone(monkeypatch):
    base = llama()
    spread = [torch.empty(0), torch.empty(0, device="meta")]  # a second device that every machine has
    monkeypatch.setattr(base, "parameters", lambda *args: iter(spread))
    with pytest.raises(HyLoRADAError, match="spread over cpu and meta.*landmark_enabled=False"):
        HyLoRADAModel(base, HyLoRADAConfig(position_bias_enabled=False))
