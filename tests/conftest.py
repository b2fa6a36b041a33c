"""What every test needs."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums come in one order, and two test processes do not fight over two cores."""
    torch.set_num_threads(1)
