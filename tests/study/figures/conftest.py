"""What figures of several kinds are drawn from."""

import pytest
from fake_studies import PLACES, stage_records
from repository import CPU_BENCHMARK

from hylorada.reading import read_json


@pytest.fixture(scope="module")
def stages():
    return stage_records()


@pytest.fixture(scope="module")
def places():
    return stage_records(stages=PLACES)


@pytest.fixture(scope="module")
def benchmark():
    return read_json(CPU_BENCHMARK)
