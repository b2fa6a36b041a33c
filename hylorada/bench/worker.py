"""One code's training steps, scored windows and generations on demand: a process of `against.py`, run as a script.

It stands alone, because the package that it measures is the one PYTHONPATH names, of whatever age: only names that have
long been there are asked for. A line on its input is a request in JSON, a line on its output the answer.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch

from hylorada.bench.competitors import BASE, NEW_TOKENS, PROMPT, Setting, load_base, ours, random_ids
from hylorada.bench.timing import peak_mib
from hylorada.evaluation import token_nll
from hylorada.loss import causal_lm_loss


class Calls:
    """What can be asked for, by name; models are loaded when they are first asked for."""

    def __init__(self, threads: int, keep: bool, wide: bool, **setting: object) -> None:
        if keep:  # the allocator of the process that asks, which no variable hands on
            from hylorada.allocator import keep_memory

            keep_memory()
        self.held = ExitStack()
        if wide:  # what the trainer does; older code has none
            from hylorada.wide_products import wide_products

            self.held.enter_context(wide_products())
        torch.set_num_threads(threads)
        self.setting = Setting(**setting)
        self.made: dict[tuple[str, str, bool], Callable[[], object]] = {}

    def call(self, kind: str, method: str, pieces: bool) -> Callable[[], object]:
        """Return what does one training step, scores one window or generates once. pieces: compiled ones."""
        if (kind, method, pieces) not in self.made:
            self.made[kind, method, pieces] = getattr(self, f"_{kind}")(self._model(method, pieces))
        return self.made[kind, method, pieces]

    def _model(self, method: str, pieces: bool) -> torch.nn.Module:
        model = load_base(self.setting) if method == BASE else ours(method, self.setting)
        if pieces:  # asked for by its own code alone: older code has none
            from hylorada.pieces import Pieces

            Pieces().swap_in(model if method == BASE else model.base_model)
        return model

    def _step(self, model: torch.nn.Module) -> Callable[[], object]:
        model.train()
        ids = random_ids(self.setting)
        optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-5)

        def step() -> None:
            causal_lm_loss(model, ids).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def _window(self, model: torch.nn.Module) -> Callable[[], object]:
        ids = random_ids(self.setting)[0].tolist()
        return lambda: token_nll(model.eval(), [ids], self.setting.tokens, batch_size=1, progress=False)

    def _generation(self, model: torch.nn.Module) -> Callable[[], object]:
        ids = random_ids(self.setting, PROMPT)
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
