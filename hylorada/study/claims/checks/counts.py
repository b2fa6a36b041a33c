"""Statements about numbers that can be counted on what is built, see built.py."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from torch import nn

from hylorada.config import HyLoRADAConfig
from hylorada.lora import BLEND_AT_START
from hylorada.study.claims.catalogue import Claim
from hylorada.study.claims.checks import built
from hylorada.study.claims.checks.arithmetic import part_of
from hylorada.study.claims.checks.built import adapted_counts, attention_layers, feed_forward_layers, trained
from hylorada.study.claims.evidence import Evidence
from hylorada.study.claims.verdict import MATCH, MISMATCH, Finding
from hylorada.study.plan.stages import STAGES
from hylorada.study.plan.studies import RECOMMENDED

Number = int | float
RANGE_ROOM = 0.01  # relative: the ends of a range are round numbers


@dataclass(frozen=True)
class Counted:
    """words: what was counted. of: a number, or one for each part of a tuple; a range has to hold it.

    at_most: the statement is an upper bound. wanted: what a statement in words comes to, at most that if `at_most`.
    """

    words: str
    of: Callable[[], Number | list[Number]]
    at_most: bool = False
    wanted: Number | None = None

    def find(self, claim: Claim, evidence: Evidence) -> Finding:
        """Count, and hold the statement against the count at its published digits."""
        found = _count(self.of)
        counts = found if isinstance(found, list) else [found]
        parts = [part_of(claim, k) for k in range(len(claim.values))]
        if self.wanted is not None:
            fits = counts[0] <= self.wanted if self.at_most else counts == [self.wanted]
        elif self.at_most:
            fits = counts[0] <= claim.number
        elif len(parts) > len(counts):
            fits = _inside(counts[0], parts)
        else:
            fits = all(abs(c - p.number) <= p.digit / 2 for c, p in zip(counts, parts, strict=True))
        shown = ", ".join(f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" for value in counts)
        taken = f", and at most {self.wanted:g} is taken for it" if self.at_most and self.wanted is not None else ""
        return Finding(MATCH if fits else MISMATCH, f"counted, {self.words}: {shown}, published {claim.shown}{taken}")


@cache
def _count(of: Callable[[], Number | list[Number]]) -> Number | list[Number]:
    return of()


def _inside(count: Number, ends: list[Claim]) -> bool:
    low, high = (end.number for end in ends)
    return (1 - RANGE_ROOM) * low <= count <= (1 + RANGE_ROOM) * high


RSLORA = STAGES["rslora"].adapter
DORA = replace(STAGES["magnitude"].adapter, magnitude_gated=False)  # the published layer had no gate and no blend
WHOLE = replace(STAGES["landmarks"].adapter, magnitude_gated=False)
ALL_MODULES = built.BLOCKS[0] + built.BLOCKS[1]


def stage(
    config: HyLoRADAConfig, part: str = "trainable", modules: tuple[str, ...] = built.MODULES
) -> Callable[[], int]:
    """Return what counts a part of GPT-2 124M adapted so."""
    return lambda: adapted_counts(config, modules)[part]


def share(config: HyLoRADAConfig, modules: tuple[str, ...] = built.MODULES) -> Callable[[], float]:
    """Return what counts the trained share of GPT-2 124M, percent."""
    return lambda: 100 * adapted_counts(config, modules)["trainable"] / built.base_parameters()


def without_lora() -> int:
    """Count what the whole stack trains beside the low-rank update."""
    counts = adapted_counts(WHOLE)
    return counts["trainable"] - counts["lora"]


def rank_of_the_total() -> int:
    """Return the rank at which GPT-2 124M trains the published 811K low-rank numbers."""
    ranks = (rank for rank in (2, 4, 8, 16, 32, 64))
    return next(r for r in ranks if round(adapted_counts(replace(RSLORA, lora_rank=r))["lora"], -3) == 811_000)


def sigmoid(value: float) -> float:
    """Return the logistic function."""
    return 1 / (1 + math.exp(-value))


def block_norms() -> int:
    """Count two RMS norms of the documents' width."""
    return trained(*(nn.RMSNorm(built.BLOCK_WIDTH) for _ in range(2)))


