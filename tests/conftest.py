"""What every test needs."""

import os
from pathlib import Path

import pytest
import torch
from repository import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest in one file, so that the other process is not idle at the end."""
    items.sort(key=lambda item: (item.path.name != "test_workflow.py", "whole" not in item.path.parts))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums come in one order, and two test processes do not fight over two cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def processes_like_this_one():
    """A process that a test starts has one thread too, and finds this checkout and the fakes, wherever it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for folder in (Path(__file__).parent / "fakes", ROOT):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield
