"""Identities: a name is one content, told apart from all others without a heavy import."""

import json
from pathlib import Path

from fetched import COMMIT
from repository import printed

from hylorada.study.sources import identity, registry


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
    assert registry.MODELS["smollm2-135m"].sha256 in identities[0]


def test_identities_cost_no_heavy_import():
    program = (
        "import sys\nfrom hylorada.study.sources import identity\nidentity.source_identity('model', 'smollm2-135m')\n"
        "for corpus in ('wiki', 'code', 'sample'): identity.source_identity('corpus', corpus)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'mwparserfromhell', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert printed(program).strip() == "[]"
