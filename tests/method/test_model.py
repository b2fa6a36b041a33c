"""The model around the layers: what it counts, finds, refuses, saves and loads."""

import copy
import json

import pytest
import torch
from bases import FAMILIES, adapt, gpt2, llama, qwen2, tokens, without_zeros
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaModel

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, LandmarkLoRA, LearnableBucketLandmark
from hylorada.study.plan.ablation import STAGES
from hylorada.targets import find_layers

PLAIN = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)


@pytest.fixture(scope="module")
def counts_124m():
    """Count on the published shape of GPT-2; the meta device holds shapes alone."""

    def count(**settings) -> dict[str, int]:
        with torch.device("meta"):
            base = GPT2LMHeadModel(GPT2Config())
        return HyLoRADAModel(base, HyLoRADAConfig.from_dict(PLAIN.to_dict() | settings)).count_params()

    return count


def test_parameter_counts_on_the_gpt2_shape_are_the_derived_ones(counts_124m):
    assert counts_124m()["lora"] == 811_008
    assert counts_124m(lora_rank=16)["lora"] == 1_622_016
    assert counts_124m(use_dora_magnitude=True)["magnitude"] == 46_080 + 72
    assert counts_124m(position_bias_enabled=True)["position_bias"] == 65
    assert counts_124m(landmark_enabled=True)["landmark"] == 12_545
    assert counts_124m(landmark_enabled=True, num_landmarks=4)["landmark"] == 6_273
    learned = counts_124m(landmark_enabled=True, landmark_design="learnable_bucket")
    assert learned["landmark"] == 12_545 + 31
    assert counts_124m(landmark_enabled=True, landmark_design="original", num_landmarks=4)["landmark"] == 6_145
    assert counts_124m(landmark_enabled=True, landmark_design="constant")["landmark"] == 768
    assert counts_124m(landmark_enabled=True, landmark_design="per_layer", num_landmarks=4)["landmark"] == 36_876


def test_counts_add_up_and_the_base_is_frozen(counts_124m):
    counts = counts_124m(use_dora_magnitude=True, position_bias_enabled=True, landmark_enabled=True)
    parts = sum(counts[p] for p in ("lora", "magnitude", "position_bias", "landmark"))
    assert counts["trainable"] == parts == 811_008 + 46_152 + 65 + 12_545
    assert counts["total"] == 124_439_808 + parts


def test_counts_are_printed_with_their_share(capsys):
    adapt(llama(), PLAIN).print_trainable_params()
    line = capsys.readouterr().out
    assert line.startswith("trainable ") and "lora" in line and "landmark" not in line


def test_public_landmark_classes_take_the_documented_arguments():
    assert sum(p.numel() for p in LandmarkLoRA(768, 8, 32, 1024, 0.05).parameters()) == 12_545
    assert sum(p.numel() for p in LearnableBucketLandmark(768, 8, 32, 1024, 0.05).parameters()) == 12_576


def test_layers_are_found_by_whole_name_or_dotted_end():
    assert len(find_layers(llama(), None)) == 8
    assert list(find_layers(llama(), ("mlp.down_proj",))) == [f"model.layers.{i}.mlp.down_proj" for i in (0, 1)]
    assert list(find_layers(llama(), ("model.layers.1.self_attn.q_proj",))) == ["model.layers.1.self_attn.q_proj"]
    assert len(find_layers(gpt2(), None)) == 6  # c_attn and both c_proj
    assert "lm_head" not in find_layers(llama(), None)


def test_a_misspelt_layer_among_good_ones_raises_with_near_matches():
    with pytest.raises(HyLoRADAError, match="'q_porj' matches no layer.*did you mean 'q_proj'"):
        find_layers(llama(), ("v_proj", "q_porj"))


def test_layers_that_are_not_linear_are_refused():
    with pytest.raises(HyLoRADAError, match="LlamaRMSNorm cannot be adapted"):
        find_layers(llama(), ("input_layernorm",))


def test_the_output_layer_is_not_adapted():
    with pytest.raises(HyLoRADAError, match="'lm_head' is the output layer"):
        find_layers(gpt2(), ("c_attn", "lm_head"))


