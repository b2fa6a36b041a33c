"""tools/keep_records.py: what is kept of a finished study, and of one that has begun."""

import importlib.util
from dataclasses import replace

import pytest
from fake_records import fake_study
from repository import ROOT

from hylorada import HyLoRADAError
from hylorada.files import write_json
from hylorada.reading import read_json
from hylorada.study.plan.record import Commit, read_record, write_record
from hylorada.study.records.archive import KEPT


@pytest.fixture
def tool(monkeypatch):
    """The module, which is no part of the package, for a scale of the ablation alone."""
    spec = importlib.util.spec_from_file_location("keep_records", ROOT / "tools" / "keep_records.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    load = module.load_settings
    monkeypatch.setattr(module, "load_settings", lambda scale: replace(load(scale), studies={}, seeds=[0]))
    return module


def test_a_finished_study_is_kept_without_adapters(tool, tmp_path):
    _, planned = fake_study(tmp_path / "runs", seeds=1)
    (planned["rslora"][0].folder(tmp_path / "runs") / "adapter").mkdir()
    assert tool.keep("micro", tmp_path / "runs", tmp_path / "kept") == 6
    kept = read_json(tmp_path / "kept" / KEPT)
    assert kept["scale"] == "micro" and kept["runs"] == 6 and len(kept["kept_at"]) == 40
    assert {path.name for path in (tmp_path / "kept").glob("*/*")} == {"record.json", "nll.npz", "lines.npz"}


def test_of_one_that_has_begun_is_kept_what_is_done_and_whose_it_is(tool, tmp_path):
    _, planned = fake_study(tmp_path / "runs", seeds=1)
    (last,) = planned["landmarks"]
    (last.folder(tmp_path / "runs") / "record.json").unlink()
    with pytest.raises(HyLoRADAError, match="lacks 1 runs of micro, the first landmarks-seed0"):
        tool.keep("micro", tmp_path / "runs", tmp_path / "kept")
    assert tool.keep("micro", tmp_path / "runs", tmp_path / "kept", begun=True) == 5
    begun = read_json(tmp_path / "kept" / tool.BEGUN)
    assert (begun["runs"], begun["of"], begun["made_by"]) == (5, 6, "0" * 40)
    assert not (tmp_path / "kept" / KEPT).exists(), "a paper is made of a finished one alone"


def test_what_has_begun_is_of_one_code(tool, tmp_path):
    _, planned = fake_study(tmp_path / "runs", seeds=1)
    path = planned["rslora"][0].folder(tmp_path / "runs") / "record.json"
    write_record(path, replace(read_record(path), git=Commit(commit="1" * 40, changed=False)))
    with pytest.raises(HyLoRADAError, match="are of 2 commits; go on with one"):
        tool.keep("micro", tmp_path / "runs", tmp_path / "kept", begun=True)
    write_json(tmp_path / "empty" / "a.json", {})
    with pytest.raises(HyLoRADAError, match="has no run of micro; make some first"):
        tool.keep("micro", tmp_path / "empty", tmp_path / "kept", begun=True)
    assert not (tmp_path / "kept").exists()
