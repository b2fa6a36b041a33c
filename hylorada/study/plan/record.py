"""What a run leaves: the form of `record.json`, typed, written by `run` and read by all that come after.

Needs no torch, so that reading a record does not either.
"""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json, reading
from hylorada.retrieved import Retrieval
from hylorada.study.plan.specification import Specification
from hylorada.typed import QUIET, plain, read

Numbers = dict[str, int | float | None]  # by the names of `hylorada.metrics.METRICS`; None: no such number on this text


@dataclass(frozen=True, kw_only=True)
class KindOfToken:
    """Tokens of one kind: mean_nll in nats, None of no token; their number, share of all NLL and of all tokens."""

    mean_nll: float | None
    tokens: int
    nll_share: float
    token_share: float


@dataclass(frozen=True, kw_only=True)
class WorstText:
    """One of the texts of the highest perplexity; share: of the sum of all texts' perplexities, 0 to 1."""

    text: int
    share: float
    perplexity: float


@dataclass(frozen=True, kw_only=True)
class Views:
    """What of scored texts is more than a number: by kind of token, the worst texts, perplexity by decile of a text."""

    kinds: dict[str, KindOfToken] = field(default_factory=dict)
    worst: list[WorstText] = field(default_factory=list)
    deciles: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredLines:
    """The measure `lines`: the published evaluation lines beside the main text."""

    results: Numbers
    views: Views


@dataclass(frozen=True, kw_only=True)
class EndToken:
    """The measure `end_token`: probability of the end where a text goes on, and by what factor it raises perplexity.

    quantiles: by their level. perplexity_factor: None where it is infinite.
    """

    mean: float
    quantiles: dict[str, float]
    perplexity_factor: float | None
    texts: int


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """The measure `shifts`: mean NLL (nats) of the same tokens in each of so many parts of the window."""

    parts: int
    nll: list[float]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """The measure `placebo`: the same adapter, each weight moved by chance by `moved` of itself, scored again.

    changes: mean change of NLL (nats a token) of each article. token_sd: spread of the change of a token, in nats.
    """

    moved: float
    changes: list[float]
    token_sd: float


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured beside the main text; None: not asked for."""

    lines: ScoredLines | None = field(default=None, metadata=QUIET)
    end_token: EndToken | None = field(default=None, metadata=QUIET)
    shifts: Shifts | None = field(default=None, metadata=QUIET)
    retrieval: dict[str, Retrieval] | None = field(default=None, metadata=QUIET)  # by kind of question
    placebo: Placebo | None = field(default=None, metadata=QUIET)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """history: a row a step. seconds: of training. padding_share: of padding among the targets, 0 to 1.

    ceiling: by part, the most nats a token that training could take off the test text by it, to first order (see
    `hylorada.study.run.ceiling`); None where it was not asked for.
    """

    history: list[dict[str, float]]
    seconds: float
    padding_share: float = 0.0
    ceiling: dict[str, float] | None = field(default=None, metadata=QUIET)

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return len(self.history)

    @property
    def targets(self) -> int:
        """Tokens that were predicted, over all steps."""
        return int(sum(row["targets"] for row in self.history))


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Of the trained numbers of one kind of part: how many there are, how many left their start, and the farthest."""

    entries: int
    changed: int
    largest: float


@dataclass(frozen=True, kw_only=True)
class MagnitudeQuantiles:
    """Quantiles over the rows of a layer: of m/||W||, which began at 1, and of the row factor c."""

    magnitude: list[float]
    factor: list[float]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Digests (SHA-256) of what went in: the encoded texts, the weights of the base."""

    tokens_digest: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run ran. device: the accelerator's name, or "cpu". threads: of one process. versions: by library.

    allocator: as `hylorada.allocator.in_use` names it; None in records of before it was told. compiled: which pieces of
    the base, and by what compiler; None where nothing was. half_products: what multiplied bfloat16 in place of units of
    its own; None where there were some, or no need (`hylorada.wide_products`).
    """

    versions: dict[str, str]
    processor: str
    cores: int
    system: str
    threads: int
    device: str
    allocator: str | None = field(default=None, metadata=QUIET)
    compiled: str | None = field(default=None, metadata=QUIET)
    half_products: str | None = field(default=None, metadata=QUIET)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The commit of the code, and whether tracked files differed from it; None outside a git checkout."""

    commit: str | None
    changed: bool | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run, done.

    results: of the main text. parameters: counts, by kind of part. learned: the small trained tensors that mean
    something alone, by name. magnitudes: by layer. started, finished: ISO times, UTC. training: None for the untouched
    base. plan: digest of the plan that it is a run of, None where there is none (`hylorada.study.plan.registered`).
    """

    name: str
    identity: str
    specification: Specification
    results: Numbers
    parameters: dict[str, int]
    training: Trained | None
    evaluation_seconds: float
    learned: dict[str, Any]
    data: Data
    machine: Machine
    git: Commit
    started: str
    finished: str
    peak_memory_gib: dict[str, float]
    magnitudes: dict[str, MagnitudeQuantiles] = field(default_factory=dict)
    views: Views = field(default_factory=Views)  # with the next ones younger than the first records
    measures: Measures = field(default_factory=Measures)
    moved: dict[str, Moved] = field(default_factory=dict)
    plan: str | None = field(default=None, metadata=QUIET)
    stores: dict[str, str] | None = field(default=None, metadata=QUIET)

    @classmethod
    def from_json(cls, values: Any) -> "Record":
        """Read what `to_json` gave (HyLoRADAError for anything else)."""
        return read(cls, values, "record")

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return plain(self)

    @property
    def trainable(self) -> int:
        """Trained parameters."""
        return self.parameters["trainable"]

    @property
    def total(self) -> int:
        """Parameters of the base and of what was added to it."""
        return self.parameters["total"]

    @property
    def seconds(self) -> float:
        """What the run took: training and scoring."""
        return self.evaluation_seconds + (self.training.seconds if self.training else 0.0)


def write_record(path: Path, record: Record) -> None:
    """Write a `record.json` with a digest of itself."""
    values = record.to_json()
    write_json(path, values | {DIGEST: _digest(values)})


def read_record(path: Path) -> Record:
    """Read a `record.json`; one that was written before records had digests is held to less.

    Raises:
        HyLoRADAError: it is absent, no JSON, not the record of a run, changed since it was written, or that of another
            run than its folder is named for.
    """
    values = read_json(path)
    digest = values.pop(DIGEST, None) if isinstance(values, dict) else None
    again = "remove its folder and make the run again"
    if digest not in (None, _digest(values)):
        raise HyLoRADAError(f"{path} was changed after it was written; {again}.")
    with reading(path, "record", again):
        try:
            record = Record.from_json(values)
        except HyLoRADAError as error:
            told = str(error).removesuffix(".")
            raise HyLoRADAError(f"{path} is no whole record: {told}; {again}.") from None
    name = Path(path).absolute().parent.name
    if record.name != name:
        raise HyLoRADAError(f"{path} is the record of {record.name}, and its folder is called {name}; {again}.")
    return record


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


DIGEST = "sha256"  # of all else in a `record.json`
