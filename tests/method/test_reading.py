"""Files of any origin: what is not what it should be is told in one line, whatever library reads it."""

import io
import json
import shutil
import zipfile
from importlib import import_module

import numpy as np
import pytest
import torch
from bases import llama
from safetensors.torch import load_file, save_file

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, checkpoint
from hylorada.load import load_base, load_tokenizer
from hylorada.nll import TokenNLL
from hylorada.reading import READERS, read_arrays, read_json, read_text, read_yaml
from hylorada.trainer import TrainingConfig

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NO_JSON = {
    "empty": b"",
    "bad UTF-8": b'{"a": "\xff"}',
    "cut short": b'{"a": 1',
    "deep": b"[" * 100_000,
    "too many digits": b'{"a": ' + b"9" * 5_000 + b"}",
}


def refused(call, *given, **named) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(HyLoRADAError) as error:
        call(*given, **named)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_is_where_the_table_says(kind):
    module, _, name = READERS[kind].partition(":")
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


@pytest.mark.parametrize("kind", NO_JSON)
def test_what_is_no_json_is_told(tmp_path, kind):
    (tmp_path / "a.json").write_bytes(NO_JSON[kind])
    assert f"{tmp_path / 'a.json'} is damaged, or no JSON" in refused(read_json, tmp_path / "a.json")


@pytest.mark.parametrize("text", ["{}", "[]", "null", "3", '{"files": []}'])
def test_json_of_another_form_is_told(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert str(tmp_path / "a.json") in refused(read_json, tmp_path / "a.json", files=dict)
    assert "is not there" in refused(read_json, tmp_path / "b.json") and "Is a directory" in refused(
        read_json, tmp_path
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [*x]", "a value contains itself"),
        ("a: &x {b: *x}", "a value contains itself"),
        (BOMB, "aliases that stand for more than 1,000,000 values"),
        ("a: 2024-99-99", "month must be in"),
        ("a: !!int x", "invalid literal"),
        ("a: " + "[" * 2_000, "recursion"),
        ("a: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: \x00", "special characters"),
    ],
)
def test_yaml_that_cannot_be_meant_is_told(tmp_path, text, told):
    (tmp_path / "a.yaml").write_text(text)
    assert told in refused(read_yaml, tmp_path / "a.yaml")


def test_yaml_reads_as_it_always_did(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: &few [1, 2]\nb: {<<: {c: 3}, d: *few}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, 2], "b": {"c": 3, "d": [1, 2]}}
    assert read_yaml("here", "") is None
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert "or no text" in refused(read_text, tmp_path / "b.txt")


