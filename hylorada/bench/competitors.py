"""What is measured: a base model with each of our methods, and with PEFT's, built alike and stepped alike."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from hylorada import load
from hylorada.baselines import METHODS, get_baseline_model
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.rope import usable_context
from hylorada.targets import find_layers, shortest_names

BASE = "base"
PROMPT, NEW_TOKENS = 64, 16  # of generation
OURS = {name: f"our {method.label}" for name, method in METHODS.items()}
PEFT = {  # PEFT's methods, by what they add to a plain LoraConfig
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_rslora": True, "use_dora": True},
}
THEIRS = {"lora": "PEFT LoRA", "rslora": "PEFT rsLoRA", "dora": "PEFT DoRA"}
AS_BASE = "{}, adapter as base"  # PEFT told to keep the adapter in the base's dtype, without float32 masters
LONGEST = 4  # times the tokens of a step: what the loss section needs


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all competitors share. model: a folder or hub name. tokens: of one step, in one row. against: older code."""

    model: str
    dtype: str = "bfloat16"
    device: str = "cpu"
    tokens: int = 256
    rounds: int = 7
    rank: int = 8
    targets: tuple[str, ...] | None = None
    compiled: bool = False
    against: str | None = None

    def config(self) -> HyLoRADAConfig:
        """Return the adapter settings that all methods share; groups are an eighth of the row."""
        groups = max(2, self.tokens // 8)
        return HyLoRADAConfig(
            lora_rank=self.rank,
            lora_alpha=2.0 * self.rank,
            lora_dropout=0.0,
            lora_target_modules=self.targets,
            s2_group_size=groups + groups % 2,
            max_positions=self.tokens,
        )


def load_base(setting: Setting) -> PreTrainedModel:
    """Load the base model on its device (HyLoRADAError: there is no such model)."""
    return load.load_base(Path(setting.model), getattr(torch, setting.dtype)).to(setting.device)


def check_context(setting: Setting) -> None:
    """Raise HyLoRADAError unless the model is there and its context holds the longest row that is measured."""
    context, longest = usable_context(load_base(setting).config), max(LONGEST * setting.tokens, PROMPT + NEW_TOKENS)
    if setting.tokens < 2:
        raise HyLoRADAError(f"--tokens {setting.tokens} leaves nothing to predict; use 2 or more.")
    if context is not None and longest > context:
        raise HyLoRADAError(
            f"the benchmark scores rows of {longest} tokens, and {Path(setting.model).name} takes {context}; "
            f"use --tokens {context // LONGEST} or fewer, or another model."
        )


def ours(method: str, setting: Setting) -> nn.Module:
    """Return a base model with one of our methods around it, off its start, as after some training."""
    return off_its_start(get_baseline_model(method, load_base(setting), setting.config()))


def theirs(method: str, setting: Setting, float32_masters: bool = True) -> nn.Module:
    """Return a base model with one of PEFT's methods around it, as PEFT comes or with the adapter in the base's dtype.

    Raises:
        HyLoRADAError: PEFT is not installed.
    """
    peft, base = import_peft_package(), load_base(setting)
    config = peft.LoraConfig(
        r=setting.rank,
        lora_alpha=2 * setting.rank,
        lora_dropout=0.0,
        target_modules=shortest_names(base, find_layers(base, setting.targets)),
        task_type="CAUSAL_LM",
        **PEFT[method],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for a name that is about to go
        return off_its_start(peft.get_peft_model(base, config, autocast_adapter_dtype=float32_masters))


def import_peft_package():
    """Return the module `peft`, or say how to get it."""
    try:
        import peft
    except ImportError as error:
        raise HyLoRADAError("PEFT is what the benchmark measures against; pip install peft.") from error
    return peft


def off_its_start(model: nn.Module) -> nn.Module:
    """Move what trains a little: at its start an adapter has products with zero, and generation would be the base's."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * 1e-3
                parameter.add_(noise.to(parameter.device, parameter.dtype))
    return model


def train_step(model: nn.Module, ids: Tensor, compiled: bool = False) -> Callable[[], None]:
    """Return a call that takes one AdamW step on the loss of ids (batch, seq), the model's own loss."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    forward = torch.compile(model) if compiled else model
    mask = torch.ones_like(ids)

    def step() -> None:
        forward(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def random_ids(setting: Setting, length: int | None = None) -> Tensor:
    """Return ids (1, length or `setting.tokens`) of the model's vocabulary; speed does not ask what they say."""
    vocabulary = AutoConfig.from_pretrained(setting.model, trust_remote_code=False).vocab_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, (1, length or setting.tokens), generator=generator).to(setting.device)
