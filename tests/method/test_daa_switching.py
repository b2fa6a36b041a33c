"""Direct attention turned on and off: the base comes back as it was, and what cannot hold it is refused."""

import copy

import pytest
import torch
from attention import OwnModel, adapters, batch_of, direct
from bases import FAMILIES, families, gpt2, llama, tokens
from torch import nn
from transformers import LlamaConfig

from hylorada import HyLoRADAError, s2_attention
from hylorada.attention_interface import find_attentions_on_interface
from hylorada.daa import NAME, DirectAttention, disable, enable, is_enabled


@families
@pytest.mark.parametrize("groups", [False, True])
def test_disable_restores_the_model_and_its_implementation_and_both_may_alternate(family, groups):
    base, model, made, batch = FAMILIES[family]().train(), FAMILIES[family]().train(), adapters(), batch_of("right")
    if groups:
        s2_attention.enable(base, 8)
        s2_attention.enable(model, 8)
    enable(model, made)
    adapted = model(**batch).logits
    disable(model)
    assert model.config._attn_implementation == base.config._attn_implementation and not is_enabled(model)
    assert s2_attention.is_enabled(model) == groups
    assert [vars(m).keys() for m in model.modules()] == [vars(m).keys() for m in base.modules()]
    assert torch.equal(model(**batch).logits, base(**batch).logits)
    disable(model)
    enable(model, made)
    assert torch.equal(model(**batch).logits, adapted)


@families
def test_the_base_refers_to_its_adapters_and_does_not_own_them(family):
    (model, made), base = direct(family), FAMILIES[family]()
    assert [n for n, _ in model.named_modules()] == [n for n, _ in base.named_modules()]
    assert list(model.state_dict()) == list(base.state_dict())
    whole = nn.ModuleDict({"base": model, "daa": made})
    assert len(list(whole.parameters())) == len(list(base.parameters())) + 4
    before = model(tokens()).logits
    made[0].load_state_dict(DirectAttention(4).state_dict())
    assert not torch.allclose(model(tokens()).logits, before, atol=1e-2)
    twin = copy.deepcopy(whole)
    assert torch.equal(twin.base(tokens()).logits, model(tokens()).logits)
    nn.init.ones_(twin.daa[1].beta)
    assert not torch.allclose(twin.base(tokens()).logits, model(tokens()).logits, atol=1e-2)


def test_a_saved_base_does_not_ask_for_adapters(tmp_path):
    model, _ = direct("llama")
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded(tokens()).logits, llama()(tokens()).logits)


def test_adapters_follow_the_order_of_the_layers():
    model, made = llama(), adapters()
    enable(model, made)
    attentions = [layer.self_attn for layer in model.model.layers]
    assert find_attentions_on_interface(model, "DAA") == attentions
    assert [attention.direct_attention for attention in attentions] == list(made)


def test_a_second_enable_is_refused_and_changes_nothing():
    model, _ = direct("llama")
    before = model(tokens()).logits
    with pytest.raises(HyLoRADAError, match="call disable"):
        enable(model, adapters())
    assert torch.equal(model(tokens()).logits, before)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(layers=1), "1 DAA adapters do not fit 2 attention layers"),
        (dict(layers=3), "3 DAA adapters do not fit 2 attention layers"),
        (dict(heads=2), "of 2 heads does not fit layer 0, which has 4; make it with num_heads=4"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(given, message):
    model = llama()  # two key-value heads, four heads
    with pytest.raises(HyLoRADAError, match=message):
        enable(model, adapters(**given))
    assert not is_enabled(model) and model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("implementation", ["eager", "flex_attention"])
def test_attention_of_another_kind_is_refused(implementation):
    model = llama()
    model.set_attn_implementation(implementation)
    with pytest.raises(HyLoRADAError, match=f"'{implementation}'; load it with attn_implementation='sdpa'"):
        enable(model, adapters())
    assert not is_enabled(model) and model.config._attn_implementation == implementation


@pytest.mark.parametrize("training", [False, True])
def test_asking_for_attention_weights_is_refused(training):
    model, _ = direct("llama")
    with pytest.raises(HyLoRADAError, match="leave out output_attentions"):
        model.train(training)(tokens(), output_attentions=True)
    other = gpt2()
    other.set_attn_implementation("eager")
    other.config.output_attentions = True
    with pytest.raises(HyLoRADAError, match="output_attentions=False"):
        enable(other, adapters())


def test_a_paged_cache_is_refused():
    with pytest.raises(HyLoRADAError, match="cannot look into a paged cache"):
        direct("llama")[0](tokens(), cache=object())


def test_a_model_that_does_not_ask_the_interface_is_refused():
    model = OwnModel(LlamaConfig())
    with pytest.raises(HyLoRADAError, match="OwnModel is not reached"):
        enable(model, adapters(layers=1, heads=32))
    assert not is_enabled(model) and model.config._attn_implementation == "sdpa"
    del model.attention
    with pytest.raises(HyLoRADAError, match="OwnModel is not reached"):
        find_attentions_on_interface(model, "DAA")


def test_groups_come_before_daa_and_go_after_it():
    model, _ = direct("llama")
    with pytest.raises(HyLoRADAError, match="hylorada_daa"):
        s2_attention.enable(model, 8)
    assert is_enabled(model) and not s2_attention.is_enabled(model)


def test_attention_replaced_while_daa_was_on_is_reported_and_leaves_it_off():
    model, _ = direct("llama")
    model.set_attn_implementation("sdpa")
    with pytest.raises(HyLoRADAError, match="set to 'sdpa' while DAA was on"):
        disable(model)
    assert not is_enabled(model) and torch.equal(model(tokens()).logits, llama()(tokens()).logits)


def test_s2_attention_does_not_go_from_under_daa():
    model = llama()
    s2_attention.enable(model, 8)
    enable(model, adapters())
    before = model(tokens()).logits
    with pytest.raises(HyLoRADAError, match="disable that first"):
        s2_attention.disable(model)
    assert torch.equal(model(tokens()).logits, before)
    disable(model)
    s2_attention.disable(model)
    assert model.config._attn_implementation == "sdpa"
