"""The hub: a name holds a full commit, a data set its three splits, and silence is one line."""

import shutil

import pytest
from fetched import COMMIT, nothing_left

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import fetch, identity
from hylorada.study.sources.splits import SPLITS


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
