"""Statements about settings and code, held against facts that are data of this project.

What the published programs did is data of `protocols.py`; the defaults of the published configuration class are those
of `HyLoRADAConfig`. What is neither, and was read in the public code (commit b27f597), stands here and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import GPT2Config

from hylorada.config import HyLoRADAConfig
from hylorada.landmark_redesigns import BOUNDARY_TEMPERATURE
from hylorada.landmarks import START_SCALE
from hylorada.methods import METHODS
from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.checks import built
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import CONTRADICTED, MATCH, MISMATCH, Finding
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.stages import STAGES

DEFAULTS = HyLoRADAConfig()
BY_DEFAULT = "by default, as in the published configuration class so in `HyLoRADAConfig`"
ABLATION, LANDMARK_STUDY = PROTOCOLS["as_published"], PROTOCOLS["landmark_study"]
SWITCHES = {"true": True, "enabled": True, "done": True, "false": False, "disabled": False}
READ = "read in the public code, commit b27f597"
SCALARS, TABLE, LAYERS_WITH_GATE = (
    36,
    64,
    0,
)  # of the earlier layer code: a position scalar an adapter, no gate, no blend


@dataclass(frozen=True)
class Fact:
    """words: what the fact is. value: it, or one for each part of a tuple. read: by whom the code was read, see READ.

    here: what the same is as built in this project, where that is another.
    """

    words: str
    value: Any
    read: str = ""
    here: Callable[[], Any] | None = None

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Hold the statement against the fact, word for word and number for number."""
        facts = list(self.value) if isinstance(self.value, list | tuple) else [self.value]
        claimed = [SWITCHES.get(value, value) if isinstance(value, str) else value for value in claim.values]
        source = f" ({self.read})" if self.read else ""
        said = f"{self.words}{source}: {', '.join(map(_plain, facts))}, published {claim.shown}"
        if self.here is not None:
            said += f"; as built here {_plain(self.here())}"
        return Finding(MATCH if facts == claimed else MISMATCH, said)


@dataclass(frozen=True)
class Clash:
    """Another statement, whose value cannot hold together with this one. why: the relation that is broken."""

    why: str
    other: str
    holds: Callable[[Any, Any], bool]

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Compare the two published values."""
        other = evidence.catalogue[self.other]
        together = self.holds(claim.value, other.value)
        said = f"published {claim.shown} here and {other.shown} in {other.id} ({other.quantity}): {self.why}"
        return Finding(MATCH if together else CONTRADICTED, said)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def inside(span: list[float], value: float) -> bool:
    """Whether a value lies in a range."""
    return span[0] <= value <= span[1]


def rate(words: str, field: str) -> Fact:
    """Return the fact that a field of the ablation's protocol is."""
    return Fact(f"{words} behind the published numbers of the ablation", getattr(ABLATION, field))


LINEAR = Fact("spacing of the landmarks' buckets in the published programs", ABLATION.landmark_buckets.spacing)
STUDY_LINEAR = Fact("spacing of the landmarks' buckets in the landmark study", LANDMARK_STUDY.landmark_buckets.spacing)
LANDMARKS_ON = Fact(f"landmarks {BY_DEFAULT}", DEFAULTS.landmark_enabled)
BIAS_NUMBERS = Fact(
    "numbers of the position bias in the earlier layers",
    TABLE + SCALARS,
    READ,
    lambda: built.trained(built.position_bias()),
)
BIAS_SCALARS = Fact(
    "scale weights of the position bias in the earlier layers",
    SCALARS,
    READ,
    lambda: built.trained(built.position_bias(), name="weight"),
)
NO_GATE = Fact("gate of the earlier layer", "none", READ, lambda: built.gate_at_start())
LEARNABLE_LOSS = "an expected gain beside a measured loss"
NO_LONG_TEXT = "the longest row of the published runs is shorter than what the documents call long"


def layer_scalars(name: str, layers: int) -> Fact:
    """Return the fact that the earlier layer had no such scalar, beside those of so many layers built here."""
    return Fact(
        f"{name} in {layers} earlier layer{'s' * (layers > 1)}",
        LAYERS_WITH_GATE,
        READ,
        lambda: built.trained(
            *built.attention_layers(layers, magnitude=True), name="gate" if name == "gates" else "residual"
        ),
    )


