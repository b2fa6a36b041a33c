"""Training an adapter: `HyLoRADATrainer` does it on accelerate, scores it after each epoch, and resumes exactly.

A step is a function of the state before it alone: its data come from (seed, epoch), its dropout from (seed, step), so a
run that was stopped and resumed ends with the same bits as one that was not (on a CPU with one thread).
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, send_to_device
from torch import Tensor
from tqdm.auto import tqdm

from hylorada import checkpoint
from hylorada.arguments import checked
from hylorada.batches import Collate, pad_right
from hylorada.errors import HyLoRADAError
from hylorada.files import check_output
from hylorada.loss import IGNORED, causal_lm_nll, real_targets
from hylorada.model import HyLoRADAModel
from hylorada.packing import check_keeps_apart, is_packed
from hylorada.rates import parameter_groups
from hylorada.rows import NAMES
from hylorada.scoring import evaluating
from hylorada.states import check_some_train
from hylorada.training_config import IS_TRAINING_SETTING, TrainingConfig
from hylorada.training_data import batches_of
from hylorada.training_state import TrainingState, load_state, save_state
from hylorada.training_step import TrainingStep
from hylorada.wide_products import wide_products

__all__ = ["HyLoRADATrainer", "TrainingConfig", "TrainingResult", "pad_right", "parameter_groups"]
LOG = logging.getLogger(__name__)
BEST_FOLDER, STATE_FOLDER = "best_adapter", "training_state"
SHOWN = ("loss", "eval_loss", "eval_perplexity")  # on the bar


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave: a row a step (step, loss in nats per target, learning_rate, targets), and seconds spent.

    Where there are data for evaluation, the row of an epoch's last step also has epoch, eval_loss and eval_perplexity.
    """

    history: list[dict[str, float]]
    seconds: float

    @property
    def evaluations(self) -> list[dict[str, float]]:
        """The rows of the steps after which the adapter was evaluated."""
        return [row for row in self.history if "eval_loss" in row]


