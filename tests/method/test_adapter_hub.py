"""Adapters on the hub and the cards beside them, without a network: the hub's cache and programs are stood in for."""

import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from bases import adapt, gpt2, llama, tokens, without_zeros
from hub_cache import put_in_cache
from safetensors.torch import load_file

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, HyLoRADATrainer, TrainingConfig
from hylorada.card import MARK, Card, card_text
from hylorada.export import export_peft

COMMIT = "0123456789" * 4
FILES = ["README.md", "hylorada_config.json", "hylorada.safetensors"]


@pytest.fixture(scope="module")
def model() -> HyLoRADAModel:
    return without_zeros(adapt(llama(), HyLoRADAConfig()))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub's cache without a network behind it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_an_adapter_is_loaded_by_its_name_on_the_hub(model, cache, monkeypatch):
    put_in_cache(cache, "models", "owner/adapter", COMMIT, model.save_pretrained)
    for revision in (None, "main", COMMIT):
        loaded = HyLoRADAModel.from_pretrained(llama(), "owner/adapter", revision=revision).eval()
        assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)
    asked = {}
    ask = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.update(k) or ask(*a, **k))
    HyLoRADAModel.from_pretrained(llama(), "owner/adapter")
    assert asked["allow_patterns"] == ["hylorada_config.json", "hylorada.safetensors"]


def test_a_folder_comes_before_the_hub_and_what_is_neither_is_told(model, cache, monkeypatch):
    monkeypatch.chdir(cache)
    model.save_pretrained("owner/adapter")
    assert HyLoRADAModel.from_pretrained(llama(), "owner/adapter")
    put_in_cache(cache, "models", "owner/pefts", COMMIT, lambda folder: export_peft(adapted_plainly(), folder))
    for source, revision, said in (
        (
            "owner/absent",
            None,
            "no folder 'owner/absent', and the hub gave no such repository .LocalEntry",
        ),
        ("owner/adapter", "main", "'main' is of the hub, and owner/adapter is a folder"),
        ("owner/pefts", None, "on the hub holds no hylorada_config.json; PEFT's adapters are read by import_peft"),
        ("absent", None, "no folder 'absent'; give one that save_pretrained wrote, or the OWNER/NAME"),
        ("./absent/adapter", None, "there is no folder"),
        ("~/absent/adapter", None, "there is no folder"),
        (Path("owner/absent"), None, "owner/absent is no adapter folder"),
    ):
        with pytest.raises(HyLoRADAError, match=said) as told:
            HyLoRADAModel.from_pretrained(llama(), source, revision=revision)
        assert "\n" not in str(told.value)


def adapted_plainly() -> HyLoRADAModel:
    return adapt(llama(), HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False))


class FakeApi:
    """Keeps what is uploaded, as the hub would."""

    files: dict[str, bytes]
    calls: list[tuple]

    def __init__(self, token: str | None = None) -> None:
        FakeApi.calls = [("token", token)]

    def create_repo(self, repository: str, private: bool | None, exist_ok: bool) -> None:
        FakeApi.calls.append(("create", repository, private, exist_ok))

    def file_exists(self, repository: str, name: str, revision: str | None) -> bool:
        return name in FakeApi.files

    def hf_hub_download(self, repository: str, name: str, revision: str | None, local_dir: Path) -> str:
        local_dir.mkdir()
        (local_dir / name).write_bytes(FakeApi.files[name])
        return str(local_dir / name)

    def upload_folder(self, repo_id: str, folder_path: Path, ignore_patterns: list[str] | None, **commit) -> object:
        if commit.get("commit_message") == "refuse":
            raise PermissionError(f"403 for\nhttps://a.place/{repo_id}")
        FakeApi.calls.append(("upload", repo_id, commit))
        for path in folder_path.iterdir():
            if path.name not in (ignore_patterns or ()):
                FakeApi.files[path.name] = path.read_bytes()
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit")


