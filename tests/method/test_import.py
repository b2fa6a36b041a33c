"""Import: a folder of PEFT's that cannot come in is refused by name, and the base stays as it was."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from bases import gpt2, llama, tokens
from peft_pairs import pefts_trained
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from hylorada import HyLoRADAError, HyLoRADAUnified
from hylorada.peft_import import import_peft

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("peft") / "theirs"
    pefts_trained("llama", "dora").save_pretrained(folder)
    return folder


def copy_with(saved: Path, folder: Path, **settings) -> Path:
    shutil.copytree(saved, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def refusal_of(base: PreTrainedModel, folder: Path) -> str:
    """The text of the refusal, after which the base is as it was."""
    before = base(tokens()).logits
    with pytest.raises(HyLoRADAError) as refusal:
        import_peft(base, folder)
    assert not any(isinstance(module, HyLoRADAUnified) for module in base.modules())
    assert all(parameter.requires_grad for parameter in base.parameters())
    assert torch.equal(base(tokens()).logits, before)
    return str(refusal.value)


@pytest.mark.parametrize(
    "name, value",
    [
        ("task_type", "SEQ_CLS"),
        ("bias", "all"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [1, 2]),
        ("layer_replication", [[0, 2]]),
        ("target_parameters", ["experts.weight"]),
        ("init_lora_weights", "pissa_niter_4"),
        ("use_qalora", True),
        ("alora_invocation_tokens", [3]),
        ("a_setting_of_tomorrow", 1),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(saved, tmp_path: Path, name, value):
    said = refusal_of(llama(), copy_with(saved, tmp_path / "changed", **{name: value}))
    assert f"sets {name} to {value!r}, which has no counterpart here" in said


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("peft_type", "LOHA", "peft_type 'LOHA'; only 'LORA'"),
        ("r", None, "adapter_config.json.r is None, and not a whole number"),
        ("r", "3", "adapter_config.json.r is '3', and not a whole number"),
        ("r", True, "r is True, and not a whole number"),
        ("r", 10**12, "lora_rank=1000000000000 cannot be; use 131072 or less"),
        ("r", 0, "adapter_config.json: lora_rank=0 is too small; use 1 or more"),
        ("r", 10**400, f"lora_rank=1{'0' * 39}... cannot be"),
        ("lora_alpha", -1, "adapter_config.json: lora_alpha=-1 is not allowed"),
        ("lora_dropout", float("nan"), "adapter_config.json: lora_dropout=nan is not a share"),
        ("lora_alpha", 10**400, "and not a number that a computer can hold"),
        ("lora_dropout", "0.1", "lora_dropout is '0.1', and not a number"),
        ("use_rslora", "yes", "use_rslora is 'yes', and not true or false"),
        ("use_dora", 1, "use_dora is 1, and not true or false"),
        ("target_modules", None, "target_modules is None, and not a list"),
        ("target_modules", [None], "target_modules[0] is None, and not text"),
        ("exclude_modules", 7, "exclude_modules is 7, and not a list"),
        ("rank_pattern", [], "rank_pattern is [], and not names with values"),
        ("rank_pattern", {"q_proj": "4"}, "rank_pattern.q_proj is '4', and not a whole number"),
        ("rank_pattern", {"(": 4}, "holds a pattern that is none: missing )"),
        ("alpha_pattern", {"q_proj": None}, "alpha_pattern.q_proj is None, and not a number"),
        ("layers_to_transform", "1", "layers_to_transform is '1', and not a list"),
        ("layers_pattern", 3, "layers_pattern is 3, and not a list"),
        ("target_modules", ["no_such_layer"], "target_modules=['no_such_layer'] matches no layer"),
        ("target_modules", "(q_proj", "holds a pattern that is none: missing )"),
        ("target_modules", "lm_head", "adapter_config.json: lora_target_modules: 'lm_head' is the output layer"),
        ("target_modules", ["embed_tokens"], "a Embedding cannot be adapted"),
    ],
)
def test_settings_with_a_value_that_makes_no_adapter_here_are_refused(saved, tmp_path: Path, name, value, said):
    assert said in refusal_of(llama(), copy_with(saved, tmp_path / "changed", **{name: value}))


def test_missing_unknown_and_misshapen_tensors_are_refused(saved, tmp_path: Path):
    tensors = load_file(saved / "adapter_model.safetensors")
    first = next(name for name in tensors if name.endswith("lora_magnitude_vector"))
    rest = {name: tensor for name, tensor in tensors.items() if name != first}
    cases = {
        "1 missing": rest,
        "1 unknown": tensors | {"base_model.model.lm_head.weight": torch.ones(2)},
        "here (16,)" if "v_proj" in first else "here (32,)": rest | {first: torch.ones(5)},
    }
    for number, (told, held) in enumerate(cases.items()):
        folder = copy_with(saved, tmp_path / str(number))
        save_file(held, folder / "adapter_model.safetensors")
        assert told in refusal_of(llama(), folder)
    assert "missing" in refusal_of(llama(), copy_with(saved, tmp_path / "more", target_modules=["q_proj", "k_proj"]))


def test_another_base_a_pickle_and_a_damaged_file_are_refused(saved, tmp_path: Path):
    assert "matches no layer" in refusal_of(gpt2(), saved)
    pickled = copy_with(saved, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    assert "has no adapter_model.safetensors" in refusal_of(llama(), pickled)
    damaged = copy_with(saved, tmp_path / "damaged")
    (damaged / "adapter_model.safetensors").write_bytes(b"half")
    assert "is damaged" in refusal_of(llama(), damaged)
    (damaged / "adapter_config.json").write_text("[]")
    assert "names no peft_type" in refusal_of(llama(), damaged)