def magnitude_increase() -> float:
    """Return what magnitudes add to the low-rank update of one attention layer, percent."""
    layers = attention_layers(magnitude=True, magnitude_gated=False)
    return 100 * trained(*layers, name="magnitude") / (trained(*layers, name="A") + trained(*layers, name="B"))


def table_growth() -> int:
    """Count how many more numbers the position bias has at 32,768 positions than at 512."""
    return trained(built.position_bias(positions=32_768)) - trained(built.position_bias(positions=512))


def added_by_attention_and_rope() -> dict[str, int]:
    """Count what S²-Attn and RoPE scaling add to a Llama with rsLoRA."""
    rope = dict(rope_scaling_type="yarn", rope_scaling_factor=2.0)
    parts = {"s2": dict(s2_attn_enabled=True, s2_group_size=64), "rope": rope}
    return {name: built.added_by(built.small_llama(), RSLORA, **part) for name, part in parts.items()}


ONE_SCALE = "with one scale weight for the position bias where the published code has 36"
PLAIN = dict(magnitude=True, magnitude_gated=False)
BOTH = "A and B of queries and values, d = 4,096, rank 8"
FOUR = "of queries, keys, values and output, d = 4,096, rank 8"
INNER = "of both feed-forward projections, d = 4,096 and 16,384 within, rank 8"
LOW_RANK = Counted("A and B of c_attn and both c_proj in 12 layers, rank 8", stage(RSLORA, "lora"))
MAGNITUDES = Counted("magnitudes of the same 36 layers", stage(DORA, "magnitude"))
TABLE = Counted("entries of the position bias", lambda: trained(built.position_bias(), name="bias"))
LANDMARKS = Counted("landmarks, both gates and the scale, 8 landmarks", lambda: trained(built.landmarks()))
BOUNDARIES = Counted(
    "boundaries of 32 learnable buckets", lambda: trained(built.learned_landmarks(), name="boundaries")
)
NO_BOUNDARIES = Counted("boundaries of fixed buckets", lambda: trained(built.landmarks(), name="boundaries"))
WHOLE_SHARE = Counted("trained percent of GPT-2 124M with the whole stack", share(WHOLE))
LORA_TWO = Counted(BOTH, lambda: trained(*attention_layers(2)))
DORA_TWO = Counted(f"{BOTH}, and their magnitudes", lambda: trained(*attention_layers(2, **PLAIN)))
LORADA_TWO = Counted(
    f"{BOTH}, and two numbers for each of 32 heads", lambda: trained(*attention_layers(2), built.direct_attention())
)
POOLED_896 = Counted("pooled landmarks, 8 of width 896", lambda: trained(built.pooled_landmarks(8, 896)))
RECOMMENDED_16 = Counted(
    f"the recommended configuration at its rank, 16, {ONE_SCALE}",
    stage(replace(RECOMMENDED, lora_rank=16), "trainable"),
)
ADAMW = Counted("numbers held for each trained one under AdamW", built.optimiser_numbers)

