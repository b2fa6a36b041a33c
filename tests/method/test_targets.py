"""Which layers an adapter takes in models of many families, by role and by name."""

import logging

import pytest
import torch
from bases import adapt, gpt2, llama
from family_bases import family_base
from peft import LoraConfig, get_peft_model

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.targets import LAYER_NAMES, find_layers, shortest_names

# PEFT still asks transformers for a name that transformers is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PUBLISHED = ("q_proj", "k_proj", "v_proj", "o_proj", "c_attn", "c_proj", "query", "key", "value", "dense")
ATTENTION = {  # what a reader of each model's code would call its attention projections
    "phi3": ["o_proj", "qkv_proj"],
    "gpt_neox": ["query_key_value", "self_attention.dense"],
    "gpt_neo": ["k_proj", "out_proj", "q_proj", "v_proj"],
    "mpt": ["Wqkv", "out_proj"],
    "deepseek_v3": ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"],
}


def ends(layers: dict) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name in layers}


@pytest.mark.parametrize("family", ATTENTION)
def test_by_default_the_projections_of_self_attention_are_adapted(family):
    layers = find_layers(family_base(family), None)
    assert ends(layers) == {name.rsplit(".", 1)[-1] for name in ATTENTION[family]}
    assert all("att" in name for name in layers)


def test_a_name_that_other_layers_bear_too_stands_with_what_tells_it_apart():
    """`out_proj` is the name of LFM2's convolutions' last layer too."""
    base = family_base("lfm2")
    layers = find_layers(base, None)
    assert shortest_names(base, layers) == ["k_proj", "q_proj", "self_attn.out_proj", "v_proj"]
    assert set(find_layers(base, tuple(shortest_names(base, layers)))) == set(layers)


@pytest.mark.parametrize("family", ["gpt2", "phi3", "opt", "qwen2_moe", "lfm2"])
def test_all_linear_means_the_layers_that_peft_means(family):
    theirs = get_peft_model(
        family_base(family), LoraConfig(target_modules="all-linear", fan_in_fan_out=family == "gpt2")
    )
    wanted = {name for name, module in theirs.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert set(find_layers(family_base(family), "all-linear")) == wanted


def test_all_linear_passes_over_what_only_looks_linear_and_naming_that_is_refused():
    """Llama 4's router is a linear class that answers with two tensors."""
    base = family_base("llama4_text")
    assert "router" not in ends(find_layers(base, "all-linear"))
    with pytest.raises(HyLoRADAError, match="Llama4Router, which does more than multiply by its weight"):
        find_layers(base, ("router",))


def test_all_linear_is_kept_with_the_adapter(tmp_path):
    model = HyLoRADAModel(family_base("phi3"), HyLoRADAConfig(lora_target_modules="all-linear"))
    model.save_pretrained(tmp_path / "adapter")
    again = HyLoRADAModel.from_pretrained(family_base("phi3"), tmp_path / "adapter")
    assert again.hylorada_config.lora_target_modules == "all-linear"
    assert ends(again.wiring.parts.layers) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


@pytest.mark.parametrize(
    "make, own",
    [(llama, {"q_proj", "k_proj", "v_proj", "o_proj"}), (gpt2, {"c_attn", "c_proj"})],
    ids=["llama", "gpt2"],
)
def test_of_names_for_several_families_those_of_the_model_serve(make, own, caplog):
    with caplog.at_level(logging.WARNING):
        assert ends(find_layers(make(), PUBLISHED)) == own
    told = set(caplog.messages[0].removeprefix("lora_target_modules: this model has no ").split(";")[0].split(", "))
    assert told == set(PUBLISHED) - own


@pytest.mark.parametrize("wrong", ["q_porj", "attention_dense", "layers.9.self_attn.q_proj", "mlp.q_proj"])
def test_a_misspelt_name_among_those_of_several_families_is_named(wrong):
    with pytest.raises(HyLoRADAError, match=f"{wrong!r} matches no layer of this model"):
        find_layers(llama(), (*PUBLISHED, wrong))


def test_names_of_other_families_alone_are_refused_with_the_models_own():
    with pytest.raises(HyLoRADAError, match=r"none of \['c_attn'\] matches.*allowed: down_proj, gate_proj, k_proj"):
        find_layers(llama(), ("c_attn",))


def test_the_layers_of_every_family_that_is_adapted_by_role_bear_known_names():
    unknown = {
        end for family in ATTENTION for end in ends(find_layers(family_base(family), "all-linear"))
    } - LAYER_NAMES
    assert not unknown


def test_names_reach_the_language_model_of_a_multimodal_one_alone():
    layers = find_layers(family_base("gemma3"), ("q_proj", "v_proj"))
    assert len(layers) == 4 and all(name.startswith("model.language_model.") for name in layers)


def test_a_model_without_self_attention_says_all_that_it_lacks_at_once():
    said = (
        "no self-attention.*'all-linear' or .* among in_proj[.] And: .* states no context length; set max_positions .*"
    )
    with pytest.raises(HyLoRADAError, match=said):
        HyLoRADAModel(family_base("mamba"), HyLoRADAConfig())


def test_routed_experts_are_told_to_be_left_alone(capsys):
    base = family_base("qwen2_moe")
    model = HyLoRADAModel(base, HyLoRADAConfig(lora_target_modules=("down_proj",)))
    model.print_trainable_params()
    numbers = sum(p.numel() for m in base.modules() if type(m).__name__ == "Qwen2MoeExperts" for p in m.parameters())
    told = f"not adapted: the routed experts of 2 blocks (Qwen2MoeExperts, {numbers:,} numbers)\n"
    assert capsys.readouterr().out.endswith(told)
    HyLoRADAModel(llama()).print_trainable_params()
    assert "not adapted" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "part", [dict(daa_enabled=True), dict(s2_attn_enabled=True, s2_group_size=8)], ids=["daa", "s2"]
)
def test_a_family_whose_attention_sdpa_cannot_compute_is_not_sent_there(part):
    """Gemma 2 caps its scores, which sdpa would ignore."""
    with pytest.raises(HyLoRADAError, match="'sdpa' attention, which cannot compute what this Gemma2ForCausalLM does"):
        HyLoRADAModel(family_base("gemma2"), HyLoRADAConfig(**part))


def test_a_rank_beyond_the_outputs_of_a_gate_is_lora_as_ever():
    base = family_base("qwen2_moe")
    config = HyLoRADAConfig(lora_target_modules=("shared_expert_gate",), position_bias_enabled=False)
    layer = next(iter(adapt(base, config).wiring.parts.layers.values()))
    torch.nn.init.normal_(layer.lora.B)  # (1, 8)
    x = torch.randn(3, 32)
    torch.testing.assert_close(layer(x), x @ layer.merged_weight().T)
