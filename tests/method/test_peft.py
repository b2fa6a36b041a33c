"""Proof against PEFT: the same function and gradients at the same weights, and folders that go both ways."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, adapt, gpt2, llama, qwen2, tokens, without_zeros
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADAUnified, checkpoint
from hylorada.export import export_lora, export_peft, folded_magnitude, import_peft

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = {  # by our field names; PEFT's are use_rslora and use_dora
    "lora": dict(use_rslora=False, use_dora_magnitude=False),
    "rslora": dict(use_rslora=True, use_dora_magnitude=False),
    "dora": dict(use_rslora=False, use_dora_magnitude=True),
    "rslora and dora": dict(use_rslora=True, use_dora_magnitude=True),
}
PLAIN = dict(position_bias_enabled=False, landmark_enabled=False)
BASES = FAMILIES | {"qwen2": qwen2}  # qwen2 for its biases
CLOSE = dict(rtol=1e-5, atol=1e-5)
FACTORS = ("A", "B")

kinds = pytest.mark.parametrize("kind", KINDS)
bases = pytest.mark.parametrize("family", BASES)


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


def ours_trained(family: str, kind: str, **changes) -> HyLoRADAModel:
    config = HyLoRADAConfig(**PLAIN | KINDS[kind] | dict(lora_rank=4, lora_dropout=0.0) | changes)
    return without_zeros(adapt(BASES[family](), config))


def pefts_trained(family: str, kind: str, **changes) -> PeftModel:
    """PEFT's own model with every trained tensor moved off its start."""
    targets = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    settings = dict(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM")
    settings |= dict(use_rslora=KINDS[kind]["use_rslora"], use_dora=KINDS[kind]["use_dora_magnitude"]) | changes
    torch.manual_seed(0)
    model = get_peft_model(BASES[family](), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def adapted_names(model: nn.Module, marker: str) -> set[str]:
    return {name for name, module in model.named_modules() if hasattr(module, marker)}


@kinds
@bases
def test_what_we_export_loads_in_peft_and_gives_our_logits(family, kind, tmp_path: Path):
    ours, ids = ours_trained(family, kind), tokens()
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(BASES[family](), tmp_path / "out").eval()
    assert adapted_names(theirs.base_model.model, "lora_A") == adapted_names(ours.base_model, "combine") != set()
    torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours(ids).logits, BASES[family]()(ids).logits, atol=1e-2)
    assert (theirs.peft_config["default"].use_dora, theirs.peft_config["default"].use_rslora) == (
        KINDS[kind]["use_dora_magnitude"],
        KINDS[kind]["use_rslora"],
    )


@kinds
@bases
def test_what_peft_saves_loads_here_and_gives_its_logits(family, kind, tmp_path: Path):
    theirs, ids = pefts_trained(family, kind), tokens()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(BASES[family](), tmp_path / "theirs").eval()
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


@bases
def test_merged_models_are_pefts_merged_models(family, tmp_path: Path):
    ours = ours_trained(family, "rslora and dora")
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(BASES[family](), tmp_path / "out").merge_and_unload()
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


# what cannot leave


@pytest.mark.parametrize("how", [export_peft, lambda model, folder: export_lora(model, folder, 2)])
def test_parts_that_peft_cannot_hold_are_refused_by_name(how, tmp_path: Path):
    for parts in (["position_bias"], ["landmark"], ["position_bias", "landmark"]):
        on = {f"{part}_enabled": True for part in parts}
        with pytest.raises(HyLoRADAError) as refusal:
            how(ours_trained("llama", "rslora", **on), tmp_path / "out")
        assert [part for part in ("position_bias", "landmark") if part in str(refusal.value)] == parts
        assert not list(tmp_path.iterdir())


def test_a_trained_base_parameter_is_refused_by_name(tmp_path: Path):
    model = ours_trained("llama", "lora")
    model.base_model.model.norm.weight.requires_grad_()
    with pytest.raises(HyLoRADAError, match="cannot hold model.norm.weight;"):
        export_peft(model, tmp_path / "out")
    model.base_model.model.layers.requires_grad_()
    with pytest.raises(HyLoRADAError, match="cannot hold model.layers.0.* and [0-9]+ more;"):
        export_peft(model, tmp_path / "out")


@kinds
def test_dropped_parts_are_named_in_a_warning_and_the_rest_is_exported(kind, tmp_path: Path):
    whole = ours_trained("gpt2", kind, position_bias_enabled=True, landmark_enabled=True)
    with pytest.warns(UserWarning, match="left out of the export: position_bias and landmark"):
        export_peft(whole, tmp_path / "out", drop=True)
    theirs = PeftModel.from_pretrained(gpt2(), tmp_path / "out").eval()
    assert not torch.allclose(theirs(tokens()).logits, whole(tokens()).logits, atol=1e-2)
    with torch.no_grad():  # both parts made neutral
        whole.position_bias.bias.zero_()
    whole.landmark.forward = lambda hidden, positions: hidden
    torch.testing.assert_close(theirs(tokens()).logits, whole(tokens()).logits, rtol=1e-4, atol=1e-4)


@bases
def test_trained_embeddings_and_norms_leave_whole_for_peft(family, tmp_path: Path):
    """Tied (GPT-2) or not: PEFT computes the same from the two copies."""
    config = HyLoRADAConfig(**PLAIN, train_embeddings=True, train_norms=True)
    model, ids = without_zeros(adapt(BASES[family](), config)), tokens()
    export_peft(model, tmp_path / "a")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # said of tied weights in any adapter
        theirs = PeftModel.from_pretrained(BASES[family](), tmp_path / "a").eval()
    torch.testing.assert_close(theirs(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(HyLoRADAError, match="modules_to_save"):
        import_peft(BASES[family](), tmp_path / "a")


def test_svd_export_refuses_whole_weights_and_rope_scaling_by_name(tmp_path: Path):
    with pytest.raises(HyLoRADAError, match="cannot hold norms"):
        export_lora(adapt(llama(), HyLoRADAConfig(**PLAIN, train_norms=True)), tmp_path / "a", 2)
    turned = HyLoRADAConfig(**PLAIN, rope_scaling_type="linear", rope_scaling_factor=2.0)
    for export in (export_peft, lambda model, folder: export_lora(model, folder, 2)):
        with pytest.raises(HyLoRADAError, match="cannot hold RoPE scaling"):
            export(adapt(llama(), turned), tmp_path / "a")


def test_a_merged_or_disabled_adapter_is_refused(tmp_path: Path):
    model = ours_trained("llama", "dora")
    with model.disable_adapter(), pytest.raises(HyLoRADAError, match="no adapted layer"):
        export_peft(model, tmp_path / "out")
    model.merge_and_unload()
    with pytest.raises(HyLoRADAError, match="no adapted layer"):
        export_lora(model, tmp_path / "out", 2)


def test_an_output_row_of_zeros_is_refused_instead_of_becoming_nan_in_peft(tmp_path: Path):
    base = llama()
    with torch.no_grad():
        base.model.layers[0].self_attn.q_proj.weight[3] = 0
    model = adapt(base, HyLoRADAConfig(**PLAIN, use_dora_magnitude=True))
    with pytest.raises(HyLoRADAError, match="layers.0.self_attn.q_proj has an output row of zeros"):
        export_peft(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# what the folder says and how it is written


def test_the_configuration_names_no_place_on_this_machine(tmp_path: Path):
    for family, make in FAMILIES.items():
        make().save_pretrained(tmp_path / family / "base")
        base = AutoModelForCausalLM.from_pretrained(tmp_path / family / "base")
        export_peft(adapt(base, HyLoRADAConfig(**PLAIN)), tmp_path / family / "out")
        text = (tmp_path / family / "out" / "adapter_config.json").read_text()
        assert json.loads(text)["base_model_name_or_path"] == "base"
        assert "/" not in text and "\\" not in text
        assert (str(tmp_path).encode()) not in (tmp_path / family / "out" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "given, written",
    [
        ("some-hub/some-model", "some-hub/some-model"),
        ("some-model", "some-model"),
        ("/models/some-model", "some-model"),
        ("/models/some-model/", "some-model"),
        ("~/models/some-model", "some-model"),
        ("../some-model", "some-model"),
        (r"C:\models\some-model", "some-model"),
        ("", None),
    ],
)
def test_a_base_is_named_as_on_the_hub_or_by_its_folder_alone(given, written, tmp_path: Path):
    base = llama()
    base.config.name_or_path = given
    export_peft(adapt(base, HyLoRADAConfig(**PLAIN)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == written


@pytest.mark.parametrize("how", [export_peft, lambda model, folder: export_lora(model, folder, 2)])
def test_a_failed_export_leaves_the_folder_as_it_was(how, tmp_path: Path, monkeypatch):
    model, folder = ours_trained("llama", "dora"), tmp_path / "out"

    def full_disk(*args, **kwargs):
        raise SafetensorError("no space left")

    export_peft(model, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(HyLoRADAError, match="no space left"):
        how(model, folder)
    with pytest.raises(HyLoRADAError, match="no space left"):
        how(model, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("how", [export_peft, lambda model, folder: export_lora(model, folder, 2)])
def test_numbers_that_are_not_finite_are_refused(how, tmp_path: Path):
    model = ours_trained("llama", "lora")
    with torch.no_grad():
        model.base_model.model.layers[1].self_attn.q_proj.lora.A[0, 0] = float("nan")
    with pytest.raises(HyLoRADAError, match="NaN or infinity"):
        how(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_never_replaced_and_an_earlier_export_is(tmp_path: Path):
    model = ours_trained("llama", "lora")
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(HyLoRADAError, match="holds other things .hylorada.safetensors"):
        export_peft(model, tmp_path / "adapter")
    assert HyLoRADAModel.from_pretrained(llama(), tmp_path / "adapter")
    export_lora(model, tmp_path / "out", 2)
    export_peft(model, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


# what cannot come in


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
        ("rank_pattern", {"q_proj": 2}),
        ("alpha_pattern", {"q_proj": 2}),
        ("bias", "all"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [1, 2]),
        ("layers_to_transform", [0]),
        ("layer_replication", [[0, 2]]),
        ("target_parameters", ["experts.weight"]),
        ("init_lora_weights", "pissa"),
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
        ("r", None, "sets no r;"),
        ("r", "3", "lora_rank='3' is of the wrong kind"),
        ("lora_alpha", -1, "lora_alpha=-1 is not allowed"),
        ("target_modules", None, "sets no target_modules;"),
        ("target_modules", 7, "neither a pattern nor a list"),
        ("target_modules", ["no_such_layer"], "target_modules=['no_such_layer'] matches no layer"),
        ("target_modules", "(q_proj", "is no pattern: "),
        ("target_modules", "lm_head", "'lm_head' is the output layer"),
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


# plain LoRA by singular values


def added_by(model: HyLoRADAModel, name: str) -> torch.Tensor:
    layer = model.base_model.get_submodule(name)
    weight = layer.base_layer.weight
    return layer.merged_weight() - (weight if isinstance(layer.base_layer, nn.Linear) else weight.T)


@bases
def test_svd_export_loads_as_plain_lora_with_the_error_that_it_records(family, tmp_path: Path):
    """The error is also the one that the singular values left out predict: nothing of this rank is nearer."""
    ours = ours_trained(family, "rslora and dora")
    errors = export_lora(ours, tmp_path / "out", rank=3)
    assert json.loads((tmp_path / "out" / "svd_error.json").read_text()) == {
        "rank": 3,
        "relative_frobenius_error": errors,
    }
    assert errors.keys() == adapted_names(ours.base_model, "combine")
    theirs = PeftModel.from_pretrained(BASES[family](), tmp_path / "out")
    settings = theirs.peft_config["default"]
    assert (settings.r, settings.use_dora, settings.use_rslora) == (3, False, False)
    for name, error in errors.items():
        wanted = added_by(ours, name)
        layer = theirs.base_model.model.get_submodule(name)
        held = layer.get_delta_weight("default")
        held = held.T if isinstance(layer.base_layer, Conv1D) else held
        assert 0 < error < 1
        assert ((held - wanted).norm() / wanted.norm()).item() == pytest.approx(error, rel=1e-3)
        sizes = torch.linalg.svdvals(wanted)
        assert (sizes[3:].norm() / sizes.norm()).item() == pytest.approx(error, rel=1e-3)


def test_svd_export_has_no_error_at_the_rank_of_a_plain_update_and_less_at_more(tmp_path: Path):
    plain = ours_trained("llama", "rslora", lora_alpha=2.0)
    assert max(export_lora(plain, tmp_path / "whole", rank=4).values()) < 1e-5
    theirs = PeftModel.from_pretrained(llama(), tmp_path / "whole").eval()
    torch.testing.assert_close(theirs(tokens()).logits, plain(tokens()).logits, rtol=1e-4, atol=1e-4)
    magnitude = ours_trained("llama", "dora")
    steps = [export_lora(magnitude, tmp_path / "dora", rank) for rank in (1, 4, 12, 16)]
    for less, more in zip(steps, steps[1:], strict=False):
        assert all(more[name] < less[name] for name in less)


def test_svd_of_an_untrained_adapter_is_zero_and_its_error_too(tmp_path: Path):
    errors = export_lora(adapt(llama(), HyLoRADAConfig(**PLAIN)), tmp_path / "out", rank=2)
    assert set(errors.values()) == {0.0}
    assert torch.equal(import_peft(llama(), tmp_path / "out").eval()(tokens()).logits, llama()(tokens()).logits)


@pytest.mark.parametrize("rank", [0, 17, True, 2.0])
def test_svd_export_refuses_a_rank_that_does_not_fit(rank, tmp_path: Path):
    with pytest.raises(HyLoRADAError, match="use 1 to 16"):
        export_lora(ours_trained("llama", "lora"), tmp_path / "out", rank)