COUNTS: dict[str, Any] = {
    "AF-011": Counted("trained numbers of the untouched base", lambda: trained(built.gpt2().requires_grad_(False))),
    **dict.fromkeys(("AF-022", "RN-101"), LOW_RANK),
    **dict.fromkeys(("AF-033", "AF-077", "AF-097", "AF-123", "RN-104"), MAGNITUDES),
    **dict.fromkeys(("AF-043", "AF-075", "AF-094", "RN-107", "MT-030", "MT-031", "MT-090", "MT-260"), TABLE),
    **dict.fromkeys(("AF-053", "AF-091", "RN-110"), LANDMARKS),
    **dict.fromkeys(("AF-063", "AF-079", "AF-100", "RN-113", "RN-042"), BOUNDARIES),
    **dict.fromkeys(("RN-040", "RN-053"), NO_BOUNDARIES),
    "AF-110": Counted("the rank at which A and B of GPT-2 have the published 811K numbers", rank_of_the_total),
    **dict.fromkeys(("AF-117", "RN-127"), RECOMMENDED_16),
    "AF-118": Counted(
        "A and B, landmarks, and entries of the position bias at rank 8",
        lambda: [LOW_RANK.of(), LANDMARKS.of(), TABLE.of()],
    ),
    "AF-122": Counted(
        f"all that was trained for this gain, {ONE_SCALE}",
        stage(WHOLE),
    ),
    "RN-012": Counted("4 position-adaptive landmarks", lambda: trained(built.landmarks(built.STUDY_LANDMARKS))),
    "RN-016": Counted("4 pooled landmarks", lambda: trained(built.pooled_landmarks(built.STUDY_LANDMARKS))),
    "RN-020": Counted("2 landmarks in each layer", lambda: trained(built.per_layer_landmarks(built.STUDY_LANDMARKS))),
    "RN-033": Counted(
        "the 4 landmarks that the 9 % were measured with", lambda: trained(built.landmarks(built.STUDY_LANDMARKS))
    ),
    "RN-121": Counted("all that was trained beside A and B", without_lora),
    **dict.fromkeys(("MT-001", "MT-164", "MT-167"), WHOLE_SHARE),
    "MT-006": Counted(f"A and B {FOUR}", lambda: trained(*attention_layers())),
    "MT-011": Counted(
        "magnitude and gate of one projection",
        lambda: sum(trained(*attention_layers(1, magnitude=True), name=name) for name in ("magnitude", "gate")),
    ),
    "MT-012": Counted(f"magnitudes {FOUR}", lambda: trained(*attention_layers(**PLAIN), name="magnitude")),
    "MT-020": Counted(
        f"sigmoid of the stored 0.1 (as built here, of what gives {BLEND_AT_START:g})", lambda: sigmoid(0.1)
    ),
    "MT-021": Counted("percent left by a sigmoid of the stored 0.1", lambda: 100 * (1 - sigmoid(0.1))),
    "MT-042": POOLED_896,
    "MT-056": Counted("added by S²-Attn", lambda: added_by_attention_and_rope()["s2"]),
    "MT-064": Counted("added by RoPE scaling", lambda: added_by_attention_and_rope()["rope"]),
    "MT-071": Counted("two RMS norms at d = 4,096", block_norms),
    "MT-080": Counted(f"A {FOUR}", lambda: trained(*attention_layers(), name="A")),
    "MT-081": Counted(f"B {FOUR}", lambda: trained(*attention_layers(), name="B")),
    "MT-082": Counted(f"magnitudes {FOUR}", lambda: trained(*attention_layers(**PLAIN), name="magnitude")),
    "MT-086": Counted(
        "A and B of one feed-forward projection, 4,096 to 16,384", lambda: trained(feed_forward_layers()[0])
    ),
    "MT-087": Counted(f"A and B {INNER}", lambda: trained(*feed_forward_layers())),
    "MT-088": Counted(f"magnitudes {INNER}", lambda: trained(*feed_forward_layers(**PLAIN), name="magnitude")),
    "MT-089": Counted(f"A, B and magnitudes {INNER}", lambda: trained(*feed_forward_layers(**PLAIN))),
    "MT-092": POOLED_896,
    "MT-094": Counted("attention of GPT-2 124M, with magnitudes", stage(DORA, modules=built.BLOCKS[0])),
    "MT-095": Counted("feed-forward layers of GPT-2 124M, with magnitudes", stage(DORA, modules=built.BLOCKS[1])),
    "MT-097": Counted("all linear layers of GPT-2 124M, with magnitudes", stage(DORA, modules=ALL_MODULES)),
    "MT-098": Counted("their percent of GPT-2 124M", share(DORA, ALL_MODULES)),
    **dict.fromkeys(("MT-110", "MT-235", "MT-236", "MT-239"), LORA_TWO),
    **dict.fromkeys(("MT-112", "MT-237"), DORA_TWO),
    **dict.fromkeys(("MT-113", "MT-238"), LORADA_TWO),
    "MT-114": Counted("one bottleneck of the default size, d = 4,096", lambda: trained(built.sparse_layer())),
    "MT-125": Counted(
        "tables of 12 layers over one shared",
        lambda: trained(*(built.position_bias() for _ in range(built.LAYERS))) / trained(built.position_bias()),
    ),
    **dict.fromkeys(("MT-165", "MT-166"), ADAMW),
    "MT-190": Counted("magnitudes over A and B, percent", magnitude_increase),
}
