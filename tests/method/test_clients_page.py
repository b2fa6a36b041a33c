"""docs/clients.md: every block of it runs as it stands, in the order of the page, with the real tools."""

import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from repository import ROOT

from hylorada.study.sources.tiny import llama_config, random_model
from hylorada.study.sources.weights import save

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
pytestmark = pytest.mark.filterwarnings("ignore")  # the tools' own


def test_every_block_runs_as_it_stands(tmp_path, monkeypatch):
    """In a folder like a checkout after `hylorada fetch`, but with a tiny model at the place of the real one."""
    (place,) = re.findall(r'^base = "(.+?)"', PAGE, flags=re.MULTILINE)
    (task,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    save(*random_model(llama_config(hidden=32, layers=1, heads=4, context=64), seed=0), tmp_path / place, False)
    shutil.copytree(ROOT / "data" / "sample", tmp_path / "data" / "sample")
    Path(tmp_path / "tasks").mkdir()
    Path(tmp_path / "tasks" / "prose.yaml").write_text(task)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # the graph, without a compiler
    names: dict = {}
    for block in BLOCKS:
        exec(block, names)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert names["there"]["byte_perplexity,none"] == pytest.approx(names["here"]["byte_perplexity"], rel=1e-5)
    assert names["there"]["word_perplexity,none"] == pytest.approx(names["here"]["word_perplexity"], rel=1e-3)
