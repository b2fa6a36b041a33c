"""The questions of the benchmark, one function each; a row of a table is a dictionary of plain values.

A time row has `name`, `milliseconds` (median), `ratio` (median and quartiles over rounds) and `against`.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hylorada.bench.against import before
from hylorada.bench.competitors import (
    AS_BASE,
    BASE,
    LONGEST,
    NEW_TOKENS,
    OURS,
    PROMPT,
    THEIRS,
    Setting,
    import_peft_package,
    load_base,
    off_its_start,
    ours,
    random_ids,
    theirs,
    train_step,
)
from hylorada.bench.products import MACHINE, Products, operations, share_of_machine
from hylorada.bench.timing import Seconds, interleaved, peak_mib, ratio
from hylorada.lora import HyLoRADAUnified
from hylorada.loss import causal_lm_loss
from hylorada.norm import adapted_norm
from hylorada.position_bias import AtPosition, PositionBias
from hylorada.positions import PositionIds
from hylorada.s2_attention import grouped_attention

Row = dict[str, Any]
Told = Callable[[int], None]
WIDE = 4096  # inputs and outputs of the wide layer
NORM_SHAPES = ((576, 576, 8), (4096, 1024, 16), (4096, 4096, 8), (1024, 4096, 64))  # d_out, d_in, rank
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
GROUP = 256


def training(setting: Setting, told: Told) -> list[Row]:
    """Time and memory of one training step of each method, ours and PEFT's."""
    models = {OURS[name]: ours(name, setting) for name in OURS} | {
        THEIRS[name]: theirs(name, setting) for name in THEIRS
    }
    models |= {
        AS_BASE.format(THEIRS[name]): theirs(name, setting, float32_masters=False) for name in ("rslora", "dora")
    }
    if setting.compiled:  # one process compiles them all
        torch._dynamo.config.recompile_limit = 16 * len(models)
    steps = {n: train_step(m, random_ids(setting), setting.compiled) for n, m in models.items()}
    memory = {name: peak_mib(step) for name, step in steps.items()}
    counts, products = {name: operations(step) for name, step in steps.items()}, Products(setting)
    seconds = interleaved(steps | {MACHINE: products}, setting.rounds, told)
    return [
        _time_row(seconds, name, _rival(name), OURS["rslora"])
        | {
            "of_machine": share_of_machine(seconds, name, counts[name] / products.operations),
            "trained": sum(p.numel() for p in models[name].parameters() if p.requires_grad),
            "peak_mib": memory[name],
            "memory_ratio": memory[name] / memory[OURS["rslora"]],
        }
        for name in steps
    ]


def wide_layer(setting: Setting, told: Told) -> list[Row]:
    """Forward and backward of one adapted layer of 4,096 by 4,096, the base layer alone for scale."""
    dtype, device = getattr(torch, setting.dtype), setting.device
    torch.manual_seed(0)
    x = torch.randn(1, setting.tokens, WIDE, dtype=dtype, device=device, requires_grad=True)
    settings = dict(rank=setting.rank, alpha=2.0 * setting.rank)
    carrier = PositionIds()
    carrier.set(torch.arange(setting.tokens, device=device)[None])
    at_position = AtPosition(PositionBias(64, setting.tokens).to(device), carrier)

    def layer() -> nn.Linear:
        return nn.Linear(WIDE, WIDE, bias=False, dtype=dtype, device=device).requires_grad_(False)

    layers = {
        BASE: layer(),
        OURS["rslora"]: HyLoRADAUnified(layer(), **settings),
        OURS["dora"]: HyLoRADAUnified(layer(), **settings, magnitude=True, magnitude_gated=False),
        OURS["hylorada"]: HyLoRADAUnified(layer(), **settings, magnitude=True, scale_at_position=at_position),
        THEIRS["rslora"]: _peft_layer(layer(), setting, use_dora=False),
        THEIRS["dora"]: _peft_layer(layer(), setting, use_dora=True),
    }

    def both_ways(module: nn.Module) -> Callable[[], None]:
        def call() -> None:
            module(x).float().square().mean().backward()
            for tensor in (x, *module.parameters()):
                tensor.grad = None

        return call

    calls = {name: both_ways(off_its_start(module)) for name, module in layers.items()}
    memory = {name: peak_mib(call) for name, call in calls.items()}
    seconds = interleaved(calls, 3 * setting.rounds, told)
    against = {name: _rival(name) for name in calls} | {BASE: OURS["rslora"]}
    return [
        _time_row(seconds, name, against[name], OURS["rslora"])
        | {"peak_mib": memory[name], "memory_ratio": memory[name] / memory[OURS["rslora"]]}
        for name in calls
    ]


