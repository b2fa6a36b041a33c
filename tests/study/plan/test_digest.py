"""The digest of code: it follows what is computed, and nothing else."""

from pathlib import Path

import hylorada
from hylorada.study.plan import digest


def test_identity_follows_the_code_but_not_its_comments(tmp_path, monkeypatch):
    root = Path(hylorada.__file__).parent
    for path in root.rglob("*.py"):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())

    def source(name: str) -> Path:
        path = tmp_path.joinpath(*name.split(".")[1:])
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    monkeypatch.setattr(digest, "_source", source)
    before_edits = digest.code_digest("hylorada.study.run.execute")
    for name, more, differs in (
        ("lora.py", "\n# a remark\n", False),
        ("cli.py", "\nX = 1\n", False),
        ("study/plan/ablation.py", "\nX = 1\n", False),  # a new row reruns nothing: its settings are specified
        ("lora.py", "\nX = 1\n", True),
        ("study/sources/tokens.py", "\nX = 1\n", True),
    ):
        path = tmp_path / name
        before = path.read_text()
        path.write_text(before + more)
        assert (digest.code_digest("hylorada.study.run.execute") != before_edits) is differs, name
        path.write_text(before)