def test_disabled_blocks_may_nest_and_a_merged_model_has_nothing_to_disable():
    model, ids = without_zeros(adapt(llama(), HyLoRADAConfig())), tokens()
    before, bare = model(ids).logits, llama()(ids).logits
    with model.disable_adapter():
        with model.disable_adapter():
            assert torch.equal(model(ids).logits, bare)
        assert torch.equal(model(ids).logits, bare)
    assert torch.equal(model(ids).logits, before)
    merging = without_zeros(adapt(llama(), PLAIN))
    merged = merging.merge_and_unload()(ids).logits
    with merging.disable_adapter() as base:
        assert torch.equal(base(ids).logits, merged)


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_may_keep_the_parts_that_no_weight_holds(family, tmp_path):
    """The weights take what they can; the rest stays as thin parts, which save and load on the merged base."""
    config = HyLoRADAConfig(
        use_dora_magnitude=True, daa_enabled=True, sparse_enabled=True, train_embeddings=True, train_norms=True
    )
    model, ids = without_zeros(adapt(FAMILIES[family](), config)), tokens()
    before, counts = model(ids).logits, model.count_params()
    kept = model.merge_and_unload(keep_dynamic=True)
    torch.testing.assert_close(kept(ids).logits, before, rtol=1e-4, atol=1e-4)
    assert kinds_in(kept.base_model) == kinds_in(FAMILIES[family]())
    dynamic = ("position_bias", "landmark", "daa", "sparse")
    assert kept.count_params()["trainable"] == sum(counts[part] for part in dynamic)
    kept.base_model.save_pretrained(tmp_path / "base")
    kept.save_pretrained(tmp_path / "adapter")
    base = type(kept.base_model).from_pretrained(tmp_path / "base")
    again = HyLoRADAModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(again(ids).logits, before, rtol=1e-4, atol=1e-4)
    with kept.disable_adapter() as plain:
        torch.testing.assert_close(plain(ids).logits, base_alone(tmp_path / "base", type(base))(ids).logits)


def kinds_in(model) -> set[str]:
    return {type(module).__name__ for module in model.modules()}


def base_alone(folder, kind):
    return kind.from_pretrained(folder).eval()


def test_a_bias_on_the_update_does_not_merge_even_when_parts_may_stay():
    model = without_zeros(adapt(llama(), HyLoRADAConfig(position_bias_on="update", landmark_enabled=False)))
    before = model(tokens()).logits
    with pytest.raises(HyLoRADAError, match="position_bias_on='update'"):
        model.merge_and_unload(keep_dynamic=True)
    assert torch.equal(model(tokens()).logits, before)


def test_an_adapter_gone_bad_is_not_merged():
    model = adapt(llama(), PLAIN)
    with torch.no_grad():
        model.trainable_parameters()[0].fill_(float("nan"))
    with pytest.raises(HyLoRADAError, match="nothing is merged"):
        model.merge_and_unload()
    with model.disable_adapter():
        assert model(tokens()).logits.isfinite().all()


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn"])
def test_a_merged_model_keeps_its_rope_scaling_on_disk(kind, tmp_path):
    config = HyLoRADAConfig.from_dict(PLAIN.to_dict() | dict(rope_scaling_type=kind, rope_scaling_factor=4.0))
    model, ids = without_zeros(adapt(llama(), config)), tokens(1, 100)  # beyond the trained context of 64
    before = model(ids).logits
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = type(model.base_model).from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(ids).logits, before, rtol=1e-4, atol=1e-4)


def test_a_model_that_cannot_be_made_leaves_the_base_as_it_was():
    """The layers and the RoPE scaling fit, but S²-Attn's groups do not."""
    base, ids = llama(), tokens()
    before = base(ids).logits
    config = HyLoRADAConfig(
        rope_scaling_type="linear", rope_scaling_factor=2.0, daa_enabled=True, s2_attn_enabled=True, s2_group_size=1000
    )
    with pytest.raises(HyLoRADAError, match="s2_group_size=1000"):
        HyLoRADAModel(base, config)
    assert torch.equal(base(ids).logits, before)
    assert [name for name, _ in base.named_modules()] == [name for name, _ in llama().named_modules()]
    assert base.config.to_dict() == llama().config.to_dict()
    assert adapt(base, PLAIN)(ids).logits.isfinite().all()


def test_what_is_no_causal_language_model_is_refused():
    with pytest.raises(HyLoRADAError, match="no causal language model"):
        HyLoRADAModel(LlamaModel(llama().config), PLAIN)
    with pytest.raises(HyLoRADAError, match="no causal language model"):
        HyLoRADAModel(torch.nn.Linear(2, 2), PLAIN)


