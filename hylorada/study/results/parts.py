"""What each part trains, as a formula and as counted on the models of the records, and what can be done with it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from hylorada.study.plan.studies import check_rows
from hylorada.study.records.records import Records

YES, NO = "yes", "no"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One line. formula, per: what it trains, in symbols. study, row, kind: the count of a record.

    less: a row of the same study whose count comes off. neutral: a fresh one leaves the model as it was. causal: no
    token sees a later one. merges: into the weights.
    """

    label: str
    formula: str
    per: str
    row: str
    kind: str
    study: str = "ablation"
    less: str | None = None
    neutral: str = YES
    causal: str = YES
    merges: str = NO


PARTS = (
    Part(
        label="low-rank update",
        formula="r(d_in+d_out)",
        per="layer",
        row="rslora",
        kind="lora",
        merges=YES,
    ),
    Part(
        label="magnitude, gate and blend",
        formula="d_out+2",
        per="layer",
        row="magnitude",
        kind="magnitude",
        merges=YES,
    ),
    Part(label="position bias", formula="N+1", per="model", row="position_bias", kind="position_bias"),
    Part(
        label="landmarks",
        formula="2Kd+NK+1",
        per="model",
        row="landmarks",
        kind="landmark",
        neutral="no: small noise",
    ),
    Part(
        label="learnable buckets",
        formula="N-1 more",
        per="model",
        row="learned_buckets",
        kind="landmark",
        less="landmarks",
        neutral="as landmarks",
    ),
    Part(
        label="original landmarks",
        formula="2Kd+1",
        per="model",
        study="designs",
        row="original_causal",
        kind="landmark",
        neutral="no: small noise",
        causal="as built",
    ),
    Part(
        label="per-layer landmarks",
        formula="Kd+1",
        per="block",
        study="designs",
        row="per_layer_causal",
        kind="landmark",
        neutral="no: small noise",
        causal="as built",
    ),
    Part(
        label="one constant vector",
        formula="d",
        per="model",
        study="controls",
        row="constant_vector",
        kind="landmark",
    ),
    Part(label="direct attention", formula="2", per="head", study="methods", row="lorada", kind="daa"),
    Part(label="sparse bottleneck", formula="2bd", per="block", study="methods", row="sparse", kind="sparse"),
    Part(
        label="trained embeddings",
        formula="their own",
        per="model",
        study="methods",
        row="longlora",
        kind="embeddings",
        merges=YES,
    ),
    Part(
        label="trained norms",
        formula="their own",
        per="model",
        study="methods",
        row="longlora",
        kind="norms",
        merges=YES,
    ),
)


def parts_table(studies: Mapping[str, Records]) -> pd.DataFrame:
    """Return one row a part; here: the parameters counted on a built model, missing where no run has the part."""
    return pd.DataFrame(
        [
            {
                "part": part.label,
                "formula": part.formula,
                "per": part.per,
                "here": _count(studies.get(part.study), part),
                "neutral": part.neutral,
                "causal": part.causal,
                "merges": part.merges,
            }
            for part in PARTS
        ]
    ).astype({"here": "Int64"})


def _count(records: Records | None, part: Part) -> int | None:
    check_rows(part.study, part.row, *filter(None, [part.less]))
    if records is None or part.row not in records.stages:
        return None
    return _of(records, part.row, part.kind) - (_of(records, part.less, part.kind) if part.less else 0)


def _of(records: Records, row: str, kind: str) -> int:
    return records.record(row, records.seeds(row)[0]).parameters[kind]
