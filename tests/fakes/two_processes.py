"""One of two processes that train together: `torch.distributed.run --module two_processes FOLDER`."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from bases import adapt, llama
from short_training import SHORT, sequences

from hylorada import HyLoRADAConfig, HyLoRADATrainer


def main(folder: Path) -> None:
    """Train from a start of this process's own; write the history and what the adapter came to."""
    rank = os.environ["RANK"]
    model = adapt(llama(), HyLoRADAConfig(lora_dropout=0.0), seed=5 + int(rank))
    history = HyLoRADATrainer(model, replace(SHORT, batch_size=1), sequences(8), progress=False).train().history
    norms = [parameter.norm().item() for parameter in model.trainable_parameters()]
    (folder / f"{rank}.json").write_text(json.dumps([history, norms]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
