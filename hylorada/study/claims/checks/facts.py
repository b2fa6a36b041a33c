"""Statements about settings and code, held against facts by name, which are data of this project.

What the published programs did is data of `protocols.py`; the defaults of the published configuration class are those
of `HyLoRADAConfig`. What is neither, and was read in the public code (commit b27f597), stands here and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import GPT2Config

from hylorada.config import HyLoRADAConfig
from hylorada.constants import BOUNDARY_TEMPERATURE, LANDMARK_SCALE
from hylorada.methods import METHODS
from hylorada.study.claims.checks import built
from hylorada.study.claims.claim import Claim
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, Finding
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.protocols import PROTOCOLS

DEFAULTS = HyLoRADAConfig()
BY_DEFAULT = "by default, as in the published configuration class so in `HyLoRADAConfig`"
ABLATION, LANDMARK_STUDY = PROTOCOLS["as_published"], PROTOCOLS["landmark_study"]
SWITCHES = {"true": True, "enabled": True, "done": True, "false": False, "disabled": False}
READ = "read in the public code, commit b27f597"
SCALARS, TABLE = 36, 64  # of the earlier layer code: a position scalar an adapter


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
        told = f"{self.words}{source}: {', '.join(map(_plain, facts))}, published {claim.shown}"
        if self.here is not None:
            told += f"; as built here {_plain(self.here())}"
        return Finding(MATCH if facts == claimed else MISMATCH, told)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def rate(words: str, field: str) -> Fact:
    """Return the fact that a field of the ablation's protocol is."""
    return Fact(f"{words} behind the published numbers of the ablation", getattr(ABLATION, field))


def layer_scalars(name: str, layers: int) -> Fact:
    """Return the fact that the earlier layer had no such scalar, beside those of so many layers built here."""
    return Fact(
        f"{name} in {layers} earlier layer{'s' * (layers > 1)}",
        0,
        READ,
        lambda: built.trained(
            *built.attention_layers(layers, magnitude=True), name="gate" if name == "gates" else "residual"
        ),
    )


FACTS = {
    # defaults of the configuration
    "landmarks_enabled": Fact(f"landmarks {BY_DEFAULT}", DEFAULTS.landmark_enabled),
    "magnitude_enabled": Fact(f"magnitude {BY_DEFAULT}", DEFAULTS.use_dora_magnitude),
    "checkpointing": Fact("checkpointing in the published configuration", True, READ),
    "rank": Fact(f"rank {BY_DEFAULT}", DEFAULTS.lora_rank),
    "alpha": Fact(f"alpha {BY_DEFAULT}", DEFAULTS.lora_alpha),
    "alpha_of_the_runs": Fact(f"alpha of the published runs, {BY_DEFAULT}", DEFAULTS.lora_alpha),
    "dropout_of_the_runs": Fact(f"dropout of the published runs, {BY_DEFAULT}", DEFAULTS.lora_dropout),
    "landmarks": Fact(f"landmarks {BY_DEFAULT}", DEFAULTS.num_landmarks),
    "buckets": Fact(f"buckets {BY_DEFAULT}", DEFAULTS.num_position_buckets),
    "group_size": Fact(f"group size {BY_DEFAULT}", DEFAULTS.s2_group_size),
    "sizes": Fact(
        f"width of GPT-2, landmarks, buckets and dropout {BY_DEFAULT}",
        (GPT2Config().n_embd, DEFAULTS.num_landmarks, DEFAULTS.num_position_buckets, DEFAULTS.lora_dropout),
    ),
    "landmark_scale": Fact("scale of the landmarks at the start", LANDMARK_SCALE),
    "boundary_temperature": Fact("temperature of the boundaries", BOUNDARY_TEMPERATURE),
    "lora_scaling": Fact(
        "scaling of the LoRA baseline", "alpha/r" if not METHODS["lora"].parts["use_rslora"] else "alpha/sqrt(r)"
    ),
    # the ablation and the landmark study
    "stages_of_the_ablation": Fact("stages of the ablation", len(STAGES)),
    "magnitude_in_the_best_stage": Fact(
        "magnitude in the stage with the best figure", STAGES["landmarks"].adapter.use_dora_magnitude
    ),
    "ablation_settings": Fact(
        "epochs, training lines and landmarks of the ablation",
        (ABLATION.num_epochs, ABLATION.training_text.count, ABLATION.num_landmarks),
    ),
    "study_lines": Fact("training lines of the landmark study", LANDMARK_STUDY.training_text.count),
    "study_epochs": Fact("epochs of the landmark study", LANDMARK_STUDY.num_epochs),
    "bucket_spacing": Fact(
        "spacing of the landmarks' buckets in the published programs", ABLATION.landmark_buckets.spacing
    ),
    "study_bucket_spacing": Fact(
        "spacing of the landmarks' buckets in the landmark study", LANDMARK_STUDY.landmark_buckets.spacing
    ),
    "learning_rate": rate("learning rate", "learning_rate"),
    "position_bias_rate": rate("learning rate of the position bias", "position_bias_lr"),
    "embedding_rate": rate("learning rate of embeddings", "embedding_lr"),
    "weight_decay": rate("weight decay", "weight_decay"),
    "warm_up": Fact("warm-up behind the published numbers of the ablation, percent", 100 * ABLATION.warmup_ratio),
    "clipping": rate("clipping", "max_grad_norm"),
    "precision": Fact(
        "precision behind the published numbers of the ablation",
        "all in the type of the base, without masters" if ABLATION.adapter_dtype == "base" else "float32 masters",
    ),
    # layers of the public code
    "gate": Fact("gate of the earlier layer", "none", READ, lambda: built.gate_at_start()),
    "blend_weight": layer_scalars("blend weights", 1),
    "gates_of_four_layers": layer_scalars("gates", 4),
    "blend_weights_of_four_layers": layer_scalars("blend weights", 4),
    "position_scales": Fact(
        "scale weights of the position bias in the earlier layers",
        SCALARS,
        READ,
        lambda: built.trained(built.position_bias(), name="weight"),
    ),
    "position_numbers": Fact(
        "numbers of the position bias in the earlier layers",
        TABLE + SCALARS,
        READ,
        lambda: built.trained(built.position_bias()),
    ),
    "what_positions_scale": Fact(
        "what the earlier code scales, when positions are passed", "the low-rank update", READ
    ),
    # programs of the public code
    "script_in_the_repository": Fact("the script in the public repository", "in no commit", READ),
    "script_at_the_commit": Fact("the script at this commit", "absent", READ),
    "script_import": Fact("the script at this commit", "cannot be imported", READ),
    "code_text": Fact("what the program loads", "HumanEval prompts of MultiPL-E, repeated to length", READ),
    "published_methods": Fact("methods of the published table", 6, READ, lambda: len(METHODS)),
    "named_argument": Fact("the argument of this name", "absent", READ),
}
