"""The configuration: what it refuses and how it says so, what the presets set, and that it survives a file."""

import json
from dataclasses import fields, replace

import pytest
import torch
from bases import FAMILIES, adapt, llama, tokens
from transformers import GPT2Config, GPT2LMHeadModel

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, TrainingConfig, get_baseline_model
from hylorada.baselines import METHODS, NO_PARTS, method_config
from hylorada.presets import PRESETS

SMALL = dict(lora_rank=4, s2_group_size=8)  # presets are for real models; the tiny one is 32 wide and 64 long


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(lora_rank=0), "lora_rank=0 is too small"),
        (dict(lora_rank="8"), "lora_rank='8' is of the wrong kind"),
        (dict(lora_rank=True), "wrong kind"),
        (dict(lora_alpha=-1.0), "lora_alpha=-1.0"),
        (dict(lora_alpha=float("nan")), "lora_alpha=nan"),
        (dict(lora_dropout=1.0), "lora_dropout=1.0"),
        (dict(lora_target_modules=""), "not a list of layer names"),
        (dict(lora_target_modules="q_proj)"), "no regular expression"),
        (dict(lora_target_modules=[]), "not a list of layer names"),
        (dict(lora_target_modules=["q_proj", "q_proj"]), "names a layer twice"),
        (dict(bucket_spacing="logarithmic"), "allowed: linear, log"),
        (dict(landmark_design="learnable"), "did you mean 'learnable_bucket'"),
        (dict(position_bias_on="input"), "position_bias_on='input'"),
        (dict(num_landmarks=0), "num_landmarks=0"),
        (dict(max_positions=0), "max_positions=0"),
        (dict(max_positions=2.5), "wrong kind"),
        (dict(landmark_design="learnable_bucket", num_position_buckets=1), "no boundary to learn"),
        (dict(use_rslora=1), "use_rslora=1"),
        (dict(s2_group_size=7), "use an even number"),
        (dict(s2_attn_enabled=True, s2_group_size=4, s2_sink_tokens=4), "use 0 up to 3"),
        (dict(s2_sink_tokens=4), "acts in S²-Attn alone"),
        (dict(landmark_pooling="mean"), "landmark_pooling='mean'"),
        (dict(landmark_pooling="sequence"), "nothing to act on"),
        (dict(landmark_design="per_layer", num_landmarks=1), "half a landmark"),
        (dict(lora_rnak=8), "did you mean 'lora_rank'"),
        (dict(rope_scaling_type="yran", rope_scaling_factor=2.0), "did you mean 'yarn'"),
        (dict(rope_scaling_type=2), "rope_scaling_type=2 is of the wrong kind"),
        (dict(rope_scaling_type="linear"), "scales nothing; use a number above 1"),
        (dict(rope_scaling_type="linear", rope_scaling_factor=0.5), "rope_scaling_factor=0.5 scales nothing"),
        (dict(rope_scaling_factor=2.0), "no scaling to act in"),
        (dict(sparse_bottleneck=0), "sparse_bottleneck=0 is too small"),
        (dict(sparse_top_share=0.0), "sparse_top_share=0.0 is not a share"),
        (dict(sparse_top_share=1.5), "sparse_top_share=1.5 is not a share"),
        (dict(magnitude_gated=False), "no magnitude to act on"),
        (dict(lora_enabled=False, use_dora_magnitude=True), "needs lora_enabled=True"),
        (dict(lora_enabled=False, position_bias_on="update"), "no update without lora_enabled"),
        (dict(lora_enabled=False, position_bias_enabled=False, landmark_enabled=False), "nothing is left to train"),
    ],
)
def test_misused_settings_say_what_is_wrong(settings, message):
    with pytest.raises(HyLoRADAError, match=message):
        HyLoRADAConfig.from_dict(settings)


def test_settings_survive_json():
    config = HyLoRADAConfig(lora_target_modules=["q_proj"], max_positions=7)
    assert HyLoRADAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_presets_are_those_of_the_guidelines():
    assert set(PRESETS) == {"lightweight", "balanced", "max_quality", "long_context", "extreme_context", "optimal"}
    ranks = {name: HyLoRADAConfig.preset(name).lora_rank for name in PRESETS}
    assert ranks == dict(
        lightweight=4, balanced=8, max_quality=16, long_context=8, extreme_context=8, optimal=16
    )  # MT-195 to MT-199, AF-110
    magnitude = {name for name in PRESETS if HyLoRADAConfig.preset(name).use_dora_magnitude}
    assert magnitude == {"balanced", "max_quality", "long_context", "extreme_context"}  # AF-113: not in "optimal"
    extreme, optimal = HyLoRADAConfig.preset("extreme_context"), HyLoRADAConfig.preset("optimal")
    assert (extreme.rope_scaling_type, extreme.rope_scaling_factor, extreme.s2_group_size) == ("yarn", 2.0, 2048)
    assert extreme.train_embeddings and extreme.train_norms
    assert (optimal.lora_alpha, optimal.lora_dropout, optimal.landmark_enabled) == (16.0, 0.1, True)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_model_that_runs(name):
    model = adapt(llama(), HyLoRADAConfig.preset(name, **SMALL))
    assert model(tokens(), labels=tokens()).loss.isfinite()


