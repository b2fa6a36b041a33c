"""A training of seven sequences in two epochs, and the order in which it takes them."""

import torch
from bases import adapt, llama, tokens

from hylorada import HyLoRADAConfig, HyLoRADATrainer, TrainingConfig
from hylorada.trainer import pad_right

FULL = HyLoRADAConfig(use_dora_magnitude=True, lora_dropout=0.1)
SHORT = TrainingConfig(batch_size=2, num_epochs=2, seed=1, learning_rate=1e-2)
ORDER = [1, 0, 3, 2, 6, 4, 5, 5, 2, 3, 4, 0, 6, 1]  # two epochs


def sequences(count: int = 7, length: int = 16) -> list[dict]:
    return [{"input_ids": row} for row in tokens(count, length, seed=9)]


def order_of(config: TrainingConfig, device: str = "cpu") -> list[int]:
    """The places in the data of the sequences that a training takes, in its order."""
    data, seen = sequences(), []
    places = {tuple(item["input_ids"].tolist()): place for place, item in enumerate(data)}

    def noted(items: list[dict]) -> dict[str, torch.Tensor]:
        seen.extend(places[tuple(item["input_ids"].tolist())] for item in items)
        return pad_right(items)

    HyLoRADATrainer(adapt(llama(), FULL).to(device), config, data, progress=False, collate=noted).train()
    return seen