class HyLoRADATrainer:
    """Trains the adapter of `model`, in place.

    train_dataset, eval_dataset: anything with a length and items by number, each one sequence `{"input_ids": ...,
    "labels": ... (optional), "attention_mask": ..., "position_ids": ...}`; labels are the ids when not given, -100 is
    ignored, padding is added here on the right and never a target. Position ids that begin anew within an item mark
    texts that do not see each other. train_dataloader, eval_dataloader: in their place, a DataLoader or other iterable
    that knows its length, whose batches hold the same, (batch, seq), and are taken as they come: the loader decides
    their size and order. collate: makes items of a data set the arguments of `causal_lm_loss`;
    `torch.utils.data.default_collate` takes items of one length as they are, so that their labels decide alone, padding
    included.

    With data for evaluation each epoch ends with their mean loss in nats per target and its perplexity, without mixed
    precision, on the bar, in the epoch's last row and so in what `on_step` gets. The best adapter by that loss is kept
    in `output_dir`, if given, as an adapter folder `best_adapter`, and at the end the model holds it, unless the
    configuration says `load_best_model_at_end=False`.

    output_dir: where the best adapter and the state for resuming go; needed with `checkpoint_every`. on_step: called
    after each step with its row and the number of all steps.

    Raises:
        HyLoRADAError: no data, data that the model cannot take, no place for checkpoints, a state of other settings, or
            a loss that is not finite.
    """

    @checked(elsewhere=IS_TRAINING_SETTING)
    def __init__(
        self,
        model: HyLoRADAModel,
        config: TrainingConfig | None = None,
        train_dataset: Sequence[dict[str, Any]] | None = None,
        output_dir: str | Path | None = None,
        progress: bool = True,
        on_step: Callable[[dict[str, float], int], None] | None = None,
        collate: Collate | None = None,
        *,
        train_dataloader: Iterable[dict[str, Tensor]] | None = None,
        eval_dataset: Sequence[dict[str, Any]] | None = None,
        eval_dataloader: Iterable[dict[str, Tensor]] | None = None,
    ) -> None:
        if not isinstance(model, HyLoRADAModel):
            raise HyLoRADAError(f"a {type(model).__name__} has no adapter to train; make a HyLoRADAModel of it.")
        config = TrainingConfig() if config is None else config
        if not isinstance(config, TrainingConfig):
            raise HyLoRADAError(f"config is a {type(config).__name__}; make it with TrainingConfig(...).")
        check_some_train(model.trainable_parameters())
        if config.checkpoint_every is not None and output_dir is None:
            raise HyLoRADAError("checkpoint_every is set and output_dir is not; say where the state shall go.")
        if output_dir is not None:
            check_output(Path(output_dir), folder=True)
        self.config, self.progress, self.on_step = config, progress, on_step
        self.collate = pad_right if collate is None else collate
        self.keeps_apart = False  # packed texts: not asked yet
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.accelerator = Accelerator()
        self.model = model
        sources = partial(batches_of, model, config, self.collate, self.accelerator)
        self.train_batches = sources("train", train_dataset, train_dataloader)
        if self.train_batches is None:
            raise HyLoRADAError("there is nothing to train on; give train_dataset or train_dataloader.")
        self.eval_batches = sources("eval", eval_dataset, eval_dataloader)
        model.to(self.accelerator.device)
        for parameter in model.adapter_tensors().values():
            parameter.data = broadcast(parameter.data)  # all processes start as the first one, whatever their seeds
        self.steps_per_epoch = math.ceil(len(self.train_batches) / config.gradient_accumulation_steps)
        self.total_steps = self.steps_per_epoch * config.num_epochs
        self.step = TrainingStep(model, config, self.accelerator, self.total_steps)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.seconds = 0.0  # spent before the last checkpoint, however often interrupted

    @checked()
    def train(self, resume: bool = True) -> TrainingResult:
        """Train to the end, from the last saved state when there is one and `resume` is set.

        Raises:
            HyLoRADAError: as the class says, or the adapter was taken out or frozen since.
        """
        check_some_train(self.model.trainable_parameters())
        if resume and self.output_dir is not None:
            self._load_state()
        self.started = time.perf_counter() - self.seconds
        self.model.train()
        devices = [torch.cuda.current_device()] if self.accelerator.device.type == "cuda" else []
        bar = tqdm(
            total=self.total_steps, initial=len(self.history), unit="step", disable=None if self.progress else True
        )
        with bar, wide_products(), torch.random.fork_rng(devices):  # the caller's random state is not ours to move
            for epoch in range(len(self.history) // self.steps_per_epoch, self.config.num_epochs):
                for micro_batches in self._steps(epoch):
                    row = self.step.take(len(self.history), micro_batches)
                    if self.eval_batches is not None and row["step"] % self.steps_per_epoch == 0:
                        row |= {"epoch": epoch + 1} | self._evaluate()
                        self._keep_if_best(row)
                    self.history.append(row)
                    bar.update()
                    bar.set_postfix({name: f"{row[name]:.3f}" for name in SHOWN if name in row})
                    if self._is_checkpoint():
                        self._save_state()
                    if self.on_step is not None:
                        self.on_step(row, self.total_steps)
        self.model.eval()
        self._tell_card(self.history)
        if self.best is not None and self.config.load_best_model_at_end:
            self.model.load_adapter_tensors(self.best, "the best adapter")
        return TrainingResult(self.history, time.perf_counter() - self.started)

    def _steps(self, epoch: int) -> Iterator[list[dict[str, Tensor]]]:
        """Yield the micro-batches of each step of an epoch that is still to be done."""
        done = (len(self.history) - epoch * self.steps_per_epoch) * self.config.gradient_accumulation_steps
        batches = map(self._ready, self.train_batches.epoch(epoch, done))
        while micro_batches := list(islice(batches, self.config.gradient_accumulation_steps)):
            yield micro_batches

    def _ready(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a batch holds for the loss, where the model is, labels always among it.

        Before the first one of packed texts, the model is asked whether it keeps them apart.
        """
        batch = {name: batch[name] for name in NAMES if batch.get(name) is not None}
        if "labels" not in batch:  # a collate function of the caller's own may leave them out
            ids = batch["input_ids"]
            batch["labels"] = real_targets(ids, batch.get("attention_mask", torch.ones_like(ids)))
        if is_packed(batch) and not self.keeps_apart:
            check_keeps_apart(self.model)
            self.keeps_apart = True
        return send_to_device(batch, self.accelerator.device)

    def _evaluate(self) -> dict[str, float]:
        """Return the mean loss over all targets of the data for evaluation, and its perplexity."""
        total, targets = 0.0, 0
        with evaluating(self.model), torch.no_grad():
            for batch in map(self._ready, self.eval_batches.epoch(0)):
                nll = causal_lm_nll(self.model, **batch, chunk_tokens=self.config.loss_chunk_tokens, fp32_logits=True)
                total += nll.sum().item()
                targets += (batch["labels"][:, 1:] != IGNORED).sum().item()
        total, targets = (sum(each) for each in zip(*gather_object([(total, targets)]), strict=True))
        if targets == 0 or not math.isfinite(total):
            raise HyLoRADAError(f"the loss on the data for evaluation is {total} over {targets} targets; no mean.")
        loss = total / targets
        perplexity = math.exp(loss) if loss < 700 else math.inf  # beyond what a float can hold
        LOG.info("after step %d: eval_loss %.4f, eval_perplexity %.3f", len(self.history) + 1, loss, perplexity)
        return {"eval_loss": loss, "eval_perplexity": perplexity}

    def _keep_if_best(self, row: dict[str, float]) -> None:
        """Keep the adapter if it scored better than after any epoch before; the first of equals stays."""
        if any(before.get("eval_loss", math.inf) <= row["eval_loss"] for before in self.history):
            return
        self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.adapter_tensors().items()}
        if self.output_dir is not None and self.accelerator.is_main_process:
            self._tell_card([*self.history, row])
            self.model.save_pretrained(self.output_dir / BEST_FOLDER)

    def _tell_card(self, rows: list[dict[str, float]]) -> None:
        """Say on the adapter's card how it was trained, and how well the one that is kept scored."""
        card, taken = self.model.card, {"steps": len(rows), "loss": rows[-1]["loss"]}
        card.training = asdict(self.config) | taken
        if scored := [row for row in rows if "eval_loss" in row]:
            best = min(scored, key=lambda row: row["eval_loss"])
            kept = best if self.config.load_best_model_at_end else scored[-1]
            card.metrics = card.metrics | {name: kept[name] for name in ("eval_loss", "eval_perplexity")}

    def _is_checkpoint(self) -> bool:
        done, every = len(self.history), self.config.checkpoint_every
        return every is not None and (done % every == 0 or done == self.total_steps)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """What a saved state belongs to; the data are digested here, once."""
        return {
            "training": asdict(self.config),
            "adapter": self.model.hylorada_config.to_dict(),
            "base": checkpoint.describe_base(self.model.base_model),
            "data": self.train_batches.digest,
            "evaluation_data": None if self.eval_batches is None else self.eval_batches.digest,
            "collate": getattr(self.collate, "__name__", type(self.collate).__name__),
            "total_steps": self.total_steps,
        }

    def _save_state(self) -> None:
        if not self.accelerator.is_main_process:
            return
        generators = self.train_batches.generator_states(len(self.history) % self.steps_per_epoch > 0)
        machinery = self.step.state_dict() | {"generators": generators}
        state = TrainingState(self.history, time.perf_counter() - self.started, machinery, self.best)
        save_state(self.output_dir / STATE_FOLDER, self._settings, self.model, state)

    def _load_state(self) -> None:
        folder = self.output_dir / STATE_FOLDER
        if not folder.is_dir() or (state := load_state(folder, self._settings, self.model)) is None:
            return
        self.step.load_state_dict(state.machinery)
        self.train_batches.go_on_from(state.machinery["generators"])
        self.history, self.seconds, self.best = state.history, state.seconds, state.best
