"""The studies that follow a published procedure, and those that mend one fact of it at a time, as rows of data."""

from dataclasses import replace

from hylorada.config import HyLoRADAConfig
from hylorada.study.plan.ablation import RSLORA, STAGES
from hylorada.study.plan.protocols import PROTOCOLS
from hylorada.study.plan.rows import Row, Study

OWN_BASE, OWN_CORPUS = r"hub:openai-community/gpt2@.*", r"hub:Salesforce/wikitext:wikitext-2-raw-v1@.*"


LANDMARKS_ALONE = replace(RSLORA, landmark_enabled=True)
FIXES = {  # fixes, and the stages that they could move
    "padding_masked": ("rslora", "magnitude", "position_bias", "landmarks", "learned_buckets"),
    "positions_passed": ("position_bias",),
    "buckets_fixed": ("landmarks",),
    "bucket_module_trained": ("learned_buckets",),
    "masters_kept": ("magnitude",),
}


def _published(protocol: str, name: str, against: str | None, label: str | None = None) -> Row:
    """Return a stage under a published protocol; the published layer had a plain magnitude, no gate and no blend."""
    stage, changes = STAGES[name], {"protocol": protocol}
    adapter = stage.adapter
    if adapter is not None and adapter.use_dora_magnitude:
        adapter = replace(adapter, magnitude_gated=False)
    label, short = (label, "") if label else (stage.label, stage.short)
    return Row(
        label=label.replace("gated magnitude", "magnitude"),
        short=short.replace("gated magnitude", "magnitude"),
        adapter=adapter,
        changes=changes,
        against=against,
        arm=name,
    )


def _fix(kind: str, name: str) -> Row:
    """Return a row that mends one fact of the published protocol for a stage, against that stage as published."""
    protocol, against = ("as_published", None) if kind == "published" else (kind, f"published_{name}")
    label = f"{STAGES[name].in_words}, {PROTOCOLS[protocol].label}"
    return _published(protocol, name, against, label)


def _landmark_study(label: str, adapter: HyLoRADAConfig | None, against: str | None = "lm_rslora") -> Row:
    return Row(label=label, adapter=adapter, changes={"protocol": "landmark_study"}, against=against, arm="rslora")


PUBLISHED_STUDIES: dict[str, Study] = {
    "as_published": Study(
        title="The six stages as published",
        question="What does the published procedure give, with seeds?",
        rows={
            f"published_{name}": _published("as_published", name, stage.against and f"published_{stage.against}")
            for name, stage in STAGES.items()
        },
        shows=("published_metric", "published_change", "end", "magnitude_still", "landmark_still"),
    ),
    "published_in_full": Study(
        title="As published, in full",
        question="Do whole steps, of as many lines as published, give what steps of fewer lines give?",
        rows={
            f"published_{name}": _published("as_published", name, against)
            for name, against in (("base", None), ("rslora", "published_base"), ("landmarks", "published_rslora"))
        },
        shows=("published_metric", "published_change"),
    ),
    "single_fixes": Study(
        title="One fact of the published procedure mended",
        question="Which mended fact moves which number?",
        rows={
            f"{kind}_{name}": _fix(kind, name)
            for kind, names in {"published": tuple(STAGES)[1:], **FIXES}.items()
            for name in names
        },
        varies=("protocol", "allow_empty_steps"),
        shows=("published_metric", "published_change", "end", "magnitude_still", "landmark_still"),
    ),
    "landmark_study": Study(
        title="The landmark study as published",
        question="What do the three landmark designs of the second published study give rsLoRA, by its own procedure?",
        rows={
            "lm_base": _landmark_study("base model", None, None),
            "lm_rslora": _landmark_study("no landmarks", RSLORA, "lm_base"),
            "lm_position_adaptive": _landmark_study("position-adaptive", LANDMARKS_ALONE),
            **{
                f"lm_{design}": _landmark_study(
                    f"{label}, not causal",
                    replace(LANDMARKS_ALONE, landmark_design=design, landmark_pooling="sequence"),
                )
                for design, label in (("original", "original"), ("per_layer", "per layer"))
            },
        },
        shows=("published_metric", "published_change", "lim", "causal"),
    ),
}
AS_PUBLISHED_ROWS = {row.arm: name for name, row in PUBLISHED_STUDIES["as_published"].rows.items()}  # stage -> its row
