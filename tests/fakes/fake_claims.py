"""A small claims.json, as `hylorada claims` writes it, over records that may never have run."""

from collections import Counter
from typing import Any

from hylorada.study.claims.catalogue import load_catalogue

AWKWARD = """</script><img src="http://example.org/x" onerror='alert(1)'> & "quoted" <b>bold</b>"""


def fake_claims(names: list[str], scale: str = "micro", digest: str = "ab" * 32) -> dict[str, Any]:
    """Return claims with every verdict and kind, those of the five steps among them; names: of records."""
    catalogue = load_catalogue()
    steps = [*catalogue.headlines.steps.values(), catalogue.headlines.stack]
    claims = [_claim(name, catalogue[name].shown, "inconclusive", names[:3]) for name in steps]
    for claim in claims:
        claim["as_change"] = catalogue[claim["id"]].as_change
    kinds = {"match": ("params", "811,008"), "mismatch": ("count", "8, 16"), "not measurable": ("text", AWKWARD)}
    kinds |= {"reproduced": ("ppl", "57.22 ppl"), "structural zero": ("ppl", "59.16 ppl")}
    kinds |= {"not reproduced": ("percent", "-2 %")}
    for number, (verdict, (kind, value)) in enumerate(kinds.items()):
        claims.append(_claim(f"RN-00{number}", value, verdict, names[number:], kind=kind))
    claims[-1] |= {"quantity": AWKWARD, "contradicted_by": ["X01"]}
    return {
        "scale": scale,
        "records_digest": digest,
        "published_cut": "3 of 125 steps",
        "base": "a base",
        "corpus": "a text",
        "counts": dict(Counter(claim["verdict"] for claim in claims)) | {"direction only": 0},
        "claims": claims,
        "contradictions": [
            {"id": "X01", "statement": AWKWARD, "claims": [steps[0], claims[-1]["id"]], "decided_by": "the runs"}
        ],
    }


def _claim(name: str, value: str, verdict: str, records: list[str], kind: str = "percent") -> dict[str, Any]:
    columns = {"as_published": {"verdict": verdict, "detail": f"by the tale of {name}"}} if kind != "text" else {}
    return {
        "id": name,
        "source": f"{'Ablation findings' if name.startswith('AF') else 'Research notes'}, table, row {name}",
        "quantity": f"quantity of {name}",
        "setting": "abl",
        "claimed": value,
        "as_change": "",
        "relative_to": "baseline" if kind == "percent" else None,
        "kind": kind,
        "verdict": verdict,
        "columns": columns,
        "reason": f"a reason for {name}",
        "command": "hylorada run --stage landmarks" if columns else "",
        "records": records if columns else [],
        "contradicted_by": [],
    }