def test_an_adapted_base_is_not_adapted_twice():
    model = adapt(llama(), PLAIN)
    with pytest.raises(HyLoRADAError, match="adapted already"):
        HyLoRADAModel(model.base_model, PLAIN)


def test_a_rank_wider_than_the_layer_is_refused():
    with pytest.raises(HyLoRADAError, match="rank 33 does not fit"):
        HyLoRADAModel(llama(), HyLoRADAConfig(lora_rank=33))


def test_qwen_projections_with_bias_are_adapted_and_merge():
    model = without_zeros(adapt(qwen2(), STAGES["magnitude"].adapter))
    before = model(tokens()).logits
    torch.testing.assert_close(model.merge_and_unload()(tokens()).logits, before, rtol=1e-4, atol=1e-4)
    full = adapt(qwen2(), STAGES["landmarks"].adapter)
    assert full(tokens()).logits.isfinite().all()


def test_position_bias_acts_on_real_positions():
    """Two buckets apart, the same token is scaled differently; with one bucket it could not be."""
    config = HyLoRADAConfig(landmark_enabled=False)
    model = without_zeros(adapt(llama(), config))
    ids = tokens(1, 30)
    shifted = model(ids, position_ids=torch.arange(30)[None] + 20).logits
    assert not torch.allclose(shifted, model(ids).logits, atol=1e-3)


def test_a_four_dimensional_mask_without_position_ids_raises_only_where_positions_matter():
    ids, mask = tokens(1, 6), torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    assert adapt(llama(), PLAIN)(ids, attention_mask=mask).logits.isfinite().all()
    with pytest.raises(HyLoRADAError, match="pass position_ids"):
        adapt(llama(), HyLoRADAConfig(position_bias_enabled=False))(ids, attention_mask=mask)


