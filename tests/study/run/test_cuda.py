"""On a CUDA device the study computes what it computes on a processor: same data, same losses, logits in float32."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bases import CONTEXT, llama, tokens
from short_training import ORDER, SHORT, order_of
from small_runs import small_scale
from torch.nn import functional as F

from hylorada import HyLoRADAError
from hylorada.evaluation import token_nll
from hylorada.study.plan.runs import all_runs
from hylorada.study.plan.scales import load_settings
from hylorada.study.run.memory import told_when_full

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")

DEVICE = "cuda"


@pytest.fixture(scope="module")
def scale(tmp_path_factory) -> Path:
    """A scale of one seed and four steps in bfloat16."""
    return Path(small_scale(tmp_path_factory.mktemp("cuda")))


def records_of(scale: Path, data: Path, name: str, *more: str, **surroundings: str) -> dict[str, dict]:
    """Make the scale's runs in a process of their own, once; return their records by stage."""
    folder = scale.parent / name
    command = [sys.executable, "-m", "hylorada", "run", "--scale", str(scale), "--quiet", *more]
    command += ["--data", str(data), "--records", str(folder)]
    done = subprocess.run(command, env=os.environ | surroundings, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    runs = all_runs(load_settings(str(scale))).values()
    return {run.stage: json.loads((run.folder(folder) / "record.json").read_text()) for run in runs}


@pytest.fixture(scope="module")
def on_the_device(scale, data) -> dict[str, dict]:
    return records_of(scale, data, "device")


def losses(record: dict) -> list[float]:
    return [step["loss"] for step in record["training"]["history"]]


def test_a_run_on_the_device_is_near_the_run_on_a_processor(scale, data, on_the_device):
    """All six stages in bfloat16; dropout draws other numbers there, and its effect on four steps is small."""
    on_a_processor = records_of(scale, data, "processor", CUDA_VISIBLE_DEVICES="")
    for stage, record in on_the_device.items():
        other = on_a_processor[stage]
        assert record["machine"]["device"] != "cpu" == other["machine"]["device"]
        assert record["peak_memory_gib"]["device"] > 0
        assert record["data"] == other["data"] and record["parameters"] == other["parameters"]
        assert record["results"]["mean_nll"] == pytest.approx(other["results"]["mean_nll"], rel=5e-3), stage
        if record["training"] is not None:
            assert losses(record) == pytest.approx(losses(other), rel=1e-2), stage


def test_two_jobs_at_once_give_the_records_that_one_gives(scale, data, on_the_device):
    """Up to the order in which the device adds up gradients."""
    for stage, record in records_of(scale, data, "two", "--jobs", "2").items():
        for name in ("mean_nll", "perplexity", "bits_per_byte"):
            assert record["results"][name] == pytest.approx(on_the_device[stage]["results"][name], rel=1e-3), stage


def test_data_come_in_the_same_order_as_on_a_processor():
    assert order_of(SHORT, DEVICE) == ORDER


def test_evaluation_multiplies_in_float32_on_a_bfloat16_model():
    model = llama().to(DEVICE, torch.bfloat16)
    ids = tokens(1, CONTEXT)
    with torch.no_grad():
        hidden = model.get_decoder()(ids.to(DEVICE)).last_hidden_state[0, :-1]
        head, targets = model.get_output_embeddings().weight, ids[0, 1:].to(DEVICE)
        exact = F.cross_entropy(hidden.float() @ head.float().T, targets, reduction="none").cpu()
        rounded = F.cross_entropy((hidden @ head.T).float(), targets, reduction="none").cpu()
    scored = torch.from_numpy(token_nll(model, [ids[0].tolist()], max_length=CONTEXT).nll)
    torch.testing.assert_close(scored.float(), exact, rtol=1e-4, atol=1e-4)
    assert (rounded - exact).abs().max() > 1e-3, "a product in bfloat16 would have been seen"


def test_a_full_device_is_told_with_its_name_and_is_free_afterwards():
    name = torch.cuda.get_device_name()
    before = torch.cuda.memory_allocated()
    with pytest.raises(HyLoRADAError, match="out of memory on") as told, told_when_full("lower x"):
        kept = [torch.empty(2**20, device=DEVICE)]
        kept.append(torch.empty(2**45, device=DEVICE, dtype=torch.uint8))
    assert name in str(told.value)
    del kept
    assert torch.cuda.memory_allocated() == before
