"""The published loops, written out in plain torch, against the library: every loss and every weight."""

import math
from dataclasses import replace

import pytest
import torch
from bases import FAMILIES, gpt2
from published_training import AS_PUBLISHED, END, LENGTH, SMALL, rows, stage, train
from torch import nn
from torch.utils.data import default_collate

from hylorada import HyLoRADAModel
from hylorada.lora import HyLoRADAUnified
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.run.follow import published_batches


class PlainLoRA(nn.Module):
    """W x + b + s·B A x and nothing else, around either kind of layer."""

    def __init__(self, layer: nn.Module, A: torch.Tensor, B: torch.Tensor, scaling: float) -> None:
        super().__init__()
        self.layer, self.scaling = layer, scaling
        self.A, self.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.scaling * (x @ self.A.T @ self.B.T)


def plain(base: nn.Module, model: HyLoRADAModel) -> nn.Module:
    """The same adapted model without the library: no hooks, no positions, the loss of transformers."""
    base.requires_grad_(False)
    layers = {name: m for name, m in model.base_model.named_modules() if isinstance(m, HyLoRADAUnified)}
    for name, layer in layers.items():
        inner = base.get_submodule(name)
        base.set_submodule(name, PlainLoRA(inner, layer.lora.A.detach(), layer.lora.B.detach(), layer.lora.scaling))
    return base.train()


def recorded(taken: list[dict]):
    """A collate that notes the batches, so that the re-enactment sees the same rows in the same order."""

    def collate(items: list[dict]) -> dict:
        taken.append(default_collate(items))
        return taken[-1]

    return collate


def padded(row: list[int]) -> tuple[list[int], list[int]]:
    """What the tokenizer of the published loop gave for a line: cut, or filled with end tokens, and the mask."""
    real = row[:LENGTH]
    return real + [END] * (LENGTH - len(real)), [1] * len(real) + [0] * (LENGTH - len(real))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ablation_trains_as_the_published_loop_did(family):
    """AdamW over all parameters at 5e-4, labels are the ids, mask given, no clipping: every loss and every weight."""
    model = stage("rslora", FAMILIES[family](), AS_PUBLISHED, lora_dropout=0.0)
    loop = plain(FAMILIES[family](), model)
    taken: list[dict] = []
    history = train(model, AS_PUBLISHED, collate=recorded(taken))
    optimizer = torch.optim.AdamW(loop.parameters(), lr=5e-4)
    losses = []
    for batch in taken:
        loss = loop(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["input_ids"]
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    assert [row["loss"] for row in history] == pytest.approx(losses, rel=1e-5)
    assert {row["learning_rate"] for row in history} == {5e-4}
    assert {row["targets"] for row in history} == {4 * (LENGTH - 1)}
    seen = sorted(
        (ids.tolist(), mask.tolist())
        for b in taken
        for ids, mask in zip(b["input_ids"], b["attention_mask"], strict=True)
    )
    assert seen == sorted(padded(row) for row in rows())
    for name, layer in loop.named_modules():
        if isinstance(layer, PlainLoRA):
            ours = model.base_model.get_submodule(name).lora
            torch.testing.assert_close(ours.B, layer.B, rtol=1e-3, atol=2e-6)
            torch.testing.assert_close(ours.A, layer.A, rtol=1e-3, atol=2e-6)


def test_the_landmark_study_trains_as_its_published_loop_did():
    """Accumulation, warm-up from zero, a line to zero, clipping, and rows that fill no whole step left out."""
    protocol = replace(
        PROTOCOLS["landmark_study"],
        **SMALL,
        gradient_accumulation_steps=3,
        warmup_ratio=0.3,
        learning_rate=1e-2,
        max_grad_norm=0.1,
    )
    model = stage("rslora", gpt2(), protocol, lora_dropout=0.0)
    loop = plain(gpt2(), model)
    taken: list[dict] = []
    history = train(model, protocol, count=47, collate=recorded(taken))
    steps, warmup = 47 // 2 // 3, 2
    assert len(history) == steps == 7 and len(taken) == steps * 3
    own = [p for p in loop.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else (steps - step) / (steps - warmup)
    )
    for index, batch in enumerate(taken):
        loss = loop(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["input_ids"]
        ).loss
        (loss / 3).backward()
        if index % 3 == 0:
            mean = 0.0
        mean += loss.item() / 3
        if index % 3 == 2:
            row = history[index // 3]
            assert row["loss"] == pytest.approx(mean, rel=1e-5)
            assert row["learning_rate"] == pytest.approx(schedule.get_last_lr()[0])
            norm = nn.utils.clip_grad_norm_(own, 0.1)
            assert norm > 0.1, "else clipping is not tried"
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert history[0]["learning_rate"] == 0 < history[1]["learning_rate"]


def test_500_rows_make_125_steps_and_31():
    for name, steps in (("as_published", 125), ("landmark_study", 31)):
        protocol = replace(PROTOCOLS[name], block_tokens=8)
        batches = published_batches(protocol, rows(500), END)
        assert len(batches) == steps * protocol.batch_size * protocol.gradient_accumulation_steps
