"""One optimiser step of a training: the gradients of its micro-batches, added up over processes, at its rate.

A step is a function of the state before it and of its batches alone: its dropout comes from (seed, step, micro-batch,
process).
"""

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hylorada.batches import mixed
from hylorada.errors import HyLoRADAError
from hylorada.loss import IGNORED, causal_lm_loss
from hylorada.model import HyLoRADAModel
from hylorada.precision import Precision
from hylorada.rates import parameter_groups, share_of_rate
from hylorada.training_config import TrainingConfig


class TrainingStep:
    """What takes the steps of one training: optimiser, schedule of its rates, and precision.

    Raises:
        HyLoRADAError: as `Precision`.
    """

    def __init__(self, model: HyLoRADAModel, config: TrainingConfig, accelerator: Accelerator, total: int) -> None:
        self.model, self.config, self.accelerator, self.total = model, config, accelerator, total
        self.precision = Precision(config.mixed_precision, model.base_model.dtype, accelerator.device)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, config), weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._share_of_rate)

    def take(self, step: int, micro_batches: list[dict[str, Tensor]]) -> dict[str, float]:
        """Take the step numbered `step`, from 0, on the mean loss over all targets; return its row.

        Raises:
            HyLoRADAError: there is no target, and the configuration does not allow it, or the loss is not finite.
        """
        targets = sum((batch["labels"][:, 1:] != IGNORED).sum() for batch in micro_batches)
        targets = self.accelerator.reduce(targets, "sum").item()
        rate = self.schedule.get_last_lr()[0]
        if targets == 0:
            if not self.config.allow_empty_steps:
                raise HyLoRADAError(
                    f"step {step + 1} has no target: every label is {IGNORED} or alone in its sequence."
                )
            self.schedule.step()
            return {"step": step + 1, "loss": 0.0, "learning_rate": rate, "targets": 0}
        is_taken = False
        while not is_taken:
            loss = self.add_gradients(step, micro_batches, targets)
            if not math.isfinite(loss):
                raise HyLoRADAError(
                    f"the loss became {loss} at step {step + 1}; lower learning_rate, or look at the data."
                )
            if self.config.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            is_taken = self.precision.step(self.optimizer)
            self.optimizer.zero_grad()
        self.schedule.step()
        return {"step": step + 1, "loss": loss, "learning_rate": rate, "targets": targets}

    def add_gradients(self, step: int, micro_batches: list[dict[str, Tensor]], targets: int) -> float:
        """Take the gradients of the summed loss of all micro-batches over `targets`, in float32; return that loss."""
        loss = 0.0
        for index, batch in enumerate(micro_batches):
            seeds = self.config.seed, step, index, self.accelerator.process_index
            torch.manual_seed(mixed(*seeds))  # of the dropout
            with self.precision.autocast():
                share = causal_lm_loss(
                    self.model, **batch, target_count=targets, chunk_tokens=self.config.loss_chunk_tokens
                )
            self.precision.backward(share)
            loss += self.accelerator.reduce(share.detach(), "sum").item()
        self._add_up_gradients()
        self.precision.unscale(self.optimizer)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return what `torch.save` holds of it; `load_state_dict` takes it back."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.precision.scaler.load_state_dict(state["scaler"])

    def _add_up_gradients(self) -> None:
        """Sum gradients over processes once a step: adapters are small, and each loss is a share of the whole."""
        if self.accelerator.num_processes > 1:
            for parameter in self.model.trainable_parameters():
                if parameter.grad is not None:  # a part that a protocol keeps out of the pass gets none
                    parameter.grad = self.accelerator.reduce(parameter.grad, "sum")

    def _share_of_rate(self, step: int) -> float:
        return share_of_rate(self.config.lr_schedule, self.config.warmup_ratio, step, self.total)
