"""How large an effect could have been: without it, a small one is no sign that a part does nothing.

What a part could have taken off the text is bounded before it is trained (`hylorada.study.run.ceiling`). An effect of
parts that one row has and the other lacks could have been as large as their ceilings together; one between two designs
of a part, as that part's own; and one of the low-rank update alone (its rank, layers, start or scale), as what the
update gives on the untouched base, where the same table shows that resolved.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hylorada.config import HyLoRADAConfig
from hylorada.study.records.records import Records
from hylorada.study.results.statistics import Effect

PARTS = {"magnitude": "use_dora_magnitude", "position_bias": "position_bias_enabled", "landmark": "landmark_enabled"}
DESIGN = "landmark_"  # what begins so in a configuration is how landmarks are made


def with_reach(records: Records, effects: Mapping[str, Effect], against: Mapping[str, str | None]) -> dict[str, Effect]:
    """Return effects of rows with how large each could have been; against: the row that each is held against."""
    told = {}
    for name, effect in effects.items():
        on = against[name]
        told[name] = effect if on is None else replace(effect, reach=reach_of(records, name, on, effects, against))
    return told


def reach_of(
    records: Records,
    row: str,
    on: str,
    effects: Mapping[str, Effect] | None = None,
    against: Mapping[str, str | None] | None = None,
) -> float | None:
    """Return how large the effect of a row on another could have been, in nats a token; None where nothing tells.

    effects, against: the others of the table, among which the update's own is looked for.
    """
    one, other = (records.record(name, records.seeds(name)[0]).specification.adapter for name in (row, on))
    if (
        one is None or other is None or _same(one) == _same(other)
    ):  # training bounds no effect on the base, or of length
        return float("inf")
    differing = [part for part, field in PARTS.items() if getattr(one, field) != getattr(other, field)]
    holders = {part: row if getattr(one, PARTS[part]) else on for part in differing}
    if not holders and one.landmark_enabled and _design(one) != _design(other):
        holders = {"landmark": row}
    if holders:
        ceilings = [_ceiling(records, name, part) for part, name in holders.items()]
        return None if None in ceilings else float(sum(ceilings))
    return _of_update(effects or {}, against or {}, records)


def _ceiling(records: Records, row: str, part: str) -> float | None:
    """Return the mean over seeds of a part's ceiling in a row, None where it was not taken."""
    taken = [records.record(row, seed).training.ceiling for seed in records.seeds(row)]
    return (
        None if any(one is None or part not in one for one in taken) else float(np.mean([one[part] for one in taken]))
    )


def _design(adapter: HyLoRADAConfig) -> dict[str, object]:
    return {
        name: value for name, value in vars(adapter).items() if name.startswith((DESIGN, "bucket", "max_positions"))
    }


def _same(adapter: HyLoRADAConfig) -> dict[str, object]:
    """Return what of a configuration does not follow from the length of a block."""
    return {name: value for name, value in vars(adapter).items() if name not in ("max_positions", "s2_group_size")}


def _of_update(effects: Mapping[str, Effect], against: Mapping[str, str | None], records: Records) -> float | None:
    """Return the largest resolved effect of a trained row on the untouched base."""
    on_base = [
        abs(effect.mean)
        for name, effect in effects.items()
        if effect.is_resolved and (on := against.get(name)) is not None and records.seeds(on) == [None]
    ]
    return max(on_base, default=None)
