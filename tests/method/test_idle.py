"""What layers keep while tokens are generated one by one: the same bits, and never what has changed since."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from bases import adapt, gpt2, llama, tokens, without_zeros
from torch import Tensor, nn

from hylorada import HyLoRADAConfig, HyLoRADAModel, HyLoRADAUnified, lora
from hylorada.idle import Kept, RunningSequence
from hylorada.methods import METHODS, method_config
from hylorada.norm import adapted_norm
from hylorada.study.plan.ablation import STAGES

ADAPTERS = {name: stage.adapter for name, stage in STAGES.items() if stage.adapter is not None}
ADAPTERS |= {f"method-{name}": method_config(name, HyLoRADAConfig(s2_group_size=8)) for name in METHODS}
ADAPTERS["on-update"] = replace(ADAPTERS["position_bias"], position_bias_on="update")
ALL_PARTS = ADAPTERS["landmarks"]
BASES = {"llama": llama, "gpt2": gpt2}


def adapted(adapter: HyLoRADAConfig = ALL_PARTS, base: str = "llama", dtype=torch.float32) -> HyLoRADAModel:
    return without_zeros(adapt(BASES[base]().to(dtype), adapter))


def holding(model: nn.Module) -> int:
    """How many derived tensors the layers hold."""
    parts = [part for module in model.modules() for part in vars(module).values()]
    parts += [part.kept for part in parts if hasattr(part, "kept")]
    return sum(part._held is not None for part in parts if isinstance(part, Kept))


def generated(model: HyLoRADAModel, ids: Tensor | None = None) -> Tensor:
    """The logits of five tokens generated one by one, (batch, 5, vocabulary)."""
    settings = dict(max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    ids = tokens(2, 9) if ids is None else ids
    out = model.generate(ids, **settings, output_logits=True, return_dict_in_generate=True)
    return torch.stack(out.logits, dim=1)


@torch.no_grad()
def next_logits(model: HyLoRADAModel, cache) -> Tensor:
    """The logits of one more token after what a cache holds, which stays as it is."""
    return model(tokens(2, 1), past_key_values=copy.deepcopy(cache), use_cache=True).logits


def without_keeping(monkeypatch, call: Callable[[], Tensor]) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "get", lambda self, derive, dtype, *sources: derive())
        return call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_kept_changes_no_bit(name, base, dtype, monkeypatch):
    model = adapted(ADAPTERS[name], base, dtype)
    wanted = without_keeping(monkeypatch, lambda: generated(model))
    assert holding(model) == 0
    assert torch.equal(generated(model), wanted)
    half = ADAPTERS[name].lora_enabled and dtype == torch.bfloat16
    assert bool(holding(model)) == (half or ADAPTERS[name].use_dora_magnitude or ADAPTERS[name].position_bias_enabled)


@pytest.mark.parametrize("width", [torch.bfloat16, torch.float16])
def test_under_autocast_the_dtype_of_the_input_decides(width, monkeypatch):
    model = adapted()
    with torch.no_grad():
        cache = model(tokens(2, 9), use_cache=True).past_key_values
    plain = next_logits(model, cache)
    with torch.autocast("cpu", width):
        cast = next_logits(model, cache)
        assert torch.equal(cast, without_keeping(monkeypatch, lambda: next_logits(model, cache)))
    assert torch.equal(next_logits(model, cache), plain) and not torch.equal(cast.float(), plain)


def first_layer(model: HyLoRADAModel) -> HyLoRADAUnified:
    return next(module for module in model.modules() if isinstance(module, HyLoRADAUnified))


def by_optimizer(model: HyLoRADAModel) -> None:
    for parameter in model.trainable_parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(model.trainable_parameters(), lr=0.1).step()


def in_inference_mode(model: HyLoRADAModel) -> None:
    with torch.inference_mode():
        first_layer(model).lora.A.mul_(2)


def through_data_in_training(model: HyLoRADAModel) -> None:
    model.train()
    first_layer(model).lora.A.data.mul_(2)
    model.eval()


def twice_in_place_of_another(model: HyLoRADAModel) -> None:
    """What came first is free again when the second is made, and may lie there."""
    layer = first_layer(model)
    for factor in (3, 2):
        layer.lora.A = nn.Parameter(layer.lora.A.detach() * factor)


def set_data(parameter: Tensor) -> None:
    parameter.data = parameter.data * 2


CHANGES = {
    "in place": lambda m: first_layer(m).lora.A.detach().mul_(2),
    "B": lambda m: first_layer(m).lora.B.detach().mul_(2),
    "magnitude": lambda m: first_layer(m).combine.magnitude.detach().mul_(2),
    "gate": lambda m: first_layer(m).combine.gate.detach().add_(2),
    "blend": lambda m: first_layer(m).combine.residual_weight.detach().add_(2),
    "position bias": lambda m: m.position_bias.bias.detach().add_(2),
    "weight of the position bias": lambda m: m.position_bias.weight.detach().add_(2),
    "another storage": lambda m: set_data(first_layer(m).lora.A),
    "another parameter": twice_in_place_of_another,
    "optimizer": by_optimizer,
    "inference mode": in_inference_mode,
    "state": lambda m: m.load_state_dict({n: p * 1.5 for n, p in m.state_dict().items()}),
    "state assigned": lambda m: m.load_state_dict({n: p * 1.5 for n, p in m.state_dict().items()}, assign=True),
    "adapter": lambda m: m.load_adapter_tensors({n: p * 1.5 for n, p in m.adapter_tensors().items()}, "a test"),
    "base weight": lambda m: first_layer(m).base_layer.weight.detach().mul_(2),
    "base weight in another storage": lambda m: set_data(first_layer(m).base_layer.weight),
    "data in training": through_data_in_training,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_tokens_is_noticed(change, dtype, monkeypatch):
    model = adapted(dtype=dtype)
    with torch.no_grad():
        cache = model(tokens(2, 9), use_cache=True).past_key_values
    before = next_logits(model, cache)
    assert holding(model) and torch.equal(next_logits(model, cache), before)
    CHANGES[change](model)
    after = next_logits(model, cache)
    assert not torch.equal(after, before)
    assert torch.equal(after, without_keeping(monkeypatch, lambda: next_logits(model, cache)))


@pytest.mark.parametrize("of", ["lora.A", "lora.B", "combine.magnitude", "base_layer.weight"])
@pytest.mark.parametrize("prompt", [1, 9])
def test_a_write_through_data_is_seen_by_the_next_sequence(of, prompt, monkeypatch):
    """It leaves no trace, not even in the version of the tensor."""
    model = adapted(dtype=torch.bfloat16)
    before = generated(model, tokens(2, prompt))
    tensor = first_layer(model).get_parameter(of)
    version = tensor._version
    tensor.data.mul_(2)
    assert tensor._version == version
    after = generated(model, tokens(2, prompt))
    assert not torch.equal(after, before)
    assert torch.equal(after, without_keeping(monkeypatch, lambda: generated(model, tokens(2, prompt))))


@torch.no_grad()
def test_several_tokens_derive_anew(monkeypatch):
    """They may follow a cache, as the next turn of a talk does."""
    model = adapted()
    cache = model(tokens(2, 9), use_cache=True).past_key_values
    next_logits(model, cache)
    first_layer(model).base_layer.weight.data.mul_(2)

    def turn() -> Tensor:
        return model(tokens(2, 3), past_key_values=copy.deepcopy(cache), use_cache=True).logits

    assert torch.equal(turn(), without_keeping(monkeypatch, turn))


def test_what_the_prompt_derived_serves_its_tokens(monkeypatch):
    """The norms, which are the dear part, are computed once a layer and sequence."""
    computed = []
    monkeypatch.setattr(lora, "adapted_norm", lambda *given: computed.append(1) or adapted_norm(*given))
    model = adapted()
    layers = sum(isinstance(module, HyLoRADAUnified) for module in model.modules())
    generated(model)
    assert len(computed) == layers
    generated(model)
    assert len(computed) == 2 * layers


def test_weights_that_are_merged_leave_nothing_behind():
    model = adapted(ADAPTERS["magnitude"])
    before = generated(model)
    torch.testing.assert_close(generated(model.merge_and_unload()), before, rtol=1e-3, atol=1e-3)


def test_copies_hold_nothing_and_what_is_kept_is_no_state():
    model = adapted(dtype=torch.bfloat16)
    names = list(model.state_dict())
    wanted = generated(model)
    assert holding(model) and list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    assert holding(twin) == 0 and holding(model)
    twin_layer = pickle.loads(pickle.dumps(first_layer(model).lora))
    assert holding(twin_layer) == 0
    assert torch.equal(generated(twin), wanted) and holding(twin)
    with torch.no_grad():
        first_layer(twin).lora.B.zero_()
    assert torch.equal(generated(model), wanted) and not torch.equal(generated(twin), wanted)


def test_nothing_is_kept_where_gradients_are_in_training_or_outside_a_pass():
    model = adapted(dtype=torch.bfloat16)
    cache = model(tokens(2, 9), use_cache=True).past_key_values
    model(tokens(2, 1), past_key_values=cache, use_cache=True).logits.float().sum().backward()
    with torch.no_grad():
        model.train()(tokens(2, 1), past_key_values=cache, use_cache=True)
        model.eval()
        first_layer(model).lora(torch.ones(1, 1, 32, dtype=torch.bfloat16))
        layer = HyLoRADAUnified(nn.Linear(4, 4), rank=2, magnitude=True).eval()
        layer(torch.ones(1, 1, 4))
    assert holding(model) == holding(layer) == 0


def test_a_compiled_graph_keeps_nothing():
    model = adapted()
    with torch.no_grad():
        cache = model(tokens(2, 9), use_cache=True).past_key_values
    wanted = next_logits(model, cache)
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="eager")
    torch.testing.assert_close(next_logits(compiled, cache), wanted, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()
    assert holding(twin) == 0


def test_tensors_without_a_version_are_derived_from_anew():
    sequence = RunningSequence()
    sequence.begin_pass(goes_on=True, keeps=True)
    kept = Kept(sequence)
    with torch.inference_mode():
        source = torch.ones(2)
        assert kept.get(source.clone, torch.float32, source).tolist() == [1, 1]
        source.mul_(2)
        assert kept.get(source.clone, torch.float32, source).tolist() == [2, 2]
    assert kept._held is None