def norms(setting: Setting, told: Told) -> list[Row]:
    """The norm of W + sBA row by row: expanded, as here, against the matrix built in full."""
    rows = []
    for d_out, d_in, rank in NORM_SHAPES:
        torch.manual_seed(0)
        weight, A, B = torch.randn(d_out, d_in), torch.randn(rank, d_in), torch.randn(d_out, rank)
        weight, A, B = (tensor.to(setting.device) / d_in**0.5 for tensor in (weight, A, B))
        weight = weight.to(getattr(torch, setting.dtype))
        squared = weight.float().square().sum(dim=1)

        def direct(weight: Tensor = weight, A: Tensor = A, B: Tensor = B) -> Tensor:
            return (weight.float() + 2.0 * B @ A).norm(dim=1)

        def expanded(weight: Tensor = weight, squared: Tensor = squared, A: Tensor = A, B: Tensor = B) -> Tensor:
            return adapted_norm(weight, squared, A, B, 2.0)

        calls = {"direct": direct, "expanded": expanded}
        memory = {name: peak_mib(call) for name, call in calls.items()}
        seconds = interleaved(calls, 3 * setting.rounds, told)
        error = ((expanded() - direct()) / direct()).abs().max().item()
        name = f"{d_out} x {d_in}, rank {rank}"
        rows.append(
            {"name": name, "milliseconds": 1e3 * median(seconds["expanded"]), "against": "direct"}
            | {"ratio": ratio(seconds, "expanded", "direct"), "largest_relative_error": error}
            | {"peak_mib": memory["expanded"], "memory_ratio": memory["expanded"] / memory["direct"]}
        )
    return rows


def loss(setting: Setting, told: Told) -> list[Row]:
    """A training step of rsLoRA with the loss in chunks of 128 tokens, against the model's own loss, logits whole."""
    model = ours("rslora", setting).train()
    ids = random_ids(setting, LONGEST * setting.tokens)

    def backward(value: Tensor) -> None:
        value.backward()
        model.zero_grad()

    calls = {
        "logits whole": lambda: backward(model(input_ids=ids, labels=ids).loss),
        "loss in chunks": lambda: backward(causal_lm_loss(model, ids, chunk_tokens=128)),
    }
    memory = {name: peak_mib(call) for name, call in calls.items()}
    seconds = interleaved(calls, setting.rounds, told)
    return [
        _time_row(seconds, name, "logits whole")
        | {"peak_mib": memory[name], "memory_ratio": memory[name] / memory["logits whole"]}
        for name in calls
    ]


@torch.no_grad()
def inference(setting: Setting, told: Told) -> list[Row]:
    """A forward pass without gradients: adapters as they are, and merged, against the base."""
    base = load_base(setting)
    models = {BASE: base} | {OURS[name]: ours(name, setting) for name in ("rslora", "dora", "hylorada")}
    models |= {f"{OURS[name]}, merged": ours(name, setting).merge_and_unload() for name in ("rslora", "dora")}
    kept = ours("hylorada", setting).merge_and_unload(keep_dynamic=True)
    models[f"{OURS['hylorada']}, weights merged"] = kept
    models |= {THEIRS[name]: theirs(name, setting) for name in ("rslora", "dora")}
    ids = random_ids(setting)
    calls = {name: _forward(model.eval(), ids) for name, model in models.items()}
    seconds = interleaved(calls, 3 * setting.rounds, told)
    return [_time_row(seconds, name, BASE) for name in calls]


