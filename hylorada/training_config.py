"""How an adapter is trained: one flat, frozen, checked description (`TrainingConfig`). Needs no torch."""

import math
from dataclasses import dataclass, fields

from hylorada.arguments import named_settings
from hylorada.errors import HyLoRADAError, near
from hylorada.typed import check_kinds, check_size

SCHEDULES = ("cosine", "constant", "linear_from_zero")
PRECISIONS = ("no", "bf16", "fp16")
ELSEWHERE = {"output_dir": "it is an argument of HyLoRADATrainer"}  # where the published programs gave it
ALIASES = {"per_device_batch_size": "batch_size"}  # the published name


@named_settings("training", ELSEWHERE, ALIASES)
@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an adapter is trained; the defaults are the corrected protocol.

    `magnitude_lr` is of the magnitudes and their gates, None: `learning_rate`, as of A and B. `batch_size`, by its
    published name `per_device_batch_size`, counts sequences of one micro-step on one device; `warmup_ratio` is the
    share of all steps with a rising rate, `max_grad_norm=None` does not clip.
    `lr_schedule="linear_from_zero"` warms up from a rate of exactly zero, at which the first step fills the optimiser's
    moments alone, and falls along a line. `mixed_precision="bf16"` and "fp16" are for a float32 base; a base loaded in
    bfloat16 or float16 already computes in it, with float32 masters, under "no". Wherever float16 computes, the loss is
    scaled up before its gradients are taken and these are scaled down (`hylorada.precision`). `checkpoint_every` is in
    steps, None: never. `load_best_model_at_end` acts where there are data for evaluation: the model ends with the
    adapter of the epoch that scored best on them. With `allow_empty_steps` a step whose rows hold no target is passed
    over, and counts; else it is an error.

    Raises:
        HyLoRADAError: a value outside what the field allows; for a name that is no setting, `UnknownSettingError` with
            the nearest ones.
    """

    learning_rate: float = 5e-4  # of all that has no rate of its own below
    position_bias_lr: float = 1e-3
    landmark_lr: float = 5e-4
    embedding_lr: float = 1e-5
    magnitude_lr: float | None = None
    weight_decay: float = 0.01
    lr_schedule: str = "cosine"
    warmup_ratio: float = 0.03
    max_grad_norm: float | None = 1.0
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    num_epochs: int = 1
    seed: int = 0
    mixed_precision: str = "no"  # one of PRECISIONS
    loss_chunk_tokens: int = 512
    checkpoint_every: int | None = None
    load_best_model_at_end: bool = True
    allow_empty_steps: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, allowed in (("lr_schedule", SCHEDULES), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise HyLoRADAError(
                    f"{name}={getattr(self, name)!r} is not known; {near(getattr(self, name), allowed)}"
                )
        rates = ["learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr"]
        for name in rates + ["magnitude_lr"] * (self.magnitude_lr is not None):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise HyLoRADAError(f"{name}={getattr(self, name)} is no learning rate; use a positive number.")
        if not 0 <= self.warmup_ratio < 1 or self.weight_decay < 0:
            raise HyLoRADAError(
                f"warmup_ratio={self.warmup_ratio}, weight_decay={self.weight_decay}: "
                "the first is a share below 1, the second not negative."
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise HyLoRADAError(
                f"max_grad_norm={self.max_grad_norm} stops all learning; use a positive number or None."
            )
        counts = ["batch_size", "gradient_accumulation_steps", "num_epochs", "loss_chunk_tokens"]
        for name in counts + ["checkpoint_every"] * (self.checkpoint_every is not None):
            check_size(name, getattr(self, name))
        if not 0 <= self.seed < 2**63:
            raise HyLoRADAError(f"seed={self.seed} is not allowed; use 0 to {2**63 - 1}.")

    @property
    def per_device_batch_size(self) -> int:
        """The published name of `batch_size`."""
        return self.batch_size


IS_TRAINING_SETTING = dict.fromkeys(
    [each.name for each in fields(TrainingConfig)] + list(ALIASES), "it is a setting of TrainingConfig, given as config"
)
