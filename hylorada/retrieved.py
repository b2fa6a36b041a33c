"""What retrieval gave, place by place, and whether it can be told from chance. Needs no torch.

How it is measured: `hylorada.retrieval`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MEASURABLE, NOT_MEASURABLE = "measurable", "not measurable here"


@dataclass(frozen=True)
class Place:
    """Hits among the questions of one size and place (see `Question`); low, high: Wilson's 95 %; chance: 1/n."""

    size: int
    index: int
    depth: float
    hits: int
    trials: int
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Retrieval:
    """What a model retrieved, place by place. verdict: see `verdict`. tokens_read: by the model, padding aside.

    share: hits over all questions, beside `chance`. A model with a liking for one place, whatever is asked, hits there
    and nowhere else; that is no retrieval, and where all places are asked alike its share stays at chance.
    """

    places: tuple[Place, ...]
    share: float
    chance: float
    verdict: str
    tokens_read: int


def verdict(places: Sequence[Place]) -> str:
    """Say "not measurable here" when the interval holds chance at every place, else "measurable".

    At chance one interval in twenty misses it, so over five places up to a fifth of such models are called measurable:
    `share` belongs beside the word. (Places share their trials, so theirs is no sum of independent ones.)
    """
    at_chance = all(place.low <= place.chance <= place.high for place in places)
    return NOT_MEASURABLE if at_chance else MEASURABLE