def test_an_adapter_is_put_on_the_hub_with_its_card(model, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    FakeApi.files = {}
    address = model.push_to_hub("owner/adapter", private=True, token="a token", commit_message="First")
    assert address == "hub/owner/adapter/commit"
    assert FakeApi.calls == [
        ("token", "a token"),
        ("create", "owner/adapter", True, True),
        ("upload", "owner/adapter", {"commit_message": "First"}),
    ]
    assert sorted(FakeApi.files) == sorted(FILES) and MARK in FakeApi.files["README.md"].decode()
    for name, held in FakeApi.files.items():
        (tmp_path / name).write_bytes(held)
    assert torch.equal(HyLoRADAModel.from_pretrained(llama(), tmp_path).eval()(tokens()).logits, model(tokens()).logits)
    model.push_to_hub("owner/adapter")  # its own card is written anew
    assert MARK in FakeApi.files["README.md"].decode()
    FakeApi.files["README.md"] = b"---\nlicense: mit\n---\nwritten by hand"
    model.push_to_hub("owner/adapter")
    assert FakeApi.files["README.md"].endswith(b"written by hand")
    with pytest.raises(HyLoRADAError, match="'commit_mesage' is no argument .* did you mean 'commit_message'"):
        model.push_to_hub("owner/adapter", commit_mesage="First")
    for repository, message, said in (
        ("adapter", None, "'adapter' is no name of a repository; give OWNER/NAME"),
        ("owner/adapter", "refuse", "could not be written on the hub .PermissionError."),
    ):
        with pytest.raises(HyLoRADAError, match=said) as told:
            model.push_to_hub(repository, commit_message=message)
        assert "\n" not in str(told.value) and "http" not in str(told.value)


def test_a_card_says_what_is_known_and_no_more(tmp_path):
    base = llama()
    base.config.name_or_path = "owner/base"
    config = HyLoRADAConfig(lora_target_modules=r".*(q|v)_proj", landmark_enabled=False)
    model = adapt(base, config)
    model.save_pretrained(tmp_path / "bare")
    text = (tmp_path / "bare" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header == {"base_model": "owner/base", "library_name": "hylorada", "tags": ["hylorada"]}
    for name, value in config.to_dict().items():
        assert f"| {name} |" in text and (not isinstance(value, bool) or f"| {name} | {json.dumps(value)} |" in text)
    counts = model.count_params()
    assert f"It holds {counts['trainable']:,} numbers: {counts['lora']:,} of lora, 65 of position_bias." in text
    assert r"| lora_target_modules | .*(q\|v)_proj |" in text
    assert "from_pretrained(base," in text and not any(
        f"## {title}" in text for title in ("Data", "Training", "Metrics")
    )
    model.card = Card(data="All of it.", training={"steps": 3}, metrics={"perplexity": 12.345678901, "texts": 4})
    model.save_pretrained(tmp_path / "bare")
    text = (tmp_path / "bare" / "README.md").read_text(encoding="utf-8")
    assert "## Data\n\nAll of it.\n" in text and "| steps | 3 |" in text
    assert "| perplexity | 12.3457 |" in text and "| texts | 4 |" in text


def test_a_card_tells_how_the_adapter_was_trained_and_still_does_when_it_is_saved_again(tmp_path):
    model, rows = adapt(llama(), HyLoRADAConfig()), [{"input_ids": row} for row in tokens(4, 12).tolist()]
    model.card.data = "Twelve tokens a row."
    config = TrainingConfig(learning_rate=3e-4, num_epochs=2)
    result = HyLoRADATrainer(model, config, rows, tmp_path, progress=False, eval_dataset=rows[:2]).train()
    assert model.card.training["steps"] == 2 and model.card.training["learning_rate"] == 3e-4
    losses = [row["eval_loss"] for row in result.history]
    assert model.card.metrics["eval_loss"] == min(losses)
    assert "| eval_perplexity |" in (tmp_path / "best_adapter" / "README.md").read_text(encoding="utf-8")
    model.card.metrics |= {"numpy": np.float32(0.5), "tensor": torch.tensor(2.0), "words": ["a"], "none": None}
    model.save_pretrained(tmp_path / "first")
    loaded = HyLoRADAModel.from_pretrained(llama(), tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    text = (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert all(f"| {told} |" in text for told in ("numpy | 0.5", "tensor | 2", "words | ['a']", "none | null"))
    path = tmp_path / "second" / "hylorada_config.json"
    for about in (None, 3, {"data": 3, "metrics": []}):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"about": about}))
        assert HyLoRADAModel.from_pretrained(llama(), tmp_path / "second").card == Card()


@pytest.mark.parametrize("name", ["", "/models/somebody/base", r"C:\Users\somebody\base", "../somebody/base"])
def test_a_card_tells_of_no_place_on_this_machine(name, model):
    base = model.base_model
    base.config.name_or_path = name
    text = card_text(Card(), base, {}, model.adapter_tensors())
    assert "somebody" not in text and "base_model:" not in text
    assert ("An adapter of base" if name else "An adapter of a llama model") in text


def test_loading_does_not_look_at_the_card_and_one_by_hand_is_kept(model, tmp_path):
    model.save_pretrained(tmp_path / "a")
    card = tmp_path / "a" / "README.md"
    card.unlink()
    assert HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")
    card.write_bytes(b"\xff by hand")
    assert HyLoRADAModel.from_pretrained(llama(), tmp_path / "a")
    with pytest.raises(HyLoRADAError, match="holds other things .README.md."):
        model.save_pretrained(tmp_path / "a")
    assert card.read_bytes() == b"\xff by hand"
    assert load_file(tmp_path / "a" / "hylorada.safetensors").keys() == model.adapter_tensors().keys()


def test_the_card_of_a_merged_base_does_not_name_the_plain_one():
    base = gpt2()
    base.config.name_or_path = "owner/base"
    plain = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)
    merged = adapt(base, plain).merge_and_unload()
    again = adapt(merged, plain)
    assert "owner/base" not in card_text(again.card, merged, {}, again.adapter_tensors())
