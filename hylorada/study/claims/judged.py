"""Reading what `hylorada claims` wrote: `results/claims.json`, as `Judgement.as_json` gives it. Needs no torch."""

from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.reading import hold, read_json

TEXTS = ("id", "source", "quantity", "setting", "claimed", "kind", "verdict", "reason")  # of a judged statement
LISTS = ("records", "contradicted_by")  # of names


def read_judged(path: Path) -> dict[str, Any]:
    """Return what a `claims.json` holds, as plain values.

    Raises:
        HyLoRADAError: it is absent, or is something else.
    """
    texts = dict.fromkeys(("scale", "published_cut", "records_digest"), str)
    judged = read_json(path, **texts, counts=dict, claims=list, contradictions=list)
    for claim in judged["claims"]:
        hold(claim, path, **dict.fromkeys(TEXTS, str), **dict.fromkeys(LISTS, list), columns=dict)
        for name in (name for names in LISTS for name in claim[names]):
            hold(name, path, str)
        for column in claim["columns"].values():
            hold(column, path, verdict=str, detail=str)
    if len({claim["id"] for claim in judged["claims"]}) < len(judged["claims"]):
        raise HyLoRADAError(f"{path} judges a statement twice; run `hylorada claims` again.")
    for contradiction in judged["contradictions"]:
        hold(contradiction, path, id=str, statement=str, claims=list)
    return judged