def store() -> TokenNLL:
    columns = {name: np.arange(1, 40) for name in ("article", "position", "context", "token_id")}
    nll, sizes = np.linspace(1, 2, 39), np.ones(1)
    return TokenNLL(text=np.zeros(39), nll=nll, text_bytes=sizes, text_words=sizes, **columns)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_bit_of_a_token_store_can_be_another(tmp_path):
    """A flip anywhere is refused, or changes nothing that is read (a date in the archive, say)."""
    path, whole = tmp_path / "nll.npz", store()
    whole.save(path)
    held = path.read_bytes()
    for place in range(0, len(held), 11):
        path.write_bytes(held[:place] + bytes([held[place] ^ 16]) + held[place + 1 :])
        try:
            assert TokenNLL.load(path).digest == whole.digest
        except HyLoRADAError as error:
            assert str(path) in str(error)
    for damaged in (b"", held[: len(held) // 2], b"{}"):
        path.write_bytes(damaged)
        assert str(path) in refused(TokenNLL.load, path)


def test_a_size_that_an_archive_cannot_hold_is_refused_before_memory_is_given_to_it(tmp_path):
    path = tmp_path / "a.npz"
    for shape, ending in (((10**13,), b""), ((-1,), b"0" * 8), ((2,), b"0" * 999)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ids.npy", header.getvalue() + ending)
        assert "a size that it cannot have" in refused(read_arrays, path, ["ids"], "token file", "make it again")
    np.savez(path, ids=np.arange(3))
    path.write_bytes(b"\xff\xfe\x80" + path.read_bytes())  # an archive may stand behind other bytes, a store may not
    assert "before its beginning" in refused(read_arrays, path, ["ids"], "token file", "make it again")
    np.savez(path, ids=np.array([{}], dtype=object))
    assert "or no token file" in refused(read_arrays, path, ["ids"], "token file", "make it again")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A saved adapter whose numbers are none of those at the start."""
    folder = tmp_path_factory.mktemp("adapter") / "saved"
    model = HyLoRADAModel(llama(), HyLoRADAConfig(lora_rank=2, use_dora_magnitude=True))
    for tensor in model.adapter_tensors().values():
        torch.nn.init.normal_(tensor)
    model.save_pretrained(folder)
    return folder


def test_a_flipped_bit_in_an_adapter_is_refused(adapter, tmp_path):
    """In its tensors and in its settings alike, where they still read as such."""
    whole = checkpoint.read_adapter(adapter)
    for file in ("hylorada.safetensors", "hylorada_config.json"):
        folder = shutil.copytree(adapter, tmp_path / file)
        held = (folder / file).read_bytes()
        for place in range(3, len(held), len(held) // 60):
            (folder / file).write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
            try:
                settings, base, tensors = checkpoint.read_adapter(folder)
            except HyLoRADAError:
                continue
            assert (settings, base) == whole[:2] and all(torch.equal(tensors[n], t) for n, t in whole[2].items())


def test_tensors_or_settings_of_another_adapter_are_refused_and_an_older_one_loads(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "other")
    tensors = load_file(folder / "hylorada.safetensors")
    checkpoint.write_tensors(folder / "hylorada.safetensors", {name: 2 * tensor for name, tensor in tensors.items()})
    assert "is of another adapter than" in refused(checkpoint.read_adapter, folder)
    folder = shutil.copytree(adapter, tmp_path / "old")
    told = json.loads((folder / "hylorada_config.json").read_text())
    del told["sha256"]
    (folder / "hylorada_config.json").write_text(json.dumps(told))
    save_file(tensors, folder / "hylorada.safetensors")  # as it was written before
    assert all(torch.equal(tensors[name], tensor) for name, tensor in checkpoint.read_adapter(folder)[2].items())


@pytest.mark.parametrize("text", ["{}", "[]", "null", "{", '{"format": 1, "adapter": [], "base": {}}'])
def test_an_adapter_described_by_something_else_is_told(adapter, tmp_path, text):
    folder = shutil.copytree(adapter, tmp_path / "other")
    (folder / "hylorada_config.json").write_text(text)
    assert "hylorada_config.json" in refused(checkpoint.read_adapter, folder)


@pytest.mark.parametrize("config", ["{}", "[]", "null", '{"model_type": "llama", "num_hidden_layers": 1000000000000}'])
def test_a_model_folder_with_something_else_is_told(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "tokenizer.json").write_text(config)
    assert str(tmp_path) in refused(load_base, tmp_path, torch.float32)
    assert str(tmp_path) in refused(load_tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("lora_rank", 10**9), ("num_landmarks", 10**12), ("position_num_buckets", 10**12)),
        *(("num_position_buckets", 10**10), ("sparse_bottleneck", 10**9), ("max_positions", 10**19)),
        *(("s2_group_size", 10**19), ("rank_pattern", {"q_proj": 10**9})),
    ],
)
def test_a_size_of_an_adapter_that_cannot_be_is_refused(name, size):
    assert "cannot be; use" in refused(HyLoRADAConfig, **{name: size})


@pytest.mark.parametrize("name", ["batch_size", "gradient_accumulation_steps", "num_epochs", "loss_chunk_tokens"])
def test_a_size_of_a_training_that_cannot_be_is_refused(name):
    assert f"{name}=1000000000000 cannot be; use" in refused(TrainingConfig, **{name: 10**12})
    assert "seed=-1 is not allowed" in refused(TrainingConfig, seed=-1)


def test_a_base_that_lacks_a_weight_is_refused_and_not_begun_at_random(tmp_path):
    llama().save_pretrained(tmp_path)
    assert load_base(tmp_path, torch.float32).config.num_hidden_layers == 2
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    told = "lacks 1 weights of its config.json (model.layers.1.mlp.up_proj.weight); save it whole."
    assert told in refused(load_base, tmp_path, torch.float32)


def test_settings_of_an_adapter_that_are_refused_name_their_file(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "changed")
    path = folder / "hylorada_config.json"
    told = json.loads(path.read_text())
    del told["sha256"]  # as of an adapter from before there were digests
    path.write_text(json.dumps(told | {"adapter": told["adapter"] | {"lora_rank": "8"}}))
    wrong = f"{path}: lora_rank='8' is of the wrong kind; give a whole number."
    assert wrong in refused(HyLoRADAModel.from_pretrained, llama(), folder)
