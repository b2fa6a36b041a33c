"""How much a run trains beside what was published: steps of the optimiser, as it was asked for. Needs no torch.

A scale cuts the lines of a published protocol and nothing else of it, so that its steps are the measure of the cut.
"""

from math import ceil, floor

from hylorada.study.plan.protocol import Protocol
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.specification import Specification


def planned_steps(asked: Specification) -> int | None:
    """Return the steps of a run; None where it trains on all its text.

    Rows that a protocol drops because nothing in them is a target are not known before the run: its record has them.
    """
    protocol, training = asked.protocol, asked.training
    if training is None:
        return 0
    if protocol.training_text is not None:
        rows = protocol.training_text.count
    elif asked.train_tokens is None:
        return None
    else:
        rows = asked.train_tokens // asked.block_tokens
    step = training.batch_size * training.gradient_accumulation_steps
    return _steps(rows, step, training.num_epochs, protocol.whole_steps)


def published_steps(protocol: Protocol) -> int | None:
    """Return the steps of the published run itself, None for a protocol that was not published."""
    if protocol.training_text is None:
        return None
    step = protocol.batch_size * protocol.gradient_accumulation_steps
    return _steps(protocol.training_text.count, step, protocol.num_epochs, protocol.whole_steps)


def cut_words(asked: Specification | None) -> str:
    """Say how far a run cuts a published procedure, as "3 of 125 steps"; empty where it goes to its end, or is none."""
    if asked is None:
        return ""
    whole = PROTOCOLS[asked.protocol.name]
    here, published = planned_steps(asked), published_steps(whole)
    rows, of = (of.batch_size * of.gradient_accumulation_steps for of in (asked.training, whole))
    cuts = [f"{here} of {published} steps"] * (here != published) + [f"{rows} of {of} rows a step"] * (rows != of)
    return ", ".join(cuts)


def is_cut_short(asked: Specification) -> bool:
    """Tell whether a run of a published procedure stops before the published last step; others are never cut."""
    here, published = planned_steps(asked), published_steps(PROTOCOLS[asked.protocol.name])
    return published is not None and here < published


def _steps(rows: int, step: int, epochs: int, whole_steps: bool) -> int:
    whole = floor if whole_steps else ceil
    return int(whole(rows / step) * epochs)
