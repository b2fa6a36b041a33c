"""Training an adapter: `TrainingConfig` says how, `HyLoRADATrainer` does it on accelerate and resumes exactly.

A step is a function of the state before it alone: its data come from (seed, epoch), its dropout from (seed, step), so a
run that was stopped and resumed ends with the same bits as one that was not (on a CPU with one thread).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hylorada import checkpoint
from hylorada.errors import HyLoRADAError, near
from hylorada.files import discard, read_json, write_json, written_beside
from hylorada.loss import IGNORED, causal_lm_loss, real_targets
from hylorada.model import HyLoRADAModel
from hylorada.parts import owners
from hylorada.typed import check_kinds

SCHEDULES = ("cosine", "constant", "linear_from_zero")
PRECISIONS = ("no", "bf16")
STATE_FILE, OPTIMIZER_FILE, ADAPTER_FOLDER = "state.json", "optimizer.pt", "adapter"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an adapter is trained; the defaults are the corrected protocol.

    `batch_size` counts sequences of one micro-step, `warmup_ratio` is the share of all steps with a rising rate,
    `max_grad_norm=None` does not clip. `lr_schedule="linear_from_zero"` warms up from a rate of exactly zero, at which
    the first step fills the optimiser's moments alone, and falls along a line. `mixed_precision="bf16"` is for a
    float32 base; a base loaded in bfloat16 already computes in it, with float32 masters, under "no".
    `checkpoint_every` is in steps, None: never. With `allow_empty_steps` a step whose rows hold no target is passed
    over, and counts; else it is an error.

    Raises:
        HyLoRADAError: a value outside what the field allows.
    """

    learning_rate: float = 5e-4  # of all that has no rate of its own below
    position_bias_lr: float = 1e-3
    landmark_lr: float = 5e-4
    embedding_lr: float = 1e-5
    weight_decay: float = 0.01
    lr_schedule: str = "cosine"
    warmup_ratio: float = 0.03
    max_grad_norm: float | None = 1.0
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    num_epochs: int = 1
    seed: int = 0
    mixed_precision: str = "no"
    loss_chunk_tokens: int = 512
    checkpoint_every: int | None = None
    allow_empty_steps: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, allowed in (("lr_schedule", SCHEDULES), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise HyLoRADAError(
                    f"{name}={getattr(self, name)!r} is not known; {near(getattr(self, name), allowed)}"
                )
        for name in ("learning_rate", "position_bias_lr", "landmark_lr", "embedding_lr"):
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
            if getattr(self, name) < 1:
                raise HyLoRADAError(f"{name}={getattr(self, name)} is too small; use 1 or more.")


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave: a row a step (step, loss in nats per target, learning_rate, targets), and seconds spent."""

    history: list[dict[str, float]]
    seconds: float


class HyLoRADATrainer:
    """Trains the adapter of `model` on `train_dataset`, in place.

    train_dataset: anything with a length and items `{"input_ids": ..., "labels": ... (optional), "attention_mask": ...
    (optional)}`, one sequence each; labels are the ids when not given, -100 is ignored, padding is added here on the
    right and never a target. output_dir: where the state for resuming goes; needed with `checkpoint_every`. on_step:
    called after each step with its row and the number of all steps. collate: makes items the arguments of
    `causal_lm_loss`; `torch.utils.data.default_collate` takes items of one length as they are, so that their labels
    decide alone, padding included.

    Raises:
        HyLoRADAError: no data, no place for checkpoints, a state of other settings, or a loss that is not finite.
    """

    def __init__(
        self,
        model: HyLoRADAModel,
        config: TrainingConfig,
        train_dataset: Sequence[dict[str, Any]],
        output_dir: str | Path | None = None,
        progress: bool = True,
        on_step: Callable[[dict[str, float], int], None] | None = None,
        collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]] | None = None,
    ) -> None:
        if not isinstance(model, HyLoRADAModel):
            raise HyLoRADAError(f"a {type(model).__name__} has no adapter to train; make a HyLoRADAModel of it.")
        if not model.trainable_parameters():
            raise HyLoRADAError("every part of this adapter is frozen; call model.requires_grad_(True).")
        if len(train_dataset) == 0:
            raise HyLoRADAError("train_dataset is empty; give at least one sequence.")
        if "input_ids" not in train_dataset[0]:
            raise HyLoRADAError(f"the items of train_dataset hold {sorted(train_dataset[0])}; each needs 'input_ids'.")
        if config.checkpoint_every is not None and output_dir is None:
            raise HyLoRADAError("checkpoint_every is set and output_dir is not; say where the state shall go.")
        adapter = model.hylorada_config
        if adapter.s2_attn_enabled and max(len(item["input_ids"]) for item in train_dataset) <= adapter.s2_group_size:
            raise HyLoRADAError(
                f"no sequence is longer than s2_group_size={adapter.s2_group_size}, so S²-Attn would never act; "
                "use smaller groups or longer sequences, or set s2_attn_enabled=False."
            )
        self.config, self.dataset, self.progress, self.on_step = config, train_dataset, progress, on_step
        self.collate = pad_right if collate is None else collate
        self.state_folder = None if output_dir is None else Path(output_dir) / "training_state"
        self.accelerator = Accelerator()
        optimizer = torch.optim.AdamW(parameter_groups(model, config), weight_decay=config.weight_decay)
        self.model = model.to(self.accelerator.device)
        self.optimizer = self.accelerator.prepare(optimizer)
        for parameter in model.adapter_tensors().values():
            parameter.data = broadcast(parameter.data)  # all processes start as the first one, whatever their seeds
        sequences = config.batch_size * self.accelerator.num_processes
        if self.accelerator.num_processes > 1 and len(train_dataset) % sequences:
            raise HyLoRADAError(
                f"{len(train_dataset)} sequences do not divide among {self.accelerator.num_processes} processes of "
                f"batch_size={config.batch_size}, and some would count twice; give a multiple of {sequences}."
            )
        self.batches_per_epoch = math.ceil(len(train_dataset) / sequences)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.gradient_accumulation_steps)
        self.total_steps = self.steps_per_epoch * config.num_epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_rate)
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0  # spent before the last checkpoint, however often interrupted

    def train(self, resume: bool = True) -> TrainingResult:
        """Train to the end, from the last saved state when there is one and `resume` is set."""
        if resume and (state := self._last_state()):
            self._load_state(state)
        self.started = time.perf_counter() - self.seconds
        self.model.train()
        devices = [torch.cuda.current_device()] if self.accelerator.device.type == "cuda" else []
        bar = tqdm(
            total=self.total_steps, initial=len(self.history), unit="step", disable=None if self.progress else True
        )
        with bar, torch.random.fork_rng(devices):  # the caller's random state is not ours to move
            for epoch in range(len(self.history) // self.steps_per_epoch, self.config.num_epochs):
                for micro_batches in self._steps(epoch):
                    row = self._step(micro_batches)
                    self.history.append(row)
                    bar.update()
                    bar.set_postfix(loss=f"{row['loss']:.3f}")
                    if self._is_checkpoint():
                        self._save_state()
                    if self.on_step is not None:
                        self.on_step(row, self.total_steps)
        self.model.eval()
        return TrainingResult(self.history, time.perf_counter() - self.started)

    def _steps(self, epoch: int) -> Iterator[list[dict[str, Tensor]]]:
        """Yield the micro-batches of each step of an epoch that is still to be done."""
        order = torch.randperm(len(self.dataset), generator=_generator(self.config.seed, epoch)).tolist()
        loader = DataLoader(self.dataset, self.config.batch_size, sampler=order, collate_fn=self.collate)
        loader = self.accelerator.prepare(loader)
        done = (len(self.history) - epoch * self.steps_per_epoch) * self.config.gradient_accumulation_steps
        batches = iter(self.accelerator.skip_first_batches(loader, done))
        while micro_batches := list(islice(batches, self.config.gradient_accumulation_steps)):
            yield micro_batches

    def _step(self, micro_batches: list[dict[str, Tensor]]) -> dict[str, float]:
        """Take one optimiser step on the mean loss over all targets of its micro-batches."""
        step = len(self.history)
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
        loss = 0.0
        for index, batch in enumerate(micro_batches):
            torch.manual_seed(_mixed(self.config.seed, step, index, self.accelerator.process_index))  # of the dropout
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, self.config.mixed_precision == "bf16"):
                share = causal_lm_loss(
                    self.model, **batch, target_count=targets, chunk_tokens=self.config.loss_chunk_tokens
                )
            self.accelerator.backward(share)
            loss += self.accelerator.reduce(share.detach(), "sum").item()
        self._add_up_gradients()
        if not math.isfinite(loss):
            raise HyLoRADAError(f"the loss became {loss} at step {step + 1}; lower learning_rate, or look at the data.")
        if self.config.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return {"step": step + 1, "loss": loss, "learning_rate": rate, "targets": targets}

    def _add_up_gradients(self) -> None:
        """Sum gradients over processes once a step: adapters are small, and each loss is a share of the whole."""
        if self.accelerator.num_processes > 1:
            for parameter in self.model.trainable_parameters():
                if parameter.grad is not None:  # a part that a protocol keeps out of the pass gets none
                    parameter.grad = self.accelerator.reduce(parameter.grad, "sum")

    def _share_of_rate(self, step: int) -> float:
        if self.config.lr_schedule == "linear_from_zero":
            warmup = math.floor(self.config.warmup_ratio * self.total_steps)
            return step / warmup if step < warmup else (self.total_steps - step) / (self.total_steps - warmup)
        warmup = math.ceil(self.config.warmup_ratio * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)  # never zero: the first step learns too
        if self.config.lr_schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total_steps - warmup)))

    def _is_checkpoint(self) -> bool:
        done, every = len(self.history), self.config.checkpoint_every
        return every is not None and (done % every == 0 or done == self.total_steps)

    def _settings(self) -> dict[str, Any]:
        return {
            "training": asdict(self.config),
            "adapter": self.model.hylorada_config.to_dict(),
            "base": checkpoint.describe_base(self.model.base_model),
            "data": digest(self.dataset),
            "collate": self.collate.__name__,
            "total_steps": self.total_steps,
        }

    def _last_state(self) -> Path | None:
        """Return the newest saved state; each has a folder of its own, so that a good one is never replaced."""
        states = [] if self.state_folder is None else sorted(self.state_folder.glob("step-*"))
        return states[-1] if states else None

    def _save_state(self) -> None:
        if not self.accelerator.is_main_process:
            return
        older = self._last_state()
        with written_beside(self.state_folder / f"step-{len(self.history):08d}") as folder:
            folder.mkdir()
            self.model.save_pretrained(folder / ADAPTER_FOLDER)
            torch.save(
                {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()},
                folder / OPTIMIZER_FILE,
            )
            seconds = time.perf_counter() - self.started
            state = {"settings": self._settings(), "history": self.history, "seconds": seconds}
            write_json(folder / STATE_FILE, state)
        if older is not None:
            discard(older)

    def _load_state(self, folder: Path) -> None:
        state, saved = _read_state(folder)
        if state["settings"] != self._settings():
            raise HyLoRADAError(
                f"{self.state_folder} was left by a run with other settings or data; remove it, or train elsewhere."
            )
        _, _, tensors = checkpoint.read_adapter(folder / ADAPTER_FOLDER)
        self.model.load_adapter_tensors(tensors, folder)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.history, self.seconds = state["history"], state["seconds"]


def _read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a saved state says of the run, and of its optimiser.

    Raises:
        HyLoRADAError: a file is missing or damaged, or does not hold what it should.
    """
    advice = f"remove {folder} to go on from an older state, or from the start"
    try:
        state, file = read_json(folder / STATE_FILE), STATE_FILE
        missing = {"settings", "history", "seconds"} - state.keys()
        if not missing:
            file, saved = OPTIMIZER_FILE, torch.load(folder / OPTIMIZER_FILE, weights_only=True, map_location="cpu")
            missing = {"optimizer", "schedule"} - saved.keys()
    except FileNotFoundError:
        raise HyLoRADAError(f"{folder / OPTIMIZER_FILE} is missing; {advice}.") from None
    except HyLoRADAError as error:
        raise HyLoRADAError(f"{error} Or {advice}.") from error
    except Exception as error:  # what is damaged fails in as many ways as pickles and archives have
        raise HyLoRADAError(f"{folder / OPTIMIZER_FILE} is damaged ({type(error).__name__}); {advice}.") from error
    if missing:
        raise HyLoRADAError(f"{folder / file} lacks {', '.join(sorted(missing))}; {advice}.")
    return state, saved


def parameter_groups(model: HyLoRADAModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return the trained parameters in groups with their own learning rates, by the part that they belong to."""
    rate_of_part = {
        "position_bias": config.position_bias_lr,
        "landmark": config.landmark_lr,
        "embeddings": config.embedding_lr,
    }
    rates = {p: rate_of_part[part] for p, part in owners(model).items() if part in rate_of_part}
    groups: dict[float, list[nn.Parameter]] = {config.learning_rate: []}
    for parameter in dict.fromkeys([*rates, *model.parameters()]):  # last, what has no rate of its own
        if parameter.requires_grad:
            groups.setdefault(rates.get(parameter, config.learning_rate), []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items() if parameters]


def pad_right(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Make one batch of sequences of any length; padding has attention 0 and is neither target nor context of one."""
    longest = max(len(item["input_ids"]) for item in items)
    batch = {name: [] for name in ("input_ids", "attention_mask", "labels")}
    for item in items:
        ids = torch.as_tensor(item["input_ids"])
        mask = torch.as_tensor(item.get("attention_mask", torch.ones_like(ids)))
        labels = real_targets(torch.as_tensor(item.get("labels", ids))[None], mask[None])[0]
        missing = longest - len(ids)
        for name, values, filler in (("input_ids", ids, 0), ("attention_mask", mask, 0), ("labels", labels, IGNORED)):
            batch[name].append(nn.functional.pad(values, (0, missing), value=filler))
    return {name: torch.stack(rows) for name, rows in batch.items()}


def digest(dataset: Sequence[dict[str, Any]]) -> str:
    """Return the SHA-256 of all sequences, in hexadecimal: what a saved state belongs to."""
    seen = sha256()
    for item in dataset:
        for name in ("input_ids", "attention_mask", "labels", "position_ids"):
            values = torch.as_tensor(item[name]).tolist() if name in item else None
            seen.update(f"{name} {values}\n".encode())
    return seen.hexdigest()


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mixed(*numbers))


def _mixed(*numbers: int) -> int:
    """Mix small counters into one seed below 2^32, so that (1, 0) and (0, 1) do not meet."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 0x9E3779B9) % 2**32
    return mixed
