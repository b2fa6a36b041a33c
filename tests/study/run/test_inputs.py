"""Runs of one process share a base, tokens and digests: each run's record is that of the run made alone."""

import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import SMOKE

from hylorada import HyLoRADAError
from hylorada.attention_interface import attention_name
from hylorada.files import sha256_of
from hylorada.study.plan.runs import Run, plan
from hylorada.study.run import inputs as module
from hylorada.study.run.execute import execute
from hylorada.study.run.inputs import HOOKS, Inputs, load_base
from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.identity import model_folder

SHORT = replace(
    SMOKE,
    seeds=[0],
    train_tokens=128,
    train_lines=4,
    test_articles=1,
    test_tokens_per_article=96,
    measures={"lines": 4},
)
ALONE = replace(SHORT, studies={}, measures={})  # no more than is needed
KINDS = {
    "whole weights": dict(train_embeddings=True, train_norms=True),
    "scaled positions": dict(rope_scaling_type="dynamic", rope_scaling_factor=2.0),
    "groups, recomputed": dict(s2_attn_enabled=True, s2_group_size=16, gradient_checkpointing=True),
    "attention and feed-forward": dict(daa_enabled=True, sparse_enabled=True, s2_attn_enabled=True, s2_group_size=16),
    "a landmark a layer": dict(landmark_enabled=True, landmark_design="per_layer"),
}


def run_of(kind: str) -> Run:
    """A run of one of KINDS, or of a row of the published protocol, which changes more of a model than any other."""
    if kind in KINDS:
        (run,) = plan(ALONE, "ablation")["position_bias"]
        return replace(
            run, specification=replace(run.specification, adapter=replace(run.specification.adapter, **KINDS[kind]))
        )
    published = replace(SHORT, studies={"as_published": {}})
    return plan(published, "as_published")[kind][0]


PUBLISHED = ("published_learned_buckets", "published_landmarks")


def make(run: Run, folder: Path, data: Path, inputs: Inputs):
    model, tokens = model_folder(SMOKE.base, data), tokens_path(SMOKE.base, SMOKE.corpus, data)
    return execute(run, folder / run.name, model, tokens, progress=False, inputs=inputs)


def told(base: torch.nn.Module) -> tuple:
    """All of a model that a pass depends on, tensors apart."""
    modules = [
        (name, type(m), attention_name(m), [len(getattr(m, hooks)) for hooks in HOOKS], settings_of(m))
        for name, m in base.named_modules()
        if name
    ]
    trains = [(name, parameter.requires_grad, parameter.grad) for name, parameter in base.named_parameters()]
    return modules, trains, base.config.to_dict(), base.generation_config.to_dict(), base.training


def settings_of(module: torch.nn.Module) -> dict:
    """The plain attributes of a module, such as its mode and whether it recomputes; what is false may be absent."""
    plain = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)}
    return {name: value for name, value in plain.items() if value is not False}


@pytest.fixture(scope="module")
def shared(data, tmp_path_factory) -> dict:
    """After a run of each kind, all with the same inputs: its record, and the base beside a fresh one."""
    inputs, after = Inputs(), {}
    folder = model_folder(SMOKE.base, data)
    for kind in (*KINDS, *PUBLISHED):
        run = run_of(kind)
        results = tmp_path_factory.mktemp("shared")
        record = make(run, results, data, inputs)
        kept, fresh = inputs._bases.get(run.specification.dtype), load_base(folder, run.specification.dtype)
        assert kept is not None, f"{kind} left its base changed"
        equal = {
            name: torch.equal(tensor, kept.model.state_dict()[name]) for name, tensor in fresh.state_dict().items()
        }
        after[kind] = (run, record, results, kept.model, told(kept.model), told(fresh), equal)
    return after


@pytest.mark.parametrize("kind", [*KINDS, *PUBLISHED])
def test_a_run_leaves_its_base_as_it_was_loaded(shared, kind):
    _, _, _, base, kept, fresh, equal = shared[kind]
    assert all(equal.values()) and set(equal) == set(base.state_dict())
    assert kept == fresh
    assert base is shared["whole weights"][3], "each run got the one base"


@pytest.mark.parametrize("kind", ["a landmark a layer", "published_landmarks"])
def test_a_record_is_that_of_the_run_made_alone(shared, kind, data, tmp_path):
    run, record, results, *_ = shared[kind]
    alone = make(run, tmp_path, data, Inputs())
    same = ("results", "views", "measures", "parameters", "moved", "learned", "magnitudes", "data")
    assert all(getattr(record, name) == getattr(alone, name) for name in same)
    assert record.training.history == alone.training.history
    stores = [np.load(folder / run.name / "nll.npz") for folder in (results, tmp_path)]
    assert all(np.array_equal(stores[0][column], stores[1][column]) for column in stores[0].files)
    adapters = [sha256_of(folder / run.name / "adapter" / "hylorada.safetensors") for folder in (results, tmp_path)]
    assert adapters[0] == adapters[1]


def test_what_was_read_is_read_again_when_the_file_was_changed(tmp_path):
    inputs, path, count = Inputs(), tmp_path / "file", []

    def read(path: Path) -> str:
        count.append(path)
        return path.read_text()

    path.write_text("one")
    assert [inputs.once(read, path) for _ in range(2)] == ["one", "one"] and len(count) == 1
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert inputs.once(read, path) == "two"


def test_one_base_is_held_at_a_time_and_none_that_was_changed(data, tmp_path, monkeypatch):
    folder, other = model_folder(SMOKE.base, data), tmp_path / "other"
    shutil.copytree(folder, other)
    inputs, load = Inputs(), module.load_base
    with inputs.base(folder, "float32") as base:
        first = weakref.ref(base.model)
    del base
    with inputs.base(folder, "float32") as base:
        assert base.model is first()
    del base

    def alone(*what):
        assert first() is None, "the old base goes before the new one comes"
        return load(*what)

    monkeypatch.setattr(module, "load_base", alone)
    with inputs.base(other, "float32") as base:
        base.model.get_input_embeddings().weight.data.mul_(1)
        torch.nn.init.zeros_(base.model.get_input_embeddings().weight)
    assert not inputs._bases
    with inputs.base(other, "float32") as base:
        assert base.model.get_input_embeddings().weight.any()
    with pytest.raises(HyLoRADAError), inputs.base(other, "float32"):
        raise HyLoRADAError("a run that fails")
    assert not inputs._bases
