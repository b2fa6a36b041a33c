"""What holds whatever is typed: a word is taken, or refused on one line; nothing ends in a traceback.

Each property is a function that tries so many examples; the fast tests try few of them, `make soak` many.
"""

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
import yaml
from bases import adapt, llama
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADATrainer, TrainingConfig
from hylorada.cli import main
from hylorada.errors import shown
from hylorada.study.plan.settings import Settings

NUMBERS = st.one_of(
    st.integers(), st.sampled_from([0, -1, 1, 10**12, 10**19, -(10**19)]), st.floats(), st.floats(0, 1), st.booleans()
)
PLAIN = st.one_of(
    NUMBERS, st.none(), st.text(max_size=8), st.sampled_from(["", "all-linear", "q_proj", "float32", "../x"])
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
VERBS = ("fetch", "tokens", "train", "evaluate", "run", "table", "figure", "rates", "page", "compare", "why", "claims")
VERBS += ("export", "bench", "paper", "nope")
OPTIONS = ("--scale", "--set", "--records", "--stage", "--study", "--runs", "--seed", "--jobs", "--model", "--corpus")
OPTIONS += ("--row", "--adapter", "--base", "--reference", "--claims", "--figures", "--tables", "--svd-rank", "--only")
NEVER = ("--out", "--csv", "--json", "--summary", "--data", "--tracker", "--compile")  # write, fetch, or take long
FIELDS = sorted(field.name for field in fields(Settings))
ADAPTER = sorted(field.name for field in fields(HyLoRADAConfig))


def told(arguments: list[str]) -> tuple[int, str]:
    """Do a command in this process; return its exit status and what it said of an error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:  # how argparse refuses, after its usage
            return end.code or 0, "\n".join(err.getvalue().splitlines()[-1:])
    return status, err.getvalue().strip()


def _tried(examples: int) -> Callable:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def settings_are_planned_or_refused(examples: int) -> None:
    """Any value of any setting of a scale: its runs are listed, or one line says what is wrong."""

    @_tried(examples)
    @given(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=2, unique_by=lambda pair: pair[0]))
    def check(pairs: list[tuple[str, Any]]) -> None:
        words = [f"{name}={yaml.safe_dump(value, default_flow_style=True).strip()}" for name, value in pairs]
        status, said = told(["run", "--dry-run", "--scale", "smoke", "--set", *words])
        assert status in (0, 2) and (status == 0 or "\n" not in said), (words, status, said)

    check()


def configurations_are_made_or_refused(examples: int) -> None:
    """Any values of an adapter's configuration: it is made, and comes back from its dictionary, or is refused."""

    @_tried(examples)
    @given(st.dictionaries(st.sampled_from(ADAPTER), VALUES, min_size=1, max_size=3))
    def check(values: dict[str, Any]) -> None:
        try:
            config = HyLoRADAConfig(**values)
        except HyLoRADAError as error:
            assert "\n" not in str(error), values
        else:
            assert HyLoRADAConfig.from_dict(config.to_dict()) == config

    check()


def command_lines_are_done_or_refused(examples: int) -> None:
    """Any words after a verb: what they ask for is done, or one line says what is wrong."""
    word = st.sampled_from(
        ["smoke", "nope", "0", "-1", "1e9", "seeds=[0]", "x=y", "rslora", ".", "/dev/null", "AF-050"]
    )
    option = st.sampled_from(OPTIONS)
    words = st.lists(option | word | st.text("abc=:[]{}-./ '\"\\é\n", max_size=6), max_size=5)

    @_tried(examples)
    @given(st.sampled_from(VERBS), words)
    def check(verb: str, given_words: list[str]) -> None:
        if verb in ("fetch", "tokens", "table", "figure", "page", "claims", "paper", "export", "train", "bench", "run"):
            given_words = [*given_words, *(["--dry-run"] if verb == "run" else ["--no-such-option"])]
        status, said = told([verb, *given_words])
        assert status in (0, 2, 3) and "Traceback" not in said, (verb, given_words, status, said)

    check()


def data_sets_are_trained_on_or_refused(examples: int) -> None:
    """Any rows, with NaN, None and missing columns: a finite loss, or one line that says what is wrong."""
    ids = st.lists(st.integers(0, 200), max_size=6)
    odd = st.one_of(
        st.none(), st.just(math.nan), st.integers(-5, 10**6), st.text(max_size=3), st.lists(PLAIN, max_size=4)
    )
    column = ids | ids.map(torch.tensor) | odd
    names = st.sampled_from(["input_ids", "labels", "attention_mask", "position_ids", "text"])
    row = st.dictionaries(names, column, max_size=4) | st.fixed_dictionaries({"input_ids": ids})

    @_tried(examples)
    @given(st.lists(row | odd, max_size=3))
    def check(rows: list[Any]) -> None:
        try:
            trainer = HyLoRADATrainer(
                adapt(llama(), HyLoRADAConfig(lora_rank=1)), TrainingConfig(), rows, progress=False
            )
            history = trainer.train().history
        except HyLoRADAError as error:
            assert "\n" not in str(error).strip(), shown(rows)
        else:
            assert all(math.isfinite(step["loss"]) for step in history), shown(rows)

    check()


PROPERTIES = {
    "settings": settings_are_planned_or_refused,
    "configurations": configurations_are_made_or_refused,
    "command lines": command_lines_are_done_or_refused,
    "data sets": data_sets_are_trained_on_or_refused,
}