FACTS = {
    **dict.fromkeys(("AF-072", "RN-036", "MT-043", "MT-246"), LANDMARKS_ON),
    **dict.fromkeys(("AF-080", "RN-125"), LINEAR),
    "RN-023": STUDY_LINEAR,
    "AF-102": Clash(
        "the first costs more for each percent than the second",
        "AF-093",
        lambda order, least: int(order.split()[0]) <= least,
    ),
    "AF-111": Fact(f"alpha of the published runs, {BY_DEFAULT}", DEFAULTS.lora_alpha),
    "AF-112": Fact(f"dropout of the published runs, {BY_DEFAULT}", DEFAULTS.lora_dropout),
    "AF-113": Fact("magnitude in the stage with the best figure", STAGES["landmarks"].adapter.use_dora_magnitude),
    **dict.fromkeys(("AF-140", "RN-084"), Fact("stages of the ablation", len(STAGES))),
    "AF-141": Fact("the script in the public repository", "in no commit", READ),
    "RN-001": Fact("training lines of the landmark study", LANDMARK_STUDY.training_text.count),
    "RN-002": Fact("epochs of the landmark study", LANDMARK_STUDY.num_epochs),
    "RN-022": Clash("two published gains of the same part fall on its two sides", "AF-052", lambda x, gain: gain >= x),
    "RN-034": Fact(f"landmarks {BY_DEFAULT}", DEFAULTS.num_landmarks),
    "RN-035": Fact(f"buckets {BY_DEFAULT}", DEFAULTS.num_position_buckets),
    "RN-043": Fact("temperature of the boundaries", BOUNDARY_TEMPERATURE),
    **dict.fromkeys(("RN-070", "RN-071", "RN-091"), Clash(LEARNABLE_LOSS, "AF-062", inside)),
    "RN-072": Clash("a total expected and another reported", "AF-051", inside),
    "RN-073": Fact(
        f"width of GPT-2, landmarks, buckets and dropout {BY_DEFAULT}",
        (GPT2Config().n_embd, DEFAULTS.num_landmarks, DEFAULTS.num_position_buckets, DEFAULTS.lora_dropout),
    ),
    "RN-082": Clash(
        "the command names no landmarks and so has 8, which train another number",
        "RN-012",
        lambda _, numbers: numbers == built.trained(built.landmarks(DEFAULTS.num_landmarks)),
    ),
    "RN-083": Fact("the script at this commit", "absent", READ),
    "RN-085": Fact(
        "epochs, training lines and landmarks of the ablation",
        (ABLATION.num_epochs, ABLATION.training_text.count, ABLATION.num_landmarks),
    ),
    "RN-086": Fact("the script at this commit", "absent", READ),
    "RN-132": Clash(NO_LONG_TEXT, "MT-002", lambda _, long: long <= ABLATION.block_tokens),
    "RM-017": Fact("the script at this commit", "cannot be imported", READ),
    "RM-019": Fact("what the program loads", "HumanEval prompts of MultiPL-E, repeated to length", READ),
    "RM-020": Fact("methods of the published table", 6, READ, lambda: len(METHODS)),
    "RM-021": Fact("the argument of this name", "absent", READ),
    "RM-022": Fact("the argument of this name", "absent", READ),
    "MT-003": Fact(f"alpha {BY_DEFAULT}", DEFAULTS.lora_alpha),
    "MT-004": Fact(f"rank {BY_DEFAULT}", DEFAULTS.lora_rank),
    **dict.fromkeys(("MT-010", "MT-122"), NO_GATE),
    "MT-261": NO_GATE,
    "MT-013": Clash(
        "no full fine-tuning was run, and the magnitude is reported as a loss", "AF-032", lambda _, gain: gain >= 0
    ),
    "MT-022": layer_scalars("blend weights", 1),
    **dict.fromkeys(("MT-032", "MT-091"), BIAS_SCALARS),
    **dict.fromkeys(("MT-033", "MT-093", "MT-096", "MT-116"), BIAS_NUMBERS),
    "MT-035": Fact("what the earlier code scales, when positions are passed", "the low-rank update", READ),
    "MT-040": Fact(f"landmarks {BY_DEFAULT}", DEFAULTS.num_landmarks),
    "MT-041": Fact("scale of the landmarks at the start", START_SCALE),
    "MT-050": Fact(f"group size {BY_DEFAULT}", DEFAULTS.s2_group_size),
    **dict.fromkeys(
        ("MT-062", "MT-072", "MT-247"),
        Clash("two thresholds for the same advice", "MT-226", lambda tokens, all_: tokens == all_[2]),
    ),
    "MT-083": layer_scalars("gates", 4),
    "MT-084": layer_scalars("blend weights", 4),
    "MT-111": Fact(
        "scaling of the LoRA baseline", "alpha/r" if not METHODS["lora"].parts["use_rslora"] else "alpha/sqrt(r)"
    ),
    "MT-205": rate("learning rate", "learning_rate"),
    "MT-206": rate("learning rate of the position bias", "position_bias_lr"),
    "MT-207": rate("learning rate of embeddings", "embedding_lr"),
    "MT-208": rate("weight decay", "weight_decay"),
    "MT-209": Fact("warm-up behind the published numbers of the ablation, percent", 100 * ABLATION.warmup_ratio),
    "MT-210": rate("clipping", "max_grad_norm"),
    "MT-211": Fact(
        "precision behind the published numbers of the ablation",
        "all in the type of the base, without masters" if ABLATION.adapter_dtype == "base" else "float32 masters",
    ),
    "MT-212": Fact("checkpointing in the published configuration", True, READ),
    "MT-245": Fact(f"magnitude {BY_DEFAULT}", DEFAULTS.use_dora_magnitude),
}
