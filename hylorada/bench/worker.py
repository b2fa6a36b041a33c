"""One code's training steps, scored windows and generations on demand: a process of `against.py`, run as a script.

It stands alone, because the package that it measures is the one PYTHONPATH names, of whatever age: only names that have
long been there are asked for. A line on its input is a request in JSON, a line on its output the answer.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from hylorada.baselines import get_baseline_model
from hylorada.bench.timing import peak_mib
from hylorada.config import HyLoRADAConfig
from hylorada.evaluation import token_nll
from hylorada.loss import causal_lm_loss

PROMPT, NEW_TOKENS = 64, 16
SLIGHTLY = 1e-3  # how far trained tensors are moved from a start at which some products are with zero


class Calls:
    """What can be asked for, by name; models are loaded when they are first asked for."""

    def __init__(
        self, model: str, dtype: str, tokens: int, rank: int, targets: list[str] | None, threads: int, keep: bool
    ) -> None:
        if keep:  # the allocator of the process that asks, which no variable hands on
            from hylorada.allocator import keep_memory

            keep_memory()
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        self.folder, self.dtype, self.tokens = model, getattr(torch, dtype), tokens
        self.vocabulary = AutoConfig.from_pretrained(model, trust_remote_code=False).vocab_size
        targets = None if targets is None else tuple(targets)
        settings = dict(lora_rank=rank, lora_alpha=2.0 * rank, lora_dropout=0.0, lora_target_modules=targets)
        self.config = HyLoRADAConfig(**settings, max_positions=tokens)
        self.made: dict[tuple[str, str, bool], Callable[[], object]] = {}

    def call(self, kind: str, method: str, pieces: bool) -> Callable[[], object]:
        """Return what does one training step, scores one window or generates once. pieces: compiled ones."""
        if (kind, method, pieces) not in self.made:
            self.made[kind, method, pieces] = getattr(self, f"_{kind}")(self._adapted(method, pieces))
        return self.made[kind, method, pieces]

    def _adapted(self, method: str, pieces: bool) -> torch.nn.Module:
        base = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=self.dtype, use_safetensors=True, trust_remote_code=False
        ).eval()
        if pieces:  # asked for by its own code alone: older code has none
            from hylorada.pieces import Pieces

            Pieces().swap_in(base)
        if method == "base":
            return base
        model, generator = get_baseline_model(method, base, self.config), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter.add_(SLIGHTLY * torch.randn(parameter.shape, generator=generator))
        return model

    def _ids(self, length: int) -> torch.Tensor:
        return torch.randint(self.vocabulary, (1, length), generator=torch.Generator().manual_seed(0))

    def _step(self, model: torch.nn.Module) -> Callable[[], object]:
        model.train()
        ids = self._ids(self.tokens)
        optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-5)

        def step() -> None:
            causal_lm_loss(model, ids).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def _window(self, model: torch.nn.Module) -> Callable[[], object]:
        ids = self._ids(self.tokens)[0].tolist()
        return lambda: token_nll(model.eval(), [ids], self.tokens, batch_size=1, progress=False)

    def _generation(self, model: torch.nn.Module) -> Callable[[], object]:
        ids = self._ids(PROMPT)
        asked = dict(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
        return lambda: model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), **asked)


def main() -> None:
    """Answer requests until the input ends: the first holds the settings, each further one names a call."""
    calls = Calls(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        request = json.loads(line)
        call = calls.call(request["kind"], request["method"], request["pieces"])
        if request["peak"]:
            answer = peak_mib(call)
        else:
            start = time.perf_counter()
            call()
            answer = time.perf_counter() - start
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
