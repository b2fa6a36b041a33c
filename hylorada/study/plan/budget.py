"""How much a scale trains beside what was published: steps of the optimiser, as the settings plan them. Needs no torch.

A scale cuts the lines of a published protocol and nothing else of it, so that its steps are the measure of the cut.
"""

from math import ceil, floor

from hylorada.study.plan.protocol import GIVEN, Protocol, fitted
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.settings import Settings


def planned_steps(protocol: Protocol, settings: Settings) -> int | None:
    """Return the steps of a run under `protocol` with the budget of `settings`; None where it takes all its text.

    Rows that a protocol drops because nothing in them is a target are not known before the run: its record has them.
    """
    if protocol.training_text is None:
        if settings.train_tokens is None:
            return None
        rows = settings.train_tokens // settings.block_tokens
    else:
        rows = fitted_to(protocol, settings).training_text.count  # type: ignore[union-attr]
    return _steps(rows, protocol, settings)


def published_steps(protocol: Protocol, settings: Settings) -> int | None:
    """Return the steps of the published run itself, None for a protocol that was not published."""
    return None if protocol.training_text is None else _steps(protocol.training_text.count, protocol, settings)


def fitted_to(protocol: Protocol, settings: Settings) -> Protocol:
    """Return a protocol cut to the budget of a study."""
    return fitted(protocol, settings.train_lines, settings.measures.get("lines"), settings.line_tokens)


def cut_words(settings: Settings, study: str = "as_published") -> str:
    """Say how far a scale cuts a published procedure, as "3 of 125 steps"; empty where it is run to its end or not."""
    if study not in settings.studies:
        return ""
    protocol, own = PROTOCOLS[study], settings.for_study(study)
    here, published = planned_steps(protocol, own), published_steps(protocol, own)
    return "" if here == published else f"{here} of {published} steps"


def _steps(rows: int, protocol: Protocol, settings: Settings) -> int:
    size, passes, epochs = (
        getattr(settings, name) if getattr(protocol, name) == GIVEN else getattr(protocol, name)
        for name in ("batch_size", "gradient_accumulation_steps", "num_epochs")
    )
    whole = floor if protocol.whole_steps else ceil
    return int(whole(rows / (size * passes)) * epochs)
