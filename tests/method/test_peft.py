"""Proof against PEFT: the same function and gradients at the same weights, and folders that go both ways."""

from pathlib import Path

import pytest
import torch
from bases import FAMILIES, families, llama, tokens
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft_pairs import KINDS, adapted_names, kinds, ours_trained, pefts_trained
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from hylorada import HyLoRADAUnified
from hylorada.export import export_peft, folded_magnitude
from hylorada.peft_import import import_peft

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
CLOSE = dict(rtol=1e-5, atol=1e-5)
FACTORS = ("A", "B")


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(12, 10)


def conv1d() -> nn.Module:
    torch.manual_seed(0)
    layer = Conv1D(10, 12)
    nn.init.normal_(layer.weight, std=0.3)
    nn.init.normal_(layer.bias, std=0.3)
    return layer


def pair(make, kind: str, gate: float | None = None, blend: float = -40.0) -> tuple[HyLoRADAUnified, nn.Module]:
    """Our layer and PEFT's at equal weights; without a gate, ours is plain DoRA: gate open, blend shut."""
    ours = HyLoRADAUnified(
        make(), 4, 6.0, use_rslora=KINDS[kind]["use_rslora"], magnitude=KINDS[kind]["use_dora_magnitude"]
    )
    with torch.no_grad():
        ours.lora.B.normal_(std=0.3)
        if KINDS[kind]["use_dora_magnitude"]:
            ours.combine.magnitude.mul_(1 + 0.3 * torch.rand(10))
            ours.combine.magnitude[0] *= -9  # a sign that no norm would bring back
            ours.combine.gate.fill_(40.0 if gate is None else gate)
            ours.combine.residual_weight.fill_(blend)
    settings = LoraConfig(
        r=4,
        lora_alpha=6.0,
        use_rslora=KINDS[kind]["use_rslora"],
        use_dora=KINDS[kind]["use_dora_magnitude"],
        target_modules=["layer"],
        fan_in_fan_out=make is conv1d,
    )
    theirs = inject_adapter_in_model(settings, nn.ModuleDict({"layer": make()}))["layer"]
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(ours.lora.A)
        theirs.lora_B["default"].weight.copy_(ours.lora.B)
        if KINDS[kind]["use_dora_magnitude"]:
            theirs.lora_magnitude_vector["default"].weight.copy_(folded_magnitude(ours))
    return ours, theirs


def gradients(layer: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Of the parameters and of the input, under a loss that weighs every output differently."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(2, 5, 12, generator=generator).requires_grad_()
    weights = torch.randn(2, 5, 10, generator=generator)
    found = torch.autograd.grad((layer(x) * weights).sum(), [x, *parameters.values()])
    return dict(zip(["x", *parameters], found, strict=True))


def own(layer: HyLoRADAUnified) -> dict[str, nn.Parameter]:
    found = {"A": layer.lora.A, "B": layer.lora.B}
    return found | ({"m": layer.combine.magnitude} if hasattr(layer.combine, "magnitude") else {})


def pefts(layer: nn.Module) -> dict[str, nn.Parameter]:
    found = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    return found | ({"m": layer.lora_magnitude_vector["default"].weight} if layer.lora_magnitude_vector else {})


@kinds
@pytest.mark.parametrize("make", [linear, conv1d])
def test_a_layer_computes_what_pefts_does_and_sends_back_its_gradients(make, kind):
    ours, theirs = pair(make, kind)
    x = torch.randn(2, 5, 12)
    assert not torch.allclose(ours(x), ours.base_layer(x), atol=1e-2)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)
    expected = gradients(theirs, pefts(theirs))
    assert expected.keys() == {"x", *own(ours)} and ("m" in expected) == ("dora" in kind)
    for name, gradient in gradients(ours, own(ours)).items():
        torch.testing.assert_close(gradient, expected[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("make", [linear, conv1d])
def test_gate_and_blend_fold_into_pefts_magnitude(make):
    """Half-open gate and blend: the function and the factors' gradients are PEFT's, m's shrink by (1 - beta)·g."""
    gate, blend = -0.7, 0.4
    ours, theirs = pair(make, "dora", gate, blend)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)
    share = torch.sigmoid(torch.tensor(gate)) * (1 - torch.sigmoid(torch.tensor(blend)))
    expected, found = gradients(theirs, pefts(theirs)), gradients(ours, own(ours))
    for name in ("x", *FACTORS):
        torch.testing.assert_close(found[name], expected[name], **CLOSE)
    torch.testing.assert_close(found["m"], share * expected["m"], **CLOSE)


@kinds
@pytest.mark.parametrize("make", [linear, conv1d])
def test_a_layer_merges_to_the_weight_that_peft_merges_to(make, kind):
    ours, theirs = pair(make, kind, gate=0.3, blend=-1.0)
    theirs.merge()
    merged = theirs.base_layer.weight.detach()
    torch.testing.assert_close(ours.merged_weight(), merged.T if make is conv1d else merged, **CLOSE)


@kinds
@families
def test_what_we_export_loads_in_peft_and_gives_our_logits(family, kind, tmp_path: Path):
    ours, ids = ours_trained(family, kind), tokens()
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(FAMILIES[family](), tmp_path / "out").eval()
    assert adapted_names(theirs.base_model.model, "lora_A") == adapted_names(ours.base_model, "combine") != set()
    torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours(ids).logits, FAMILIES[family]()(ids).logits, atol=1e-2)
    assert (theirs.peft_config["default"].use_dora, theirs.peft_config["default"].use_rslora) == (
        KINDS[kind]["use_dora_magnitude"],
        KINDS[kind]["use_rslora"],
    )


