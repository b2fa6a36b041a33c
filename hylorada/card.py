"""The model card of an adapter: what it is of, how it is loaded, its settings, and what is known of data and results.

It is for people and the hub. Loading never looks at it, and it tells of no place on the machine it was written on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from hylorada.parts import owners

CARD_FILE = "README.md"
MARK = (
    "<!-- Written by hylorada with the adapter, and anew each time it is saved; a card without this line is kept. -->"
)


@dataclass
class Card:
    """What the numbers of an adapter do not tell; a model has one as `model.card`, for its maker to fill in.

    data: what it was trained on, as a sentence or several. training: how, by name (`HyLoRADATrainer` fills it in).
    metrics: results by name, such as those of `run_full_evaluation`.
    """

    data: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what is known as JSON can hold it; nothing where nothing is."""
        tables = {name: _plain(values) for name in ("training", "metrics") if (values := getattr(self, name))}
        return ({"data": str(self.data)} if self.data else {}) | tables

    @classmethod
    def from_json(cls, values: Any) -> "Card":
        """Read what `to_json` gave; of anything else, what can be read: no adapter fails to load for its card."""
        values = values if isinstance(values, dict) else {}
        data, training, metrics = (values.get(name) for name in ("data", "training", "metrics"))
        tables = (table if isinstance(table, dict) else {} for table in (training, metrics))
        return cls(data if isinstance(data, str) else None, *tables)


def card_text(
    card: Card, base_model: PreTrainedModel, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> str:
    """Return the card of an adapter; settings: of its configuration. tensors: by name, as the folder holds them."""
    config, name = base_model.config, _public_name(base_model)
    shown = name or f"a {config.model_type} model"
    header = ["---", *([f"base_model: {json.dumps(name)}"] if "/" in name else []), "library_name: hylorada"]
    parts = _numbers_by_part(base_model, tensors)
    counted = ", ".join(f"{count:,} of {part}" for part, count in parts.items())
    sections = {
        f"# An adapter of {shown}": [
            f"It holds {sum(tensor.numel() for tensor in tensors.values()):,} numbers: {counted}. It acts in the base "
            "model alone that it was trained on:",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM",
            "from hylorada import HyLoRADAModel",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{name or "THE BASE MODEL"}")',
            'model = HyLoRADAModel.from_pretrained(base, "THIS FOLDER, OR ITS NAME ON THE HUB")',
            "```",
        ],
        "## Settings": _table("setting", settings),
        "## Data": [card.data] if card.data else [],
        "## Training": _table("what", _plain(card.training)) if card.training else [],
        "## Metrics": _table("metric", _plain(card.metrics)) if card.metrics else [],
    }
    told = [line for title, lines in sections.items() if lines for line in (title, "", *lines, "")]
    return "\n".join([*header, "tags:", "- hylorada", "---", MARK, "", *told])


def is_own_card(path: Path) -> bool:
    """Tell whether a file is a card that was written here, and may be written anew."""
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def _public_name(base_model: PreTrainedModel) -> str:
    """Return the base's name on the hub, or the last part of its path; "" for what is no longer what it was called."""
    if getattr(base_model, "is_merged_by_hylorada", False):
        return ""
    name = base_model.config.name_or_path.replace("\\", "/")
    is_on_hub = name.count("/") == 1 and name[0].isalnum() and not Path(name).exists()
    return name if is_on_hub else name.rstrip("/").rpartition("/")[2]


def _numbers_by_part(base_model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    inside, counts = owners(base_model), {}
    for name, tensor in tensors.items():
        part = inside.get(tensor, name.partition(".")[0])  # what lies outside the base is named for its part
        counts[part] = counts.get(part, 0) + tensor.numel()
    return counts


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name as JSON can hold them: numbers of other libraries as floats, what is no number in words."""
    plain: dict[str, Any] = {}
    for name, value in sorted(values.items(), key=lambda item: str(item[0])):  # as they come back from a folder
        try:
            plain[str(name)] = value if isinstance(value, str | int | float | None) else float(value)
        except (TypeError, ValueError, RuntimeError):
            plain[str(name)] = str(value)
    return plain


def _table(head: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return [f"| {head} | value |", "|---|---|", *rows]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return (
        str(value if isinstance(value, str) else json.dumps(value, default=str)).replace("|", "\\|").replace("\n", " ")
    )
