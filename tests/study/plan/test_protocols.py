"""Protocols as data: a fix changes one field, a scale cuts counts alone, and a record gives back its facts."""

import json
from dataclasses import asdict, fields

import pytest
from repository import printed

from hylorada import HyLoRADAError, TrainingConfig
from hylorada.study.plan.protocol import GIVEN, Protocol, fitted, training_config
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.typed import plain, read

FIXES = {
    "padding_masked": "padding_in_loss",
    "positions_passed": "positions_reach_bias",
    "buckets_fixed": "landmark_buckets",
    "bucket_module_trained": "bucket_module_registered",
    "masters_kept": "adapter_dtype",
}


@pytest.mark.parametrize("name", FIXES)
def test_a_single_fix_changes_one_field_and_to_the_corrected_value(name):
    fixed, published, corrected = (asdict(PROTOCOLS[row]) for row in (name, "as_published", "corrected"))
    differing = {field for field in fixed if fixed[field] != published[field]}
    assert differing == {"label", FIXES[name]}
    assert fixed[FIXES[name]] == corrected[FIXES[name]]


def test_each_protocol_has_a_label_of_its_own():
    assert len({protocol.label for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_a_scale_cuts_counts_and_no_other_fact():
    published = PROTOCOLS["as_published"]
    assert fitted(published, None, None, 4096) == published
    cut = fitted(published, 16, 40, 256)
    assert (cut.training_text.count, cut.evaluation_text.count) == (16, 40)
    assert cut.block_tokens == cut.evaluation_tokens == 256
    assert fitted(published, 9_999, 9_999, 512) == published  # more than was published is not as published
    assert fitted(PROTOCOLS["corrected"], 1, 1, 1) == PROTOCOLS["corrected"]
    counts = {"training_text", "evaluation_text", "block_tokens", "evaluation_tokens"}
    assert {f.name for f in fields(cut) if getattr(cut, f.name) != getattr(published, f.name)} == counts


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_comes_back_from_its_facts_as_they_are_kept_in_a_record(name):
    assert read(Protocol, json.loads(json.dumps(plain(PROTOCOLS[name]))), name) == PROTOCOLS[name]


def test_training_settings_are_the_protocols_over_those_of_the_scale():
    scale = {
        "learning_rate": 1e-4,
        "landmark_lr": 2e-4,
        "batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_epochs": 3,
    }
    usual = {"position_bias_lr": 1e-3, "embedding_lr": 1e-5, "weight_decay": 0.01, "warmup_ratio": 0.03}
    usual |= {"max_grad_norm": 1.0}
    published = TrainingConfig(**training_config(PROTOCOLS["as_published"], scale | {"seed": 4}))
    assert (published.learning_rate, published.landmark_lr, published.batch_size, published.seed) == (5e-4, 5e-4, 4, 4)
    assert published.max_grad_norm is None and published.lr_schedule == "constant" and published.warmup_ratio == 0
    corrected = TrainingConfig(**training_config(PROTOCOLS["corrected"], scale | usual))
    assert corrected == TrainingConfig(**scale)  # the defaults of the library are those of the scales
    with pytest.raises(HyLoRADAError, match="'corrected' does not fix landmark_lr, batch_size"):
        training_config(PROTOCOLS["corrected"], {"learning_rate": 1e-4} | usual)


def test_what_is_given_from_outside_is_given_in_the_corrected_protocol_alone():
    for name, protocol in PROTOCOLS.items():
        given = [field.name for field in fields(protocol) if getattr(protocol, field.name) == GIVEN]
        assert bool(given) == (name == "corrected"), (name, given)


def test_reading_protocols_needs_no_torch():
    code = (
        "import sys; import hylorada.study.plan.protocols; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert printed(code).split() == ["False", "False"]
