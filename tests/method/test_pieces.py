"""Compiled pieces of a base: Llama's own formulas, in while an adapter is on, and out without a trace."""

import copy
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bases import adapt, gpt2, llama, qwen2, tokens, without_zeros
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.models.llama import modeling_llama

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, loops, pieces
from hylorada.study.plan.ablation import STAGES
from hylorada.trainer import HyLoRADATrainer, TrainingConfig

ALL_PARTS = STAGES["landmarks"].adapter
CLOSE = dict(rtol=1e-4, atol=1e-4)
OWN_GRAPH = loops._graph


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Formulas run as they are written: what is swapped, and when, needs no compiler."""
    monkeypatch.setattr(loops, "_graph", lambda formula: formula)
    monkeypatch.setattr(loops, "check_compiler", lambda device: "no compiler")


@pytest.fixture
def by_the_compiler(monkeypatch):
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler here")
    monkeypatch.setattr(loops, "_graph", OWN_GRAPH)


compiling = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
)


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype).requires_grad_()


def heads(*states: Tensor) -> list[Tensor]:
    """(batch, seq, heads, d) as attention lays it, (batch, heads, seq, d)."""
    return [state.transpose(1, 2) for state in states]


def formulas(dtype: torch.dtype) -> dict:
    """Each loop, what the model library computes, and what both are given."""
    norm = modeling_llama.LlamaRMSNorm(32, 1e-5).to(dtype)
    nn.init.normal_(norm.weight)
    half = 3 * torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(0))
    angles = torch.cat((half, half), dim=-1)  # (1, seq, d)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    theirs = modeling_llama.apply_rotary_pos_emb
    return {
        "norm": (
            lambda x, weight: loops.rms_norm(x, weight, 1e-5),
            lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, (x,)),
            [drawn(2, 6, 32, dtype=dtype), norm.weight],
        ),
        "gate": (
            loops.silu_gate,
            lambda gate, up: SiLUActivation()(gate) * up,
            [drawn(2, 6, 48, dtype=dtype), drawn(2, 6, 49, dtype=dtype)[..., 1:]],
        ),
        "turn": (
            lambda q, k: torch.cat(loops.turn(*heads(q, k), cos, sin), dim=1),
            lambda q, k: torch.cat(theirs(*heads(q, k), cos, sin), dim=1),
            [drawn(2, 6, 4, 8, dtype=dtype), drawn(2, 6, 2, 8, dtype=dtype)],
        ),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["norm", "gate", "turn"])
def test_a_loop_is_the_formula_of_the_model_and_so_is_its_derivative(name, dtype):
    loop, formula, inputs = formulas(dtype)[name]
    close = CLOSE if dtype == torch.float32 else dict(rtol=2e-2, atol=5e-2)
    found, wanted = loop(*inputs), formula(*inputs)
    torch.testing.assert_close(found, wanted, **close)
    slope = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    mine, theirs = (torch.autograd.grad(output, inputs, slope) for output in (found, wanted))
    for ours, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, expected, **close)


def step(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """The loss of one pass and the gradients of all that trains."""
    model.zero_grad()
    torch.manual_seed(3)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def with_pieces(base: Callable[[], PreTrainedModel], adapter: HyLoRADAConfig) -> HyLoRADAModel:
    """What `bases.adapt` makes, with compiled pieces."""
    fresh = base()
    torch.manual_seed(0)
    return HyLoRADAModel(fresh, adapter, compile_pieces=True).eval()


def swapped(model: nn.Module) -> list[nn.Module]:
    model = model.base_model if isinstance(model, HyLoRADAModel) else model
    return [module for module in model.modules() if "forward" in vars(module)]


@pytest.mark.parametrize(
    "adapter",
    [ALL_PARTS, replace(ALL_PARTS, gradient_checkpointing=True, train_norms=True, daa_enabled=True)],
    ids=["all parts", "checkpointed"],
)
@pytest.mark.parametrize("base", [llama, qwen2])
def test_a_model_trains_with_pieces_as_it_does_without(base, adapter):
    plain = without_zeros(adapt(base(), adapter)).train()
    model = without_zeros(with_pieces(base, adapter)).train()
    assert len(swapped(model)) == 9  # of two blocks two norms, attention and feed-forward, and the last norm
    assert_near(step(model, tokens()), step(plain, tokens()))


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_the_base_is_itself_wherever_the_adapter_is_not():
    ids, other = tokens(), llama()
    base, untouched = llama(), logits(other, tokens())
    model = HyLoRADAModel(base, HyLoRADAConfig(lora_dropout=0.0, landmark_enabled=False), compile_pieces=True).eval()
    assert swapped(base) and not swapped(other)
    assert "forward" not in vars(modeling_llama.LlamaRMSNorm(4))
    with model.disable_adapter() as inside:
        assert not swapped(inside) and torch.equal(logits(inside, ids), untouched)
    assert len(swapped(base)) == 9
    assert torch.equal(logits(other, ids), untouched)
    kept = model.merge_and_unload(keep_dynamic=True)  # the position bias stays, and so do the pieces
    assert kept is model and len(swapped(base)) == 9
    plain = HyLoRADAModel(llama(), replace(ALL_PARTS, position_bias_enabled=False, landmark_enabled=False), True)
    assert not swapped(plain.merge_and_unload())


def test_a_base_that_cannot_be_adapted_gets_its_pieces_back():
    base = llama()
    with pytest.raises(HyLoRADAError, match="would never act"):
        HyLoRADAModel(base, HyLoRADAConfig(s2_attn_enabled=True, s2_group_size=64), compile_pieces=True)
    assert not swapped(base) and "forward" not in vars(base.model.norm)
    with pytest.raises(RuntimeError, match="of the caller"), pieces.compiled(base):
        assert len(swapped(base)) == 9
        raise RuntimeError("of the caller")
    assert not swapped(base)


def test_a_block_that_no_token_reaches_computes_nothing():
    block, none = llama().model.layers[0].mlp, torch.empty(0, 32)
    with pieces.compiled(block):
        assert block(none).shape == (0, 32)


def test_a_forward_of_somebody_else_stays():
    base = llama()
    own = base.model.norm.forward = lambda hidden: 2 * hidden
    with pieces.compiled(base), pieces.compiled(base):
        assert base.model.norm.forward is own and len(swapped(base)) == 9
    assert swapped(base) == [base.model.norm]


def test_a_copy_and_a_pickle_compute_for_themselves():
    ids = tokens()
    model = without_zeros(with_pieces(llama, HyLoRADAConfig(lora_dropout=0.0)))
    wanted = logits(model, ids)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model.base_model.model.layers[0].mlp))):
        for module in other.modules():
            if "forward" in vars(module):
                assert module.forward.__self__ is module
    torch.testing.assert_close(logits(copy.deepcopy(model), ids), wanted)


def test_an_adapter_does_not_tell_of_pieces(tmp_path):
    model = without_zeros(with_pieces(llama, ALL_PARTS))
    without = without_zeros(adapt(llama(), ALL_PARTS))
    for name, each in (("with", model), ("without", without)):
        each.save_pretrained(tmp_path / name)
    for path in (tmp_path / "with").iterdir():
        assert path.read_bytes() == (tmp_path / "without" / path.name).read_bytes()
    again = HyLoRADAModel.from_pretrained(llama(), tmp_path / "with", compile_pieces=True)
    assert len(swapped(again)) == 9


def test_generation_from_a_cache_goes_on_as_without_one():
    model = without_zeros(with_pieces(llama, ALL_PARTS))
    ids = tokens(batch=1, length=9)
    cached, anew = (model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=use) for use in (True, False))
    assert torch.equal(cached, anew)


def test_a_family_without_pieces_runs_as_it_is_and_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(pieces, "_told", set())
    with caplog.at_level(logging.WARNING):
        models = [HyLoRADAModel(gpt2(), ALL_PARTS, compile_pieces=True) for _ in range(2)]
    assert [record.message for record in caplog.records] == [
        "no piece of a GPT2LMHeadModel can be compiled; it runs as it is"
    ]
    assert not swapped(models[0]) and pieces.describe_pieces(gpt2()) is None
    assert pieces.describe_pieces(llama()) == "RMSNorm, SwiGLU, rotary positions by no compiler"


def test_a_piece_is_known_by_its_code_and_not_by_its_name():
    class LlamaRMSNorm(modeling_llama.LlamaRMSNorm):
        def forward(self, hidden_states):
            return self.weight + hidden_states

    base = llama()
    base.model.norm = LlamaRMSNorm(32)
    base.model.layers[0].mlp.act_fn = nn.GELU()
    found = pieces.find_pieces(base)
    assert len(found) == 7 and base.model.norm not in found and base.model.layers[0].mlp not in found


def test_a_graph_around_the_whole_model_holds_the_pieces_as_they_are():
    base, ids = llama(), tokens()
    wanted = logits(base, ids)
    with pieces.compiled(base):
        torch.testing.assert_close(logits(torch.compile(base, backend="eager", fullgraph=True), ids), wanted)
    torch._dynamo.reset()


def test_without_a_compiler_one_line_says_what_to_do(monkeypatch):
    monkeypatch.undo()
    loops.check_compiler.cache_clear()
    base, nowhere = llama(), {"cpp.cxx": (None, "no-such-compiler")}
    wanted = pytest.raises(HyLoRADAError, match="install a C\\+\\+ compiler .* compile: no")
    with torch._inductor.config.patch(nowhere), wanted as error:
        HyLoRADAModel(base, HyLoRADAConfig(), compile_pieces=True)
    assert "\n" not in str(error.value) and not swapped(base)


def train(folder: Path, stop_at: int | None = None) -> dict[str, Tensor]:
    """Train all parts with pieces on rows of three lengths; return what trained."""
    model = with_pieces(llama, replace(ALL_PARTS, lora_dropout=0.1))
    rows = [{"input_ids": tokens(1, length)[0].tolist()} for length in (16, 16, 5, 11)]
    config = TrainingConfig(batch_size=1, num_epochs=2, checkpoint_every=1)

    def stop(row: dict, steps: int) -> None:
        if row["step"] == stop_at:
            raise KeyboardInterrupt

    HyLoRADATrainer(model, config, rows, folder, progress=False, on_step=stop).train()
    return {name: tensor.detach().clone() for name, tensor in model.adapter_tensors().items()}


@compiling
def test_a_resumed_training_ends_with_the_bits_of_one_that_was_not_stopped(tmp_path, by_the_compiler):
    """The process that resumes has compiled nothing yet, and meets the lengths of rows in another order."""
    wanted = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop_at=5)
    torch._dynamo.reset()
    found = train(tmp_path / "stopped")
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@compiling
def test_compiled_pieces_give_each_row_what_it_has_alone_and_train_as_written(by_the_compiler):
    model = without_zeros(with_pieces(llama, ALL_PARTS))
    plain = without_zeros(adapt(llama(), ALL_PARTS))
    assert_near(step(model, tokens(1)), step(plain, tokens(1)))
    x = torch.randn(3, 24, 32)
    weight = torch.randn(32)
    together = loops.rms_norm(x, weight, 1e-6)
    for row, alone in zip(together, x, strict=True):
        assert torch.equal(loops.rms_norm(alone[:7], weight, 1e-6), row[:7])
