"""Every table as rows of data: what it asks, what its rows train, and what else a row changes.

A row is an adapter and those settings of the scale that it replaces; all else is the scale's. Rows of one name are one
row wherever they stand, and share their runs where a scale gives both studies the same budget.
"""

from collections.abc import Sequence
from dataclasses import replace

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near
from hylorada.methods import METHODS, method_config
from hylorada.study.plan.ablation import ABLATION, DORA, LANDMARKS, RSLORA, STAGES, UNTOUCHED, method_row, stage_row
from hylorada.study.plan.published import LANDMARKS_ALONE, PUBLISHED_STUDIES
from hylorada.study.plan.rows import BITS_PER_BYTE, Row, Study
from hylorada.study.plan.sweeps import CONSTANT, SWEEPS
from hylorada.study.plan.tuned import TUNED_STUDIES
from hylorada.study.sources.registry import MODELS, folder_name

PUBLISHED_POSITIONS = 32_768  # over which the published code spread its buckets, whatever the length in use


FULL = replace(LANDMARKS, landmark_design="position_adaptive")


def _module_rows(sets: dict[str, tuple[str, list[str]]]) -> dict[str, Row]:
    """Return a row for each set of layers; the first is what the others are held against."""
    first = next(iter(sets))
    return {
        name: Row(
            label=label,
            series=label,
            adapter=RSLORA,
            changes={"target_modules": layers},
            against=None if name == first else first,
        )
        for name, (label, layers) in sets.items()
    }


def _rows_by_length(lengths: Sequence[int], arms: dict[str, tuple[str, HyLoRADAConfig]]) -> dict[str, Row]:
    """Return a row for each arm at each length of blocks and windows, held against rsLoRA at that length."""
    return {
        f"{name}_at_{length}": Row(
            label=f"{label}, {length:,} tokens",
            series=label,
            x=length,
            adapter=adapter,
            changes={"block_tokens": length, "evaluation_stride": length},
            against=None if name == "rslora" else f"rslora_at_{length}",
        )
        for length in lengths
        for name, (label, adapter) in arms.items()
    }


def rows_by_base(bases: Sequence[str]) -> dict[str, Row]:
    """Return the rows of the study of bases: each base untouched, with rsLoRA and with the whole stack."""
    rows = {}
    for base in bases:
        short = folder_name(base, MODELS)
        for name, label in (("base", "untouched"), ("rslora", "rsLoRA"), ("landmarks", "whole stack")):
            against = {"base": None, "rslora": f"base_{short}", "landmarks": f"rslora_{short}"}[name]
            rows[f"{name}_{short}"] = Row(
                label=f"{short}, {label}",
                series=STAGES[name].label,
                adapter=STAGES[name].adapter,
                changes={"base": base},
                against=against,
                arm=name,
            )
    return rows