def test_a_preset_takes_changes_and_refuses_unknown_names():
    assert HyLoRADAConfig.preset("balanced", lora_rank=2).lora_rank == 2
    with pytest.raises(HyLoRADAError, match="did you mean 'balanced'"):
        HyLoRADAConfig.preset("balance")
    with pytest.raises(HyLoRADAError, match="did you mean 'lora_rank'"):
        HyLoRADAConfig.preset("balanced", lora_rnak=2)


def test_extreme_context_says_why_gpt2_cannot_have_it():
    with pytest.raises(HyLoRADAError, match="learns an embedding for each position"):
        HyLoRADAModel(FAMILIES["gpt2"](), HyLoRADAConfig.preset("extreme_context", **SMALL))


def test_the_table_of_methods_is_the_documented_one():
    assert list(METHODS) == ["lora", "rslora", "dora", "lorada", "longlora", "sparse", "hylorada"]
    assert set(NO_PARTS) <= {field.name for field in fields(HyLoRADAConfig)}


def test_methods_differ_in_their_parts_alone():
    """Layers, rank, alpha and sizes are the caller's for all; the scale is too, but for plain LoRA."""
    shared = HyLoRADAConfig(lora_rank=4, lora_alpha=8.0, lora_target_modules=["q_proj"], s2_group_size=8)
    for name in METHODS:
        config, own = method_config(name, shared), NO_PARTS.keys() | METHODS[name].parts.keys()
        for field in fields(HyLoRADAConfig):
            if field.name not in own:
                assert getattr(config, field.name) == getattr(shared, field.name), (name, field.name)
    assert [name for name in METHODS if not method_config(name, shared).use_rslora] == ["lora"]


def test_method_counts_on_the_gpt2_shape():
    """What each method trains, from shapes alone; rank 8 on c_attn and both c_proj."""
    counts = {}
    for name in METHODS:
        with torch.device("meta"):
            base = GPT2LMHeadModel(GPT2Config())
        counts[name] = get_baseline_model(name, base, HyLoRADAConfig(s2_group_size=64)).count_params()
    lora, d, layers = 811_008, 768, 12
    assert counts["lora"]["trainable"] == counts["rslora"]["trainable"] == lora
    assert counts["dora"]["trainable"] == lora + 46_080
    assert counts["lorada"]["trainable"] == lora + layers * 2 * 12
    norms = layers * 2 * 2 * d + 2 * d
    assert counts["longlora"]["norms"] == norms
    assert counts["longlora"]["trainable"] == lora + norms + (50_257 + 1_024) * d
    assert counts["sparse"]["trainable"] == counts["sparse"]["sparse"] == layers * 2 * d * 128
    assert counts["hylorada"]["trainable"] == lora + 46_080 + 72 + 65 + 12_545


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(HyLoRADAError, match="did you mean 'lora"):
        get_baseline_model("lorad", llama())


@pytest.mark.parametrize("config", [HyLoRADAConfig, TrainingConfig])
def test_a_constructor_answers_a_misspelt_name_with_the_nearest(config):
    name = {HyLoRADAConfig: "lora_rank", TrainingConfig: "learning_rate"}[config]
    for wrong in (lambda: config(**{name[:-1]: 8}), lambda: replace(config(), **{name[:-1]: 8})):
        with pytest.raises(HyLoRADAError, match=f"{name[:-1]!r} is no .* setting; did you mean {name!r}") as told:
            wrong()
        assert isinstance(told.value, TypeError), "as Python's own constructors raise"
    with pytest.raises(HyLoRADAError, match="8 is given without a name"):
        config(8)


def test_published_fields_that_lie_elsewhere_say_where():
    with pytest.raises(HyLoRADAError, match="'mixed_precision' is no adapter setting; it is one of TrainingConfig"):
        HyLoRADAConfig(mixed_precision="bf16")
    with pytest.raises(HyLoRADAError, match="'output_dir' is no training setting; it is an argument of HyLoRADATr"):
        TrainingConfig(output_dir="here")


def test_a_batch_size_goes_by_its_published_name_too():
    config = TrainingConfig(per_device_batch_size=2)
    assert config.batch_size == config.per_device_batch_size == 2
    assert config == TrainingConfig(batch_size=2) == replace(config) != TrainingConfig()
    with pytest.raises(HyLoRADAError, match="are one setting, and both are given"):
        TrainingConfig(batch_size=2, per_device_batch_size=2)


def test_a_number_that_python_does_not_write_out_is_refused_in_a_line():
    for settings in (dict(lora_rank=10**5000), dict(use_rslora=10**5000)):
        with pytest.raises(HyLoRADAError, match="=a number of more than 4,300 digits"):
            HyLoRADAConfig(**settings)
