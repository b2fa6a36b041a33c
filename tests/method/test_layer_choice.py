"""Layers told apart: which are adapted, with which rank and alpha, and where they start, here and in PEFT."""

from pathlib import Path

import pytest
import torch
from bases import FAMILIES, adapt, families, llama, tokens, without_zeros
from peft import LoraConfig, PeftModel, get_peft_model
from peft_pairs import PLAIN, adapted_names, pefts_trained

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.export import export_lora, export_peft
from hylorada.layer_choice import chosen_layers
from hylorada.peft_import import import_peft

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # in PEFT
CLOSE = dict(rtol=1e-4, atol=1e-4)
RANKS = {r"0\.self_attn\..*": 2, "down_proj": 6}
ALPHAS = {"q_proj": 3.0, r".*1\.mlp.*": 9.0}


def config_of(**changes) -> HyLoRADAConfig:
    targets = dict(lora_target_modules=("q_proj", "v_proj", "down_proj"), lora_rank=3, lora_alpha=5.0, lora_dropout=0.0)
    return HyLoRADAConfig(**PLAIN | targets | changes)


def chosen(**changes) -> list[str]:
    return [name.removeprefix("model.layers.") for name in chosen_layers(llama(), config_of(**changes))]


def test_layers_are_chosen_by_names_patterns_exclusions_and_blocks():
    both = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]
    assert chosen() == [f"{block}.{name}" for block in (0, 1) for name in both]
    assert chosen(layers_to_transform=1) == [f"1.{name}" for name in both]
    assert chosen(layers_to_transform=range(2)) == chosen(layers_to_transform=[1, 0]) == chosen()
    assert chosen(exclude_modules=["v_proj", "model.layers.0.mlp.down_proj"]) == [
        "0.self_attn.q_proj",
        "1.self_attn.q_proj",
        "1.mlp.down_proj",
    ]
    assert chosen(exclude_modules=r".*\.mlp\..*", layers_to_transform=[0]) == [
        "0.self_attn.q_proj",
        "0.self_attn.v_proj",
    ]
    assert chosen(lora_target_modules=r".*\.1\..*(q_proj|up_proj)") == ["1.self_attn.q_proj", "1.mlp.up_proj"]
    assert chosen(lora_target_modules=r".*\.0\.mlp(\..*_proj)?") == [f"0.mlp.{n}_proj" for n in ("gate", "up", "down")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_target_modules": "q_proj"}, r"pattern over whole names and matches none.*a list, such as \['q_proj'\]"),
        ({"lora_target_modules": r".*self_attn"}, "matches no layer, only model.layers.0.self_attn, model"),
        ({"lora_target_modules": r".*layernorm"}, "cannot be adapted"),
        ({"lora_target_modules": r"lm_head"}, "is the output layer"),
        ({"lora_target_modules": "(q_proj"}, "lora_target_modules: .* is no regular expression"),
        ({"exclude_modules": "["}, "exclude_modules: .* is no regular expression"),
        (
            {"exclude_modules": ["o_proj"]},
            r"exclude_modules=\['o_proj'\] excludes none of model.layers.0.self_attn.q_proj",
        ),
        ({"exclude_modules": ".*"}, "leaves no layer to adapt"),
        ({"exclude_modules": []}, "exclude_modules=.* is not a list of layer names"),
        ({"layers_to_transform": [0, 2]}, "no layer to adapt is in block 2; the blocks are 0 to 1"),
        ({"layers_to_transform": [-1]}, "are no numbers of blocks"),
        ({"layers_to_transform": []}, "are no numbers of blocks"),
        ({"layers_to_transform": [True]}, "are no numbers of blocks"),
        ({"rank_pattern": {"k_proj": 2}}, "rank_pattern: 'k_proj' matches no adapted layer; there are model.layers.0"),
        ({"rank_pattern": {"q_proj": 2, r"0\..*": 4}}, "q_proj has 2 by one key and 4 by"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern: 'q_proj' has 0; use a positive number"),
        ({"rank_pattern": {"q_proj": 2.5}}, "rank_pattern=.* is of the wrong kind"),
        ({"rank_pattern": {"q_proj": 500}}, "rank 500 does not fit"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "alpha_pattern: 'q_proj' has inf"),
        ({"alpha_pattern": [3]}, "alpha_pattern=.* is of the wrong kind"),
        ({"init_lora_weights": "pisa"}, "did you mean 'pissa'"),
    ],
    ids=str,
)
def test_choices_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(HyLoRADAError, match=said) as told:
        HyLoRADAModel(llama(), config_of(**settings))
    assert "\n" not in str(told.value)


