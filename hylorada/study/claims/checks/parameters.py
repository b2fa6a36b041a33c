"""Numbers of parameters that statements speak of, by name; counted on what is built, see built.py."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from hylorada.config import HyLoRADAConfig
from hylorada.constants import BLEND_AT_START
from hylorada.study.claims.checks import built
from hylorada.study.claims.checks.built import adapted_counts, attention_layers, feed_forward_layers, trained
from hylorada.study.claims.checks.counts import Quantity
from hylorada.study.plan.ablation import STAGES
from hylorada.study.plan.studies import RECOMMENDED

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


def added(**part: Any) -> Callable[[], int]:
    """Return what counts what a part adds to a Llama with rsLoRA."""
    return lambda: built.added_by(built.small_llama(), RSLORA, **part)


ONE_SCALE = "with one scale weight for the position bias where the published code has 36"
PLAIN = dict(magnitude=True, magnitude_gated=False)
BOTH = "A and B of queries and values, d = 4,096, rank 8"
FOUR = "of queries, keys, values and output, d = 4,096, rank 8"
INNER = "of both feed-forward projections, d = 4,096 and 16,384 within, rank 8"
LOW_RANK = Quantity("A and B of c_attn and both c_proj in 12 layers, rank 8", stage(RSLORA, "lora"))
LANDMARKS = Quantity("landmarks, both gates and the scale, 8 landmarks", lambda: trained(built.landmarks()))
TABLE = Quantity("entries of the position bias", lambda: trained(built.position_bias(), name="bias"))
STUDY_LANDMARKS = built.STUDY_LANDMARKS

PARAMETERS = {
    # GPT-2 124M
    "untouched_base": Quantity(
        "trained numbers of the untouched base", lambda: trained(built.gpt2().requires_grad_(False))
    ),
    "low_rank": LOW_RANK,
    "magnitudes": Quantity("magnitudes of the same 36 layers", stage(DORA, "magnitude")),
    "position_table": TABLE,
    "landmarks": LANDMARKS,
    "addends_of_the_total": Quantity(
        "A and B, landmarks, and entries of the position bias at rank 8",
        lambda: [LOW_RANK.of(), LANDMARKS.of(), TABLE.of()],
    ),
    "rank_of_the_total": Quantity(
        "the rank at which A and B of GPT-2 have the published 811K numbers", rank_of_the_total
    ),
    "recommended_at_rank_16": Quantity(
        f"the recommended configuration at its rank, 16, {ONE_SCALE}",
        stage(replace(RECOMMENDED, lora_rank=16), "trainable"),
    ),
    "whole_stack": Quantity(f"all that was trained for this gain, {ONE_SCALE}", stage(WHOLE)),
    "whole_share": Quantity("trained percent of GPT-2 124M with the whole stack", share(WHOLE)),
    "beside_low_rank": Quantity("all that was trained beside A and B", without_lora),
    "gpt2_attention": Quantity("attention of GPT-2 124M, with magnitudes", stage(DORA, modules=built.BLOCKS[0])),
    "gpt2_feed_forward": Quantity(
        "feed-forward layers of GPT-2 124M, with magnitudes", stage(DORA, modules=built.BLOCKS[1])
    ),
    "gpt2_all_linear": Quantity("all linear layers of GPT-2 124M, with magnitudes", stage(DORA, modules=ALL_MODULES)),
    "gpt2_all_linear_share": Quantity("their percent of GPT-2 124M", share(DORA, ALL_MODULES)),
    "tables_over_one": Quantity(
        "tables of 12 layers over one shared",
        lambda: trained(*(built.position_bias() for _ in range(built.LAYERS))) / trained(built.position_bias()),
    ),
    # landmarks alone
    "learned_boundaries": Quantity(
        "boundaries of 32 learnable buckets", lambda: trained(built.learned_landmarks(), name="boundaries")
    ),
    "fixed_boundaries": Quantity("boundaries of fixed buckets", lambda: trained(built.landmarks(), name="boundaries")),
    "study_landmarks": Quantity("4 position-adaptive landmarks", lambda: trained(built.landmarks(STUDY_LANDMARKS))),
    "landmarks_of_nine_percent": Quantity(
        "the 4 landmarks that the 9 % were measured with", lambda: trained(built.landmarks(STUDY_LANDMARKS))
    ),
    "study_pooled_landmarks": Quantity("4 pooled landmarks", lambda: trained(built.pooled_landmarks(STUDY_LANDMARKS))),
    "study_per_layer_landmarks": Quantity(
        "2 landmarks in each layer", lambda: trained(built.per_layer_landmarks(STUDY_LANDMARKS))
    ),
    "pooled_landmarks_896": Quantity(
        "pooled landmarks, 8 of width 896", lambda: trained(built.pooled_landmarks(8, 896))
    ),
    # single layers of the documents' width
    "attention_low_rank": Quantity(f"A and B {FOUR}", lambda: trained(*attention_layers())),
    "attention_a": Quantity(f"A {FOUR}", lambda: trained(*attention_layers(), name="A")),
    "attention_b": Quantity(f"B {FOUR}", lambda: trained(*attention_layers(), name="B")),
    "attention_magnitudes": Quantity(
        f"magnitudes {FOUR}", lambda: trained(*attention_layers(**PLAIN), name="magnitude")
    ),
    "magnitude_increase": Quantity("magnitudes over A and B, percent", magnitude_increase),
    "magnitude_and_gate": Quantity(
        "magnitude and gate of one projection",
        lambda: sum(trained(*attention_layers(1, magnitude=True), name=name) for name in ("magnitude", "gate")),
    ),
    "queries_and_values": Quantity(BOTH, lambda: trained(*attention_layers(2))),
    "queries_and_values_dora": Quantity(
        f"{BOTH}, and their magnitudes", lambda: trained(*attention_layers(2, **PLAIN))
    ),
    "queries_and_values_lorada": Quantity(
        f"{BOTH}, and two numbers for each of 32 heads",
        lambda: trained(*attention_layers(2), built.direct_attention()),
    ),
    "feed_forward_up": Quantity(
        "A and B of one feed-forward projection, 4,096 to 16,384", lambda: trained(feed_forward_layers()[0])
    ),
    "feed_forward_low_rank": Quantity(f"A and B {INNER}", lambda: trained(*feed_forward_layers())),
    "feed_forward_magnitudes": Quantity(
        f"magnitudes {INNER}", lambda: trained(*feed_forward_layers(**PLAIN), name="magnitude")
    ),
    "feed_forward": Quantity(f"A, B and magnitudes {INNER}", lambda: trained(*feed_forward_layers(**PLAIN))),
    "block_norms": Quantity("two RMS norms at d = 4,096", block_norms),
    "sparse_bottleneck": Quantity(
        "one bottleneck of the default size, d = 4,096", lambda: trained(built.sparse_layer())
    ),
    # of any size
    "s2_attention": Quantity("added by S²-Attn", added(s2_attn_enabled=True, s2_group_size=64)),
    "rope_scaling": Quantity("added by RoPE scaling", added(rope_scaling_type="yarn", rope_scaling_factor=2.0)),
    "blend_at_start": Quantity(
        f"sigmoid of the stored 0.1 (as built here, of what gives {BLEND_AT_START:g})", lambda: sigmoid(0.1)
    ),
    "left_by_the_blend": Quantity("percent left by a sigmoid of the stored 0.1", lambda: 100 * (1 - sigmoid(0.1))),
    "adamw_numbers": Quantity("numbers held for each trained one under AdamW", built.optimiser_numbers),
}
