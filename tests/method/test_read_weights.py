"""A layer whose weight a model takes instead of calling it: left out and told, or refused by name."""

import logging
import re

import pytest
import torch
from bases import adapt, without_zeros
from family_bases import family_base
from family_measures import ids
from torch import nn
from torch.nn import functional as F

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.read_weights import read_from_outside
from hylorada.targets import find_layers

LEFT = {  # by family: what 'all-linear' takes there, and what it leaves out, as a reader of their code would say
    "mamba": ({"mixer.in_proj"}, "mixer.dt_proj, mixer.out_proj, mixer.x_proj, the weights of which MambaMixer"),
    "mamba2": ({"mixer.in_proj"}, "mixer.out_proj, the weights of which Mamba2Mixer"),
    "rwkv": (
        {"attention.key", "attention.receptance", "attention.value", "feed_forward.key", "feed_forward.receptance"},
        "attention.output, feed_forward.value, the weights of which RwkvModel",
    ),
}


@pytest.mark.parametrize("family", LEFT)
def test_all_linear_leaves_out_what_a_model_multiplies_by_itself(family, caplog):
    """In training, where the fused ways are taken, every trained tensor gets a gradient."""
    taken, told = LEFT[family]
    config = HyLoRADAConfig(lora_rank=2, lora_target_modules="all-linear", max_positions=64)
    with caplog.at_level(logging.WARNING, "hylorada"):
        model = without_zeros(adapt(family_base(family), config)).train()
    assert {".".join(name.split(".")[-2:]) for name in model.wiring.parts.layers} == taken
    (message,) = (record.getMessage() for record in caplog.records if record.name.startswith("hylorada"))
    assert re.fullmatch(f"'all-linear' leaves out {told} takes instead of calling them.", message)
    model(input_ids=ids(), labels=ids()).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.trainable_parameters())
    assert model.eval()(ids()).logits.isfinite().all()


def test_such_a_layer_is_refused_by_name_and_the_advice_names_what_can_be_adapted():
    for names in (("dt_proj",), ("in_proj", "out_proj"), None):
        with pytest.raises(HyLoRADAError) as refusal:
            HyLoRADAModel(family_base("mamba"), HyLoRADAConfig(lora_target_modules=names))
        assert "among in_proj" in str(refusal.value) and "'all-linear'" in str(refusal.value)
    with pytest.raises(HyLoRADAError, match="attention.output' cannot be adapted, because RwkvModel takes its weight"):
        find_layers(family_base("rwkv"), None)


def test_blooms_slow_branch_counts_where_it_is_on():
    assert len(find_layers(family_base("bloom"), None)) == 4
    with pytest.raises(HyLoRADAError, match="dense' cannot be adapted, because BloomAttention takes its weight"):
        find_layers(family_base("bloom", slow_but_exact=True, pretraining_tp=2), None)


class Parent(nn.Module):
    """Every way of reading that a model of transformers has, and none of calling."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("called", "named", "for_its_dtype", "for_its_dtype_in_a_branch", "biased"):
            setattr(self, name, nn.Linear(2, 2))
        self.inner = nn.ModuleDict({"deep": nn.Linear(2, 2)})
        self.listed, self.looped = (nn.ModuleList(nn.Linear(2, 2) for _ in range(2)) for _ in range(2))
        nn.init.zeros_(self.called.weight)

    def forward(self, x: torch.Tensor, branch: bool = False) -> torch.Tensor:
        mine = self.named
        x = F.linear(self.called(x), mine.weight) + self.biased.bias
        for number, layer in enumerate(self.looped):
            x = x @ layer.weight * number
        if branch:
            x = x.to(self.for_its_dtype_in_a_branch.weight.dtype)
        return (x @ self.listed[0].weight @ self.inner.deep.weight).to(self.for_its_dtype.weight.dtype)


def test_reading_is_found_through_names_loops_and_lists_and_not_where_a_layer_is_made():
    parent = Parent()
    names = {module: name for name, module in parent.named_modules()}
    assert {names[layer] for layer in read_from_outside(parent)} == {
        *("named", "biased", "for_its_dtype", "inner.deep", "listed.0", "listed.1", "looped.0", "looped.1")
    }
