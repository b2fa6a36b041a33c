"""Protocols as rows of data. Needs no torch.

`as_published` holds the facts of the published code, `corrected` those of this study; each row between them mends one
fact of `as_published`, to show which fix moves which number. `landmark_study` is the second published study.
"""

from dataclasses import replace

from hylorada.study.plan.protocol import GIVEN, Buckets, Protocol
from hylorada.study.sources.lines import Lines

AS_PUBLISHED = Protocol(
    label="as published",
    training_text=Lines("train", 500),
    block_tokens=512,
    padded=True,
    padding_in_loss=True,
    whole_steps=False,
    learning_rate=5e-4,  # one rate for all
    position_bias_lr=5e-4,
    landmark_lr=5e-4,
    embedding_lr=5e-4,
    weight_decay=0.01,
    lr_schedule="constant",
    warmup_ratio=0.0,
    max_grad_norm=None,
    batch_size=4,
    gradient_accumulation_steps=1,
    num_epochs=1,
    adapter_dtype="base",
    positions_reach_bias=False,
    num_landmarks=8,
    landmark_buckets=Buckets("linear", positions=32_768, learned_positions=1024),
    bucket_module_registered=False,
    pools_over_padding=True,
    evaluation_text=Lines("validation", 200, longer_than=100),
    evaluation_tokens=512,
    mean_of_lines=True,
    min_tokens=10,
)
PROTOCOLS = {
    "corrected": Protocol(
        label="corrected",
        training_text=None,
        block_tokens=GIVEN,
        padded=False,
        padding_in_loss=False,
        whole_steps=False,
        learning_rate=GIVEN,  # the arm's, from one grid for all arms
        position_bias_lr=GIVEN,
        landmark_lr=GIVEN,
        embedding_lr=GIVEN,
        weight_decay=GIVEN,
        lr_schedule="cosine",
        warmup_ratio=GIVEN,
        max_grad_norm=GIVEN,
        batch_size=GIVEN,
        gradient_accumulation_steps=GIVEN,
        num_epochs=GIVEN,
        adapter_dtype="float32",
        positions_reach_bias=True,
        num_landmarks=GIVEN,
        landmark_buckets=None,
        bucket_module_registered=True,
        pools_over_padding=False,
        evaluation_text=None,
        evaluation_tokens=GIVEN,
        mean_of_lines=False,
        min_tokens=2,
    ),
    "as_published": AS_PUBLISHED,
    "padding_masked": replace(AS_PUBLISHED, label="padding masked", padding_in_loss=False),
    "positions_passed": replace(AS_PUBLISHED, label="positions passed", positions_reach_bias=True),
    "buckets_fixed": replace(AS_PUBLISHED, label="buckets fixed", landmark_buckets=None),
    "bucket_module_trained": replace(AS_PUBLISHED, label="bucket module trained", bucket_module_registered=True),
    "masters_kept": replace(AS_PUBLISHED, label="float32 masters kept", adapter_dtype="float32"),
    "landmark_study": replace(
        AS_PUBLISHED,
        label="landmark study, as published",
        training_text=Lines("train", 500, longer_than=50, stripped=True),
        whole_steps=True,
        learning_rate=2e-4,
        position_bias_lr=2e-4,
        landmark_lr=2e-4,
        embedding_lr=2e-4,
        lr_schedule="linear_from_zero",
        warmup_ratio=0.1,
        max_grad_norm=1.0,
        batch_size=2,
        gradient_accumulation_steps=8,
        adapter_dtype="float32",
        num_landmarks=4,
        landmark_buckets=Buckets("linear", positions=512, learned_positions=1024),
        evaluation_text=Lines("test", 100, longer_than=50, stripped=True),
    ),
}