RECOMMENDED = replace(RSLORA, position_bias_enabled=True, landmark_enabled=True)  # what the guidelines advise
STUDIES: dict[str, Study] = {
    "ablation": ABLATION,
    **PUBLISHED_STUDIES,
    **TUNED_STUDIES,
    "places": Study(
        title="Places in the window",
        question="Does any part change where in the window a model is good, or what it finds there?",
        rows={
            name: stage_row(name, against=STAGES[name].against if name != "landmarks" else "position_bias")
            for name in ("base", "rslora", "magnitude", "position_bias", "landmarks")
        },
        shows=("contrast", "window", "key_value", "passkey"),
    ),
    "bases": Study(
        title="Other bases",
        question="How does the stack fare against rsLoRA on bases of other sizes and families?",
        level=BITS_PER_BYTE,
        varies=("base",),
        shows=("bits_change",),
    ),
    "direct": Study(
        title="Direct paths",
        question="What do landmarks give rsLoRA without the parts between, and what the recommended configuration, "
        "which has no magnitude, at two ranks?",
        rows={
            "base": UNTOUCHED,
            "rslora": stage_row("rslora", "rsLoRA, rank 8", "base"),
            "rslora_landmarks": Row(label="rsLoRA + landmarks", adapter=LANDMARKS_ALONE, against="rslora"),
            "recommended": Row(label="recommended, rank 8", adapter=RECOMMENDED, against="rslora"),
            "rslora_r16": Row(label="rsLoRA, rank 16", adapter=replace(RSLORA, lora_rank=16), against="base"),
            "recommended_r16": Row(
                label="recommended, rank 16", adapter=replace(RECOMMENDED, lora_rank=16), against="rslora_r16"
            ),
        },
    ),
    "leave_one_out": Study(
        title="Leaving one part out",
        question="What does the whole stack lose without one of its parts?",
        rows={
            "landmarks": stage_row("landmarks", "whole stack"),
            "recommended": Row(label="without magnitude", adapter=RECOMMENDED, against="landmarks"),
            "without_bias": Row(
                label="without position bias", adapter=replace(DORA, landmark_enabled=True), against="landmarks"
            ),
            "position_bias": stage_row("position_bias", "without landmarks", "landmarks"),
            "plain_magnitude": Row(
                label="without gate and blend", adapter=replace(FULL, magnitude_gated=False), against="landmarks"
            ),
            "kaiming": Row(
                label="without orthonormal start", adapter=replace(FULL, orthogonal_init=False), against="landmarks"
            ),
            "bias_on_update": Row(
                label="bias on the update alone", adapter=replace(FULL, position_bias_on="update"), against="landmarks"
            ),
        },
    ),
    "controls": Study(
        title="Controls",
        question="Would the parameters of landmarks do as well as rank, or as one constant vector at the final norm?",
        rows={
            "rslora": stage_row("rslora", "rsLoRA, rank 8"),
            "rslora_landmarks": Row(label="rsLoRA + landmarks", adapter=LANDMARKS_ALONE, against="rslora"),
            "constant_vector": Row(
                label="rsLoRA + one constant vector",
                adapter=CONSTANT,
                against="rslora",
            ),
            "rslora_r9": Row(label="rsLoRA, rank 9", adapter=replace(RSLORA, lora_rank=9), against="rslora"),
        },
    ),
    "designs": Study(
        title="Landmark designs",
        question="How do the four designs compare, and what does looking at the whole sequence seem to give?",
        rows={
            "position_bias": stage_row("position_bias", "no landmarks"),
            "landmarks": stage_row("landmarks", "position-adaptive", "position_bias"),
            "learned_buckets": stage_row("learned_buckets", "learnable buckets", "position_bias"),
        }
        | {
            f"{design}_{pooling}": Row(
                label=f"{label}, {'causal' if pooling == 'causal' else 'not causal'}",
                adapter=replace(FULL, landmark_design=design, landmark_pooling=pooling),
                against="position_bias",
            )
            for design, label in (("original", "original"), ("per_layer", "per layer"))
            for pooling in ("causal", "sequence")
        },
        shows=("lim", "contrast", "causal"),
    ),
    "buckets": Study(
        title="Fixed and learnable buckets",
        question="Does learning the boundaries help against fixed ones, logarithmic or linear, over the length in use "
        "or over that of the published code?",
        rows={
            "landmarks": stage_row("landmarks", "fixed, logarithmic"),
            "linear_buckets": Row(
                label="fixed, linear", adapter=replace(FULL, bucket_spacing="linear"), against="landmarks"
            ),
            "learned_buckets": stage_row("learned_buckets", "learnable", "landmarks"),
            "log_buckets_wide": Row(
                label="fixed, log, over 32,768",
                adapter=replace(FULL, max_positions=PUBLISHED_POSITIONS),
                against="landmarks",
            ),
            "linear_buckets_wide": Row(
                label="fixed, linear, over 32,768",
                adapter=replace(FULL, bucket_spacing="linear", max_positions=PUBLISHED_POSITIONS),
                against="landmarks",
            ),
            "learned_buckets_wide": Row(
                label="learnable, over 32,768",
                adapter=replace(FULL, landmark_design="learnable_bucket", max_positions=PUBLISHED_POSITIONS),
                against="landmarks",
            ),
        },
        shows=("boundary",),
    ),
    "methods": Study(
        title="Methods on prose",
        question="How do the methods compare with the same layers, rank and scale?",
        rows={
            "base": UNTOUCHED,
            **{
                name: method_row(name, "base" if name == "rslora" else "rslora")
                for name in METHODS
                if name != "hylorada"
            },
            "landmarks": stage_row("landmarks", METHODS["hylorada"].label, "rslora"),  # the same model
        },
    ),
    "methods_code": Study(
        title="Methods on code",
        question="And on the source of Python's standard library?",
        rows={
            "base_code": replace(UNTOUCHED, changes={"corpus": "code"}),
            **{
                f"{name}_code": method_row(name, "base_code" if name == "rslora" else "rslora_code", corpus="code")
                for name in METHODS
            },
        },
    ),
    "ranks": Study(
        title="Rank and scale",
        question="How much does rank give, under alpha over its square root and under alpha over it?",
        rows={
            f"{name}_r{rank}" if rank != 8 else name: Row(
                label=f"{label}, rank {rank}",
                series=label,
                x=rank,
                adapter=method_config(name, replace(HyLoRADAConfig(), lora_rank=rank)),
                against=None if rank == 8 else name,
            )
            for name, label, ranks in (("rslora", "rsLoRA", (2, 4, 8, 16, 32, 64)), ("lora", "LoRA", (2, 8, 32)))
            for rank in ranks
        },
    ),
    "modules": Study(
        title="Adapted layers",
        question="Which layers are worth adapting?",
        rows=_module_rows(
            {
                "attention_qv": ("queries and values", ["q_proj", "v_proj"]),
                "attention": ("attention", ["q_proj", "k_proj", "v_proj", "o_proj"]),
                "qv_feed_forward": (
                    "queries, values, feed-forward",
                    ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"],
                ),
                "attention_down": ("attention and down", ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]),
                "all_linear": (
                    "all linear layers",
                    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                ),
            }
        ),
    ),
    "modules_gpt2": Study(
        title="Adapted layers",
        question="Which layers are worth adapting?",
        rows=_module_rows(
            {
                "attention_in": ("attention, inputs", ["c_attn"]),
                "attention_both": ("attention", ["c_attn", "attn.c_proj"]),
                "in_feed_forward": ("inputs and feed-forward", ["c_attn", "c_fc", "mlp.c_proj"]),
                "attention_both_down": ("attention and both c_proj", ["c_attn", "c_proj"]),
                "all_conv": ("all linear layers", ["c_attn", "c_proj", "c_fc"]),
            }
        ),
    ),
    "long_context": Study(
        title="Long contexts",
        question="What do S²-Attn in training and scaled rotary positions give on whole articles of 2K to 8K tokens?",
        rows=_rows_by_length(
            (2048, 4096, 8192),
            {
                "rslora": ("rsLoRA", RSLORA),
                "s2": ("rsLoRA with S²-Attn", replace(RSLORA, s2_attn_enabled=True)),
                **{
                    kind: (f"rsLoRA, {label}", replace(RSLORA, rope_scaling_type=kind, rope_scaling_factor=2.0))
                    for kind, label in (("linear", "linear RoPE"), ("dynamic", "dynamic RoPE"), ("yarn", "YaRN"))
                },
            },
        ),
        shows=("steps",),
        varies=("block_tokens", "evaluation"),
    ),
    "context": Study(
        title="Length of the context",
        question="How does the stack fare against rsLoRA as blocks and windows grow?",
        rows=_rows_by_length(
            (256, 512, 1024, 2048), {"rslora": ("rsLoRA", RSLORA), "landmarks": ("whole stack", FULL)}
        ),
        shows=("steps",),
        varies=("block_tokens", "evaluation", "batch_size"),  # a step has as many tokens at every length
    ),
    **SWEEPS,
}


def check_rows(study: str, *rows: str) -> None:
    """Hold names of a study and its rows against the plan.

    Raises:
        HyLoRADAError: there is no such study, or no such row in it.
    """
    if study not in STUDIES:
        raise HyLoRADAError(f"the study {study!r} is not known; {near(study, STUDIES)}")
    known = STUDIES[study].rows
    for row in rows:
        if row not in known:
            raise HyLoRADAError(f"the study {study} has no row {row!r}; {near(row, known)}")
