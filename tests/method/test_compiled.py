"""An adapted model under torch.compile: one graph, with the outputs and gradients of the model as it is."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from bases import FAMILIES, adapt, tokens, without_zeros
from torch import Tensor, nn

from hylorada import HyLoRADAUnified
from hylorada.position_bias import AtPosition, PositionBias
from hylorada.positions import PositionIds
from hylorada.study.plan.ablation import STAGES

pytestmark = [  # the compiler looks at all it has
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]
ALL_PARTS = STAGES["landmarks"].adapter  # rsLoRA, magnitude, position bias and landmarks
CLOSE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(autouse=True)
def forget_graphs():
    yield
    torch._dynamo.reset()


def step(call, module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of its mean square, of one pass whose dropout begins at the same seed."""
    module.zero_grad()
    torch.manual_seed(3)
    output = call(x)
    output = output if isinstance(output, Tensor) else output.logits
    output.float().square().mean().backward()
    return {"output": output} | {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("family", "adapter"),
    [
        ("llama", replace(ALL_PARTS, landmark_design="per_layer", daa_enabled=True, sparse_enabled=True)),
        ("gpt2", ALL_PARTS),
    ],
)
def test_a_model_compiles_whole_and_trains_as_it_does_uncompiled(family, adapter):
    """With dropout, whose number of dropped numbers is drawn as the graph runs.

    Not S²-Attn, nor DAA on a padded batch: these look at the batch first, and so break the graph in two.
    """
    model = without_zeros(adapt(FAMILIES[family](), replace(adapter, lora_dropout=0.1))).train()
    wanted = step(model, model, tokens())
    found = step(torch.compile(model, backend="aot_eager", fullgraph=True), model, tokens())
    assert found.keys() == wanted.keys()
    for which, tensor in wanted.items():
        torch.testing.assert_close(found[which], tensor, **CLOSE, msg=which)


with_a_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor has no C++ compiler here"
)


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [pytest.param("inductor", torch.float32, marks=with_a_compiler), ("aot_eager", torch.bfloat16)],
)
def test_a_layer_with_all_its_parts_is_one_graph(backend, dtype):
    torch.manual_seed(0)
    positions, bias = PositionIds(), PositionBias(8, 64)
    positions.set(torch.arange(12)[None])
    settings = dict(rank=4, dropout=0.2, magnitude=True, scale_at_position=AtPosition(bias, positions))
    layer = HyLoRADAUnified(nn.Linear(32, 24, dtype=dtype).requires_grad_(False), **settings).train()
    with torch.no_grad():
        for parameter in (layer.lora.B, bias.bias, layer.combine.gate):
            parameter.normal_()
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    for batch in (2,) if backend == "inductor" else (2, 3):  # the second size makes the graph one for any
        x = torch.randn(batch, 12, 32, dtype=dtype)
        wanted, found = step(layer, layer, x), step(compiled, layer, x)
        for which, tensor in wanted.items():
            torch.testing.assert_close(found[which], tensor, **CLOSE, msg=which)


def test_layers_of_one_graph_drop_out_each_for_itself():
    """Two equal layers on one input: a compiler that takes equal calls for one would drop the same numbers in both."""
    layers = nn.ModuleList(HyLoRADAUnified(nn.Linear(64, 64), rank=64, dropout=0.5) for _ in range(2)).train()
    with torch.no_grad():
        for layer in layers:
            layer.lora.A.copy_(torch.eye(64))

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return layers[0].lora(x), layers[1].lora(x)

    first, second = torch.compile(both, backend="aot_eager_decomp_partition", fullgraph=True)(torch.ones(1, 20, 64))
    assert not torch.equal(first == 0, second == 0)
