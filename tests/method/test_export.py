"""Export: what PEFT cannot hold is refused by name, a folder is whole or as it was, and the SVD tells its error."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from bases import FAMILIES, adapt, families, gpt2, llama, tokens, without_zeros
from family_bases import family_base
from peft import AutoPeftModelForCausalLM, PeftModel
from peft_pairs import PLAIN, adapted_names, kinds, ours_trained
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, checkpoint
from hylorada.export import export_lora, export_peft
from hylorada.peft_import import import_peft

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


# what cannot leave


@pytest.mark.parametrize("how", [export_peft, lambda model, folder: export_lora(model, folder, 2)])
def test_layers_that_peft_takes_for_routed_experts_are_refused_by_name(how, tmp_path: Path):
    for targets, refused in (("all-linear", True), (["o_proj"], False)):
        config = HyLoRADAConfig(lora_target_modules=targets, position_bias_enabled=False, landmark_enabled=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers that cannot be adapted
            model = HyLoRADAModel(family_base("deepseek_v3"), config)
        if refused:
            with pytest.raises(
                HyLoRADAError, match=r"takes the name of .*_proj for the routed experts of a deepseek_v3"
            ):
                how(model, tmp_path / "refused")
        else:
            how(model, tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


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


@families
def test_trained_embeddings_and_norms_leave_whole_for_peft(family, tmp_path: Path):
    """Tied (GPT-2) or not: PEFT computes the same from the two copies."""
    config = HyLoRADAConfig(**PLAIN, train_embeddings=True, train_norms=True)
    model, ids = without_zeros(adapt(FAMILIES[family](), config)), tokens()
    export_peft(model, tmp_path / "a")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # said of tied weights in any adapter
        theirs = PeftModel.from_pretrained(FAMILIES[family](), tmp_path / "a").eval()
    torch.testing.assert_close(theirs(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(HyLoRADAError, match="modules_to_save"):
        import_peft(FAMILIES[family](), tmp_path / "a")


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


def test_the_export_of_a_local_base_loads_by_itself_from_any_folder(tmp_path: Path, monkeypatch):
    llama().save_pretrained(tmp_path / "models" / "base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    model = without_zeros(adapt(AutoModelForCausalLM.from_pretrained("models/base"), HyLoRADAConfig(**PLAIN)))
    export_peft(model, "out")
    settings = json.loads(Path("out/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str((tmp_path / "models" / "base").resolve())
    monkeypatch.chdir(tmp_path / "elsewhere")
    theirs = AutoPeftModelForCausalLM.from_pretrained("../out").eval()
    torch.testing.assert_close(theirs(tokens()).logits, model(tokens()).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", ["some-hub/some-model", "some-model", "../no-folder", r"C:\models\some-model", ""])
def test_a_base_that_is_no_folder_here_is_named_as_it_is(given, tmp_path: Path):
    base = llama()
    base.config.name_or_path = given
    export_peft(adapt(base, HyLoRADAConfig(**PLAIN)), tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == (given or None)


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
    with pytest.raises(HyLoRADAError, match="holds other things .README.md"):
        export_peft(model, tmp_path / "adapter")
    assert HyLoRADAModel.from_pretrained(llama(), tmp_path / "adapter")
    export_lora(model, tmp_path / "out", 2)
    export_peft(model, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


# plain LoRA by singular values


def added_by(model: HyLoRADAModel, name: str) -> torch.Tensor:
    layer = model.base_model.get_submodule(name)
    weight = layer.base_layer.weight
    return layer.merged_weight() - (weight if isinstance(layer.base_layer, nn.Linear) else weight.T)


@families
def test_svd_export_loads_as_plain_lora_with_the_error_that_it_records(family, tmp_path: Path):
    """The error is also the one that the singular values left out predict: nothing of this rank is nearer."""
    ours = ours_trained(family, "rslora and dora")
    errors = export_lora(ours, tmp_path / "out", rank=3)
    assert json.loads((tmp_path / "out" / "svd_error.json").read_text()) == {
        "rank": 3,
        "relative_frobenius_error": errors,
    }
    assert errors.keys() == adapted_names(ours.base_model, "combine")
    theirs = PeftModel.from_pretrained(FAMILIES[family](), tmp_path / "out")
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
    with pytest.raises(HyLoRADAError, match="use 1 to 16|give a whole number"):
        export_lora(ours_trained("llama", "lora"), tmp_path / "out", rank)
