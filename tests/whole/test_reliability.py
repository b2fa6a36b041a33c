"""Whatever is typed is taken, or refused on one line. `make soak` tries far more of it."""

import pytest
from properties import PROPERTIES

EXAMPLES = {"settings": 6, "configurations": 40, "command lines": 8, "data sets": 10}


@pytest.mark.parametrize("name", PROPERTIES)
def test_whatever_is_typed_is_taken_or_refused_on_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PROPERTIES[name](EXAMPLES[name])
    assert list(tmp_path.iterdir()) == []
