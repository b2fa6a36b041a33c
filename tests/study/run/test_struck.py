"""A training that dies or finds the disk full at a file-system event: the same again ends in the same bytes.

Here at some of its events; `make soak` takes every one, of every verb that writes.
"""

import shutil
import sys

import pytest
from bases import adapt, llama, tokens
from struck import struck

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADATrainer, TrainingConfig
from hylorada.study.run.execute import work_folder

PLAIN = HyLoRADAConfig(lora_rank=2, position_bias_enabled=False, landmark_enabled=False)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training of two steps with a state after each, as `hylorada train` has it; and the folder that it writes to."""
    place, data = tmp_path_factory.mktemp("struck"), [{"input_ids": row} for row in tokens(2, 8).tolist()]
    model, settings = adapt(llama(), PLAIN), TrainingConfig(checkpoint_every=1)
    HyLoRADATrainer(model, TrainingConfig(), data, progress=False).train()  # what only the first one does is done

    def train() -> int:
        try:
            with work_folder(place / "adapter") as work:
                HyLoRADATrainer(model, settings, data, work, progress=False).train()
                model.save_pretrained(place / "adapter")
        except HyLoRADAError as error:
            print(error, file=sys.stderr)
            return 2
        return 0

    return train, place


def content(place) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "step"), [("kill", 3), ("full", 4)])
def test_a_training_that_is_struck_ends_the_second_time_as_one_that_is_not(training, kind, step):
    train, place = training
    events = struck(train, place).events
    whole = content(place)
    assert events > 40 and {name.split("/")[0] for name in whole} == {"adapter"}
    for at in range(1, events + 1, step):
        shutil.rmtree(place / "adapter")
        first = struck(train, place, at, kind)
        assert first.status == -9 if kind == "kill" else first.is_told or content(place) == whole, first
        again = struck(train, place)
        assert (again.status, content(place)) == (0, whole), (at, again)