def test_pooled_landmarks_look_back_through_beams_and_crops_of_the_cache():
    """What they keep lies in the cache itself, so whatever reorders or crops it takes them along."""
    config = HyLoRADAConfig(position_bias_enabled=False, landmark_design="per_layer")
    model, ids = without_zeros(adapt(llama(), config)), tokens(2, 10)
    settings = dict(max_new_tokens=6, num_beams=3, do_sample=False, pad_token_id=0, eos_token_id=None)
    cached = model.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **settings))
    cache = model(ids, use_cache=True).past_key_values
    cache.crop(-4)
    again = model(ids[:, 6:], past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(again, model(ids).logits[:, 6:], rtol=1e-4, atol=1e-4)


def test_a_cache_filled_without_the_landmarks_is_refused():
    model, ids = adapt(llama(), HyLoRADAConfig(landmark_design="original")), tokens(1, 8)
    with model.disable_adapter() as base:
        cache = base(ids[:, :5], use_cache=True).past_key_values
    with pytest.raises(HyLoRADAError, match="filled without the landmarks"):
        model(ids[:, 5:], past_key_values=cache, use_cache=True)


def test_a_model_can_be_copied_whole():
    model = without_zeros(adapt(llama(), HyLoRADAConfig()))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.position_bias.bias.fill_(2.0)
    assert not torch.allclose(twin(tokens()).logits, model(tokens()).logits, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_folder_holds_the_adapter_alone(family, tmp_path):
    model = without_zeros(adapt(FAMILIES[family](), HyLoRADAConfig()))
    model.save_pretrained(tmp_path / "a")
    names = {"README.md", "hylorada_config.json", "hylorada.safetensors"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == names
    held = load_file(tmp_path / "a" / "hylorada.safetensors")
    assert sum(t.numel() for t in held.values()) == model.count_params()["trainable"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_loading_is_strict(tmp_path):
    model = adapt(llama(), HyLoRADAConfig())
    folder = tmp_path / "a"
    model.save_pretrained(folder)
    held = load_file(folder / "hylorada.safetensors")
    name, config = next(iter(held)), folder / "hylorada_config.json"
    said = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({key: value for key, value in said.items() if key != "sha256"}), encoding="utf-8")
    for broken, message in (
        ({k: v for k, v in held.items() if k != name}, "1 missing"),
        (held | {"stray": torch.ones(1)}, r"1 unknown \(stray"),
        (held | {name: torch.ones(1)}, r"\(1,\), here"),
    ):
        save_file(broken, folder / "hylorada.safetensors")
        with pytest.raises(HyLoRADAError, match=message):
            HyLoRADAModel.from_pretrained(llama(), folder)


def test_an_adapter_is_refused_on_another_base(tmp_path):
    adapt(llama(), PLAIN).save_pretrained(tmp_path / "a")
    with pytest.raises(HyLoRADAError, match="model_type llama there, qwen2 here"):
        HyLoRADAModel.from_pretrained(qwen2(), tmp_path / "a")


def test_damaged_or_absent_folders_are_told_plainly(tmp_path):
    with pytest.raises(HyLoRADAError, match="hylorada_config.json is not in it"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path)
    adapt(llama(), PLAIN).save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "hylorada.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(HyLoRADAError, match="damaged"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")
    description = json.loads((tmp_path / "a" / "hylorada_config.json").read_text())
    (tmp_path / "a" / "hylorada_config.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(HyLoRADAError, match="not of format 1"):
        HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")


def test_an_adapter_gone_bad_is_not_saved_over_a_good_one(tmp_path):
    model = adapt(llama(), PLAIN)
    model.save_pretrained(tmp_path / "a")
    good = (tmp_path / "a" / "hylorada.safetensors").read_bytes()
    with torch.no_grad():
        model.trainable_parameters()[0].fill_(float("nan"))
    with pytest.raises(HyLoRADAError, match="NaN"):
        model.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "hylorada.safetensors").read_bytes() == good


CHANGED = dict(
    lora_rank=4,
    lora_alpha=8.0,
    lora_dropout=0.5,
    lora_target_modules=["q_proj"],
    use_rslora=False,
    orthogonal_init=False,
    use_dora_magnitude=True,
    position_bias_enabled=False,
    position_num_buckets=8,
    position_bias_on="update",
    landmark_enabled=False,
    landmark_design="learnable_bucket",
    num_landmarks=3,
    num_position_buckets=5,
    bucket_spacing="linear",
    max_positions=9,
    landmark_pooling="sequence",
    s2_attn_enabled=True,
    s2_group_size=4,
    s2_sink_tokens=2,
    lora_enabled=False,
    magnitude_gated=False,
    daa_enabled=True,
    sparse_enabled=True,
    sparse_bottleneck=16,
    sparse_top_share=0.5,
    train_embeddings=True,
    train_norms=True,
    rope_scaling_type="yarn",
    rope_scaling_factor=3.0,
)
GROUPS = {"s2_attn_enabled": True, "s2_group_size": 8}
ALONGSIDE = {  # settings that act with others alone
    "landmark_pooling": {"landmark_design": "original"},
    "s2_attn_enabled": {"s2_group_size": 8},
    "s2_group_size": GROUPS,
    "s2_sink_tokens": GROUPS,
    "magnitude_gated": {"use_dora_magnitude": True},
    "sparse_bottleneck": {"sparse_enabled": True},
    "sparse_top_share": {"sparse_enabled": True},
    "rope_scaling_type": {"rope_scaling_type": "linear", "rope_scaling_factor": 2.0},
    "rope_scaling_factor": {"rope_scaling_type": "linear", "rope_scaling_factor": 2.0},
}


@pytest.mark.parametrize("field", CHANGED)
def test_every_setting_acts(field):
    """Changing any one field changes the training output of an adapter that is off its start."""
    start = HyLoRADAConfig.from_dict({"lora_dropout": 0.0} | ALONGSIDE.get(field, {}))
    changed = HyLoRADAConfig.from_dict(start.to_dict() | {field: CHANGED[field]})
    outputs = []
    for config in (start, changed):
        model = without_zeros(adapt(llama(), config)).train()
        torch.manual_seed(4)
        outputs.append(model(tokens()).logits)
    assert not torch.allclose(*outputs, atol=1e-4)


def test_every_setting_is_covered_by_a_test_that_it_acts():
    tested_elsewhere = {"gradient_checkpointing"}  # equal results by design: test_every_method.py
    assert set(CHANGED) | tested_elsewhere == set(HyLoRADAConfig().to_dict())


def test_gradient_checkpointing_is_switched_on():
    model = adapt(llama(), HyLoRADAConfig(gradient_checkpointing=True))
    assert model.base_model.is_activation_checkpointing