def test_settings_with_defaults_are_not_written_and_others_come_back():
    assert "rank_pattern" not in HyLoRADAConfig().to_dict()
    config = config_of(
        rank_pattern=RANKS, alpha_pattern=ALPHAS, exclude_modules=["1.self_attn.v_proj"], layers_to_transform=[1, 0]
    )
    assert HyLoRADAConfig.from_dict(config.to_dict()) == config
    pattern = config_of(lora_target_modules=".*q_proj", init_lora_weights="pissa")
    assert HyLoRADAConfig.from_dict(pattern.to_dict()) == pattern


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_ranks_and_alphas_by_layer_are_pefts(settings, tmp_path: Path):
    """Both ways: its adapter here, and ours there, with what our own folder and merging make of it."""
    pattern = dict(rank_pattern=RANKS | {"q_proj": 4}, alpha_pattern=ALPHAS)
    theirs, ids = pefts_trained("llama", "lora", **pattern, **settings), tokens()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(llama(), tmp_path / "theirs").eval()
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, **CLOSE)
    queries = [ours.base_model.get_submodule(f"model.layers.{block}.self_attn.q_proj") for block in (0, 1)]
    assert [len(query.lora.A) for query in queries] == [2, 4]  # of two keys that match the first decides
    export_peft(ours, tmp_path / "back")
    again = PeftModel.from_pretrained(llama(), tmp_path / "back").eval()
    torch.testing.assert_close(again(ids).logits, theirs(ids).logits, **CLOSE)
    ours.save_pretrained(tmp_path / "own")
    assert torch.equal(HyLoRADAModel.from_pretrained(llama(), tmp_path / "own").eval()(ids).logits, ours(ids).logits)
    torch.testing.assert_close(ours.merge_and_unload()(ids).logits, theirs(ids).logits, **CLOSE)


def test_our_choice_of_layers_is_pefts_after_export(tmp_path: Path):
    for number, changes in enumerate(
        (dict(layers_to_transform=[1]), dict(exclude_modules=["v_proj"]), dict(lora_target_modules=r".*1\..*_proj"))
    ):
        ours = without_zeros(adapt(llama(), config_of(**changes)))
        export_peft(ours, tmp_path / str(number))
        theirs = PeftModel.from_pretrained(llama(), tmp_path / str(number)).eval()
        assert adapted_names(ours.base_model, "combine") == adapted_names(theirs.base_model.model, "lora_A")
        torch.testing.assert_close(ours(tokens()).logits, theirs(tokens()).logits, **CLOSE)


# the start of PiSSA


@families
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}], ids=str)
def test_a_pissa_start_trains_as_pefts_and_leaves_the_base_as_it_was(family, settings):
    """PEFT takes the top of W out of it; here W stays. Logits, gradients and a step of AdamW are the same."""
    targets = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    base, ids = FAMILIES[family](), tokens()
    plain = base(ids).logits
    theirs = dict(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=family == "gpt2", init_lora_weights="pissa")
    theirs = get_peft_model(FAMILIES[family](), LoraConfig(**theirs, **settings, task_type="CAUSAL_LM"))
    dora = {"use_dora_magnitude": True, "magnitude_gated": False} if settings else {}
    ours = adapt(base, config_of(lora_target_modules=targets, use_rslora=False, init_lora_weights="pissa", **dora))
    torch.testing.assert_close(ours(ids).logits, plain, **CLOSE)
    for model in (ours.train(), theirs.train()):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for _ in range(3):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    ours.eval(), theirs.eval()
    assert not torch.allclose(ours(ids).logits, plain, atol=0.05)
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-3, atol=1e-3)
    with ours.disable_adapter() as untouched:
        assert torch.equal(untouched(ids).logits, plain)


@pytest.mark.parametrize("dora", [{}, {"use_dora_magnitude": True}], ids=str)
@pytest.mark.parametrize("rslora", [False, True])
def test_a_pissa_adapter_is_saved_exported_and_merged_as_what_it_is(rslora, dora, tmp_path: Path):
    ids, numbers = tokens(), {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"v_proj": 7.0}}
    ours = without_zeros(adapt(llama(), config_of(init_lora_weights="pissa", use_rslora=rslora, **numbers, **dora)))
    logits = ours(ids).logits
    ours.save_pretrained(tmp_path / "own")
    assert torch.equal(HyLoRADAModel.from_pretrained(llama(), tmp_path / "own").eval()(ids).logits, logits)
    export_peft(ours, tmp_path / "out")
    theirs = PeftModel.from_pretrained(llama(), tmp_path / "out").eval()
    torch.testing.assert_close(theirs(ids).logits, logits, **CLOSE)
    torch.testing.assert_close(import_peft(llama(), tmp_path / "out").eval()(ids).logits, logits, **CLOSE)
    if not dora:
        errors = export_lora(ours, tmp_path / "svd", 10)
        assert max(errors.values()) < 1e-5  # twice the rank holds it all
    torch.testing.assert_close(ours.merge_and_unload()(ids).logits, logits, **CLOSE)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_a_pissa_adapter_as_peft_saves_it_is_read(settings, tmp_path: Path):
    theirs, ids = pefts_trained("llama", "lora", init_lora_weights="pissa", **settings), tokens()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = import_peft(llama(), tmp_path / "theirs").eval()
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-3, atol=1e-3)


def test_a_frozen_or_resumed_pissa_adapter_keeps_its_start(tmp_path: Path):
    config = config_of(init_lora_weights="pissa")
    model, data = adapt(llama(), config), [{"input_ids": row} for row in tokens(4, 12).tolist()]
    starts = {name: p.clone() for name, p in model.adapter_tensors().items() if ".start_" in name}
    assert len(starts) == 12 and not any(p.requires_grad for p in starts.values())
    model.requires_grad_(False).requires_grad_(True)
    settings = TrainingConfig(batch_size=1, checkpoint_every=2)
    HyLoRADATrainer(model, settings, data, tmp_path, progress=False).train()
    assert all(torch.equal(model.adapter_tensors()[name], start) for name, start in starts.items())
    resumed = adapt(llama(), config, seed=5)
    HyLoRADATrainer(resumed, settings, data, tmp_path, progress=False).train()
    assert torch.equal(resumed(tokens()).logits, model(tokens()).logits)