def generation(setting: Setting, told: Told) -> list[Row]:
    """Sixteen tokens one by one after a prompt of 64, from the cache, against the base."""
    base = load_base(setting)
    models = {BASE: base} | {OURS[name]: ours(name, setting) for name in ("rslora", "dora", "hylorada")}
    models[f"{OURS['dora']}, merged"] = ours("dora", setting).merge_and_unload()
    models |= {THEIRS[name]: theirs(name, setting) for name in ("rslora", "dora")}
    ids = random_ids(setting, PROMPT)
    settings = dict(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, use_cache=True)
    settings |= dict(attention_mask=torch.ones_like(ids), pad_token_id=0)
    calls = {name: partial(model.eval().generate, input_ids=ids, **settings) for name, model in models.items()}
    seconds = interleaved(calls, setting.rounds, told)
    return [_time_row(seconds, name, BASE) for name in calls]


def attention(setting: Setting, told: Told) -> list[Row]:
    """Forward and backward of one layer's attention by length: full, and in groups of 256 as S²-Attn trains."""
    dtype = getattr(torch, setting.dtype)
    rows = []
    for length in LENGTHS:
        torch.manual_seed(0)
        shapes = (9, 3, 3)  # SmolLM2's query heads, key and value heads, of 64 numbers
        states = [torch.randn(1, heads, length, 64, dtype=dtype, device=setting.device) for heads in shapes]
        for state in states:
            state.requires_grad_()

        def full(states: list[Tensor] = states) -> None:
            F.scaled_dot_product_attention(*states, is_causal=True, enable_gqa=True).sum().backward()

        def grouped(states: list[Tensor] = states) -> None:
            grouped_attention(*states, GROUP, shift=GROUP // 2).sum().backward()

        calls = {"full": full, "in groups": grouped}
        memory = {name: peak_mib(call) for name, call in calls.items()}
        seconds = interleaved(calls, 3 if length > 4096 else setting.rounds, told)
        rows += [
            _time_row(seconds, name, "full") | {"name": f"{length:,} tokens, {name}", "peak_mib": memory[name]}
            for name in calls
        ]
    return rows


SECTIONS: dict[str, tuple[str, Callable[[Setting, Told], list[Row]]]] = {
    "training": ("One training step", training),
    "wide_layer": ("One wide layer, forward and backward", wide_layer),
    "norms": ("The norm of the adapted weight", norms),
    "loss": ("The loss over the vocabulary", loss),
    "inference": ("A pass without gradients", inference),
    "generation": ("Cached generation", generation),
    "attention": ("Attention by length", attention),
    "before": ("Beside the code before", before),
}


def _time_row(seconds: Seconds, name: str, against: str, second: str | None = None) -> Row:
    row = {"name": name, "milliseconds": 1e3 * median(seconds[name])}
    row |= {"against": against, "ratio": ratio(seconds, name, against)}
    if second is not None:
        row |= {"second_against": second, "second_ratio": ratio(seconds, name, second)}
    return row


def _rival(name: str) -> str:
    """Return PEFT's method that a method of ours is held to: its own counterpart, rsLoRA where it has none."""
    counterpart = {OURS[method]: THEIRS[method] for method in THEIRS}
    return name if name in THEIRS.values() else counterpart.get(name, THEIRS["rslora"])


def _forward(model: nn.Module, ids: Tensor) -> Callable[[], object]:
    return partial(model, input_ids=ids, use_cache=False)


def _peft_layer(layer: nn.Linear, setting: Setting, use_dora: bool) -> nn.Module:
    peft = import_peft_package()
    config = peft.LoraConfig(
        r=setting.rank,
        lora_alpha=2 * setting.rank,
        lora_dropout=0.0,
        target_modules=["0"],
        use_rslora=True,
        use_dora=use_dora,
    )
    module = peft.inject_adapter_in_model(config, nn.Sequential(layer))
    for parameter in module.parameters():
        if parameter.requires_grad:  # as get_peft_model has it
            parameter.data = parameter.data.float()
    return module
