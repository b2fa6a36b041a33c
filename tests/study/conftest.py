"""What the tests of several wings of the study need."""

from pathlib import Path

import pytest
from small_runs import SMOKE

from hylorada.study.sources.encode import make_tokens
from hylorada.study.sources.fetch import fetch_corpus, fetch_model


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A data folder with the smoke scale's model, corpus and tokens; a test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("data")
    fetch_model(SMOKE.base, folder, progress=False)
    fetch_corpus(SMOKE.corpus, folder, progress=False)
    make_tokens(SMOKE.base, SMOKE.corpus, folder)
    return folder