@kinds
@families
def test_what_peft_saves_loads_here_and_gives_its_logits(family, kind, tmp_path: Path):
    theirs, ids = pefts_trained(family, kind), tokens()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(FAMILIES[family](), tmp_path / "theirs").eval()
    assert adapted_names(theirs.base_model.model, "lora_A") == adapted_names(ours.base_model, "combine")
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)
    export_peft(ours, tmp_path / "back")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("theirs", "back"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-6, atol=2e-7)


@kinds
def test_settings_keep_their_values_on_the_way_out_and_in(kind, tmp_path: Path):
    ours = ours_trained("llama", kind, lora_alpha=6.0, lora_dropout=0.25, lora_target_modules=("q_proj", "o_proj"))
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(llama(), tmp_path / "out").peft_config["default"]
    assert (theirs.r, theirs.lora_alpha, theirs.lora_dropout, theirs.target_modules) == (
        4,
        6,
        0.25,
        {"q_proj", "o_proj"},
    )
    here, there = import_peft(llama(), tmp_path / "out").hylorada_config, ours.hylorada_config
    differing = {name for name, value in there.to_dict().items() if value != here.to_dict()[name]}
    expected = {"orthogonal_init", "lora_target_modules"}  # only a start, and an order
    assert differing == expected | ({"magnitude_gated"} if there.use_dora_magnitude else set())  # gates have folded
    assert set(here.lora_target_modules) == set(there.lora_target_modules)


@families
def test_merged_models_are_pefts_merged_models(family, tmp_path: Path):
    ours = ours_trained(family, "rslora and dora")
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(FAMILIES[family](), tmp_path / "out").merge_and_unload()
    merged = ours.merge_and_unload().state_dict()
    assert merged.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(merged[name], tensor, **CLOSE)


def test_an_imported_dora_trains_on_as_dora(tmp_path: Path):
    theirs, ids = pefts_trained("llama", "dora"), tokens()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(llama(), tmp_path / "theirs")
    ours(ids, labels=ids).loss.backward()
    theirs = PeftModel.from_pretrained(llama(), tmp_path / "theirs", is_trainable=True)
    theirs(input_ids=ids, labels=ids).loss.backward()
    path = "model.layers.1.mlp.down_proj"
    layer, expected = ours.base_model.get_submodule(path), pefts(theirs.base_model.model.get_submodule(path))
    for name, parameter in own(layer).items():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-5)
    assert not layer.combine.gate.requires_grad and not layer.combine.residual_weight.requires_grad


@pytest.mark.parametrize(
    "changes",
    [
        dict(target_modules=r".*\.1\..*(q_proj|up_proj)"),
        dict(target_modules=["q_proj", "v_proj"], exclude_modules=["model.layers.0.self_attn.v_proj"]),
        dict(target_modules=["q_proj", "v_proj"], exclude_modules=r".*\.0\..*v_proj"),
        dict(target_modules=["q_proj", "query_of_another_family"]),
        dict(target_modules="all-linear"),
        dict(layers_to_transform=[1]),
        dict(layers_to_transform=0, layers_pattern="layers"),
        dict(layers_to_transform=[0], layers_pattern=["h", "layers"]),
        dict(layers_to_transform=[1], exclude_modules=["v_proj"]),
    ],
    ids=str,
)
def test_pefts_ways_of_naming_layers_mean_the_same_layers_here(changes, tmp_path: Path):
    theirs = pefts_trained("llama", "rslora", **changes)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(llama(), tmp_path / "theirs").eval()
    assert adapted_names(ours.base_model, "combine") == adapted_names(theirs.base_model.model, "lora_A")
    torch.testing.assert_close(ours(tokens()).logits, theirs(tokens()).logits, rtol=1e-4, atol=1e-4)
    export_peft(ours, tmp_path / "back")
    again = PeftModel.from_pretrained(llama(), tmp_path / "back").eval()
    torch.testing.assert_close(again(tokens()).logits, theirs(tokens()).logits, rtol=1e-4, atol=1e-4)


def test_half_precision_adapters_are_read_into_float32(tmp_path: Path):
    theirs = pefts_trained("llama", "dora")
    theirs.save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    ours = import_peft(llama(), tmp_path / "theirs").eval()
    assert {p.dtype for p in ours.trainable_parameters()} == {torch.float32}
    theirs = PeftModel.from_pretrained(llama(), tmp_path / "theirs").eval()
    torch.testing.assert_close(ours(tokens()).logits, theirs(tokens()).logits, rtol=1e-4, atol=1e-4)
