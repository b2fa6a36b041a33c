"""S²-Attn turned on and off: the base comes back as it was, and what groups cannot hold is refused."""

import copy

import pytest
import torch
from attention import CLOSE, OwnModel, grouped
from bases import FAMILIES, VOCABULARY, adapt, families, gpt2, llama, tokens, without_zeros
from transformers import LlamaConfig, MistralConfig, MistralForCausalLM

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.s2_attention import NAME, disable, enable, is_enabled


@families
def test_disable_restores_the_model_and_both_may_alternate(family):
    base, model, ids = FAMILIES[family]().train(), grouped(family), tokens()
    with_groups = model(ids).logits
    disable(model)
    assert model.config._attn_implementation == base.config._attn_implementation and not is_enabled(model)
    assert [vars(m).keys() for m in model.modules()] == [vars(m).keys() for m in base.modules()]
    assert torch.equal(model(ids).logits, base(ids).logits)
    disable(model)
    enable(model, 8)
    assert torch.equal(model(ids).logits, with_groups)


def test_a_second_enable_is_refused_and_changes_nothing():
    model = grouped("llama", 8)
    before = model(tokens()).logits
    with pytest.raises(HyLoRADAError, match="disable"):
        enable(model, 4)
    assert torch.equal(model(tokens()).logits, before)


def test_two_models_keep_their_own_groups_and_copies_keep_theirs():
    plain, small, large = llama().train(), grouped("llama", 4), grouped("llama", 12)
    results = [m(tokens()).logits for m in (plain, small, large, copy.deepcopy(small))]
    assert torch.equal(results[0], llama()(tokens()).logits)
    assert torch.equal(results[1], results[3])
    assert not torch.allclose(results[1], results[2], atol=1e-2)


def test_a_saved_base_does_not_ask_for_groups(tmp_path):
    model = grouped("llama")
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    loaded = type(model).from_pretrained(tmp_path).train()
    assert torch.equal(loaded(tokens()).logits, llama()(tokens()).logits)


@families
@pytest.mark.parametrize("what", ["left padding", "holes", "packed", "packed and padded", "own mask"])
def test_batches_that_groups_cannot_hold_are_refused_in_training_alone(family, what):
    model, ids = grouped(family, 8), tokens(2, 24)
    mask = torch.ones_like(ids)
    packed = torch.cat([torch.arange(10), torch.arange(14)]).expand(2, -1)
    if what == "left padding":
        mask[0, :3] = 0
        batch = dict(attention_mask=mask)
    elif what == "holes":
        mask[1, 9] = 0
        batch = dict(attention_mask=mask)
    elif what == "packed":
        batch = dict(position_ids=packed)
    elif what == "packed and padded":
        mask[:, -2:] = 0
        batch = dict(position_ids=packed, attention_mask=mask)
    else:
        batch = dict(attention_mask=torch.ones(2, 1, 24, 24, dtype=torch.bool).tril())
    with pytest.raises(HyLoRADAError, match="Pad on the right, or turn S²-Attn off"):
        model(ids, **batch)
    assert torch.equal(model.eval()(ids, **batch).logits, FAMILIES[family]()(ids, **batch).logits)


def test_a_sliding_window_shorter_than_the_row_is_refused_and_a_longer_one_is_not():
    torch.manual_seed(0)
    shape = dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY
    )
    model = MistralForCausalLM(MistralConfig(**shape, num_key_value_heads=2, sliding_window=24)).eval()
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, -9:] = 0
    in_evaluation = model(tokens(2, 30), attention_mask=mask).logits
    enable(model, 8)
    assert torch.equal(model(tokens(2, 30), attention_mask=mask).logits, in_evaluation)
    model.train()
    assert model(tokens(2, 23)).logits.isfinite().all()
    with pytest.raises(HyLoRADAError, match="sliding window"):
        model(tokens(2, 30))


def test_asking_for_attention_weights_in_training_is_refused():
    with pytest.raises(HyLoRADAError, match="output_attentions"):
        grouped("llama", 8)(tokens(), output_attentions=True)


@pytest.mark.parametrize(
    "group_size, sinks, message",
    [
        (7, 0, "group_size=7 .* even"),
        (0, 0, "group_size=0 .* 2 or more"),
        (-4, 0, "group_size=-4 .* 2 or more"),
        (8.0, 0, "group_size=8.0 .* whole number"),
        (True, 0, "group_size=True .* whole number"),
        (8, 8, "sink_tokens=8 .* 0 up to 7"),
        (8, -1, "sink_tokens=-1 .* 0 up to 7"),
        (8, None, "sink_tokens=None .* whole number"),
    ],
)
def test_sizes_that_make_no_groups_are_refused(group_size, sinks, message):
    model = llama()
    with pytest.raises(HyLoRADAError, match=message):
        enable(model, group_size, sinks)
    assert not is_enabled(model) and model.config._attn_implementation == "sdpa"


def test_a_model_that_does_not_ask_the_interface_is_refused():
    model = OwnModel(LlamaConfig())
    with pytest.raises(HyLoRADAError, match="OwnModel is not reached"):
        enable(model, 8)
    assert not is_enabled(model) and model.config._attn_implementation == "sdpa"


def test_attention_of_another_kind_is_refused():
    model = gpt2()
    model.set_attn_implementation("eager")
    with pytest.raises(HyLoRADAError, match="'eager'; load it with attn_implementation='sdpa'"):
        enable(model, 8)
    model.config.output_attentions = True
    with pytest.raises(HyLoRADAError, match="output_attentions=False"):
        enable(model, 8)
    assert not is_enabled(model) and model.config._attn_implementation == "eager"


@families
def test_the_configuration_turns_groups_on_in_training_and_every_way_out_turns_them_off(family, tmp_path):
    ids = tokens(2, 41)
    config = HyLoRADAConfig(
        s2_attn_enabled=True,
        s2_group_size=8,
        s2_sink_tokens=2,
        lora_dropout=0.0,
        position_bias_enabled=False,
        landmark_enabled=False,
    )
    model = without_zeros(adapt(FAMILIES[family](), config))
    full, grouped_logits = model(ids).logits, model.train()(ids).logits
    assert not torch.allclose(grouped_logits[:, 8:], full[:, 8:], atol=1e-2)
    with model.disable_adapter() as base:
        assert not is_enabled(base) and torch.equal(base(ids).logits, FAMILIES[family]().train()(ids).logits)
    assert torch.equal(model(ids).logits, grouped_logits)
    model.save_pretrained(tmp_path / "a")
    loaded = HyLoRADAModel.from_pretrained(FAMILIES[family](), tmp_path / "a").train()
    assert torch.equal(loaded(ids).logits, grouped_logits)
    merged = model.merge_and_unload()
    assert not is_enabled(merged)
    torch.testing.assert_close(merged.eval()(ids).logits, full, **CLOSE)


def test_groups_that_would_never_act_are_refused():
    with pytest.raises(HyLoRADAError, match="holds the whole context of 64 tokens"):
        adapt(llama(), HyLoRADAConfig(s2_attn_enabled=True))
    model = adapt(llama(), HyLoRADAConfig(s2_attn_enabled=True, s2_group_size=16))
    rows = [{"input_ids": row} for row in tokens(2, 16)]
    with pytest.raises(HyLoRADAError, match="no sequence is longer than s2_group_size=16"):
        HyLoRADATrainer(model, TrainingConfig(), rows, progress=False)
    longer = [{"input_ids": row} for row in tokens(2, 40)]
    assert HyLoRADATrainer(model, TrainingConfig(), longer, progress=False).train().history
