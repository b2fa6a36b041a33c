"""Statements about perplexity as rows of data: which comparison or level of which study each is held against."""

from dataclasses import replace

from hylorada.study.claims.checks.measured import Beyond, Holds, Inert, Level, NotCausal, Source, Step, Unmoved
from hylorada.study.claims.evidence import ABLATION


def _published(arm: str, on: str, metric: str = "lines") -> Source:
    return Source("as_published", (f"published_{arm}", f"published_{on}"), metric)


def step(arm: str, on: str) -> Step:
    """Return the comparison of two stages of the ablation."""
    return Step((_published(arm, on), Source(ABLATION, (arm, on), "corpus")))


def recommended() -> Step:
    """Return what the recommended configuration gives over the untouched base, as it is advised now."""
    return Step((Source("direct", ("recommended", "base"), "corpus"),))


def designed(design: str, corrected: Source, metric: str = "lines") -> Step:
    """Return the comparison of a landmark design with rsLoRA in the landmark study, and its corrected counterpart."""
    return Step((Source("landmark_study", (f"lm_{design}", "lm_rslora"), metric), corrected))


ALONE = Source("direct", ("rslora_landmarks", "rslora"), "corpus")
ALONE_LIM = replace(ALONE, metric="deciles_of_text")
ADAPTIVE = designed("position_adaptive", ALONE)
ADAPTIVE_LIM = designed("position_adaptive", ALONE_LIM, "deciles")
ORIGINAL = Source("designs", ("original_causal", "position_bias"), "corpus")
PER_LAYER = Source("designs", ("per_layer_causal", "position_bias"), "corpus")
OWN_LANDMARKS, WHOLE = step("landmarks", "position_bias"), step("landmarks", "base")
NO_BIAS = Inert("published_position_bias", "published_magnitude")
UNTRAINED = Unmoved("published_learned_buckets", "landmark")
BESIDE = Unmoved("published_learned_buckets", "landmark", decides=False)


def level(stage: str) -> Level:
    """Return the level of a stage of the ablation as published."""
    return Level("as_published", f"published_{stage}")


HIGH_RANKS = Holds("ranks", tuple((f"rslora_r{rank}", "rslora") for rank in (16, 32, 64)), better=False)
MEASURED: dict[str, tuple] = {
    **dict.fromkeys(("AF-002", "AF-010", "RM-010"), (level("base"),)),
    **dict.fromkeys(("AF-020", "RM-011"), (level("rslora"),)),
    "AF-030": (level("magnitude"),),
    **dict.fromkeys(("AF-040", "RM-013"), (NO_BIAS, level("position_bias"))),
    **dict.fromkeys(("AF-050", "RM-015"), (level("landmarks"),)),
    "AF-060": (UNTRAINED, level("learned_buckets")),
    **dict.fromkeys(("AF-021", "AF-073", "RN-100", "RM-012", "RM-030"), (step("rslora", "base"),)),
    "AF-031": (step("magnitude", "base"),),
    **dict.fromkeys(("AF-032", "AF-076", "AF-098", "RN-103", "RN-123", "RN-132"), (step("magnitude", "rslora"),)),
    "AF-041": (step("position_bias", "base"),),
    **dict.fromkeys(
        ("AF-042", "AF-074", "AF-095", "AF-114", "RN-106", "RM-032"), (NO_BIAS, step("position_bias", "magnitude"))
    ),
    "RM-014": (step("position_bias", "rslora"),),
    **dict.fromkeys(("AF-051", "AF-070", "AF-092", "RN-109", "RN-143", "RM-016"), (WHOLE,)),
    "AF-052": (OWN_LANDMARKS,),
    **dict.fromkeys(("AF-003", "AF-115", "AF-120", "AF-132", "RN-130", "RN-144", "RM-031"), (OWN_LANDMARKS,)),
    "AF-061": (step("learned_buckets", "base"),),
    **dict.fromkeys(("AF-062", "AF-078", "AF-101", "RN-112", "RN-124"), (BESIDE, step("learned_buckets", "landmarks"))),
    "AF-124": (UNTRAINED, Holds("buckets", (("landmarks", "learned_buckets"),), better=False)),
    **dict.fromkeys(("AF-116", "RN-120", "RN-126", "RM-001"), (recommended(),)),
    **dict.fromkeys(("AF-150", "RN-010", "RN-080", "RN-090", "RN-093", "RN-142"), (ADAPTIVE,)),
    **dict.fromkeys(("AF-151", "RN-011", "RN-081"), (ADAPTIVE_LIM,)),
    "RN-014": (NotCausal("mean", Step((ORIGINAL,))),),
    "RN-015": (NotCausal("mean", Step((replace(ORIGINAL, metric="deciles_of_text"),))),),
    "RN-018": (NotCausal("max", Step((PER_LAYER,))),),
    "RN-019": (NotCausal("max", Step((replace(PER_LAYER, metric="deciles_of_text"),))),),
    "RN-140": (Level("landmark_study", "lm_rslora"),),
    "RN-141": (Level("landmark_study", "lm_position_adaptive"),),
    **dict.fromkeys(("MT-005", "MT-250"), (HIGH_RANKS,)),
    "MT-034": (Beyond(1000, ("places",)),),
    "MT-060": (Beyond(8192, ("long_context",)),),
    "MT-061": (Beyond(10_000, ("long_context",)),),
    "MT-120": (Holds("ranks", (("rslora", "lora"), ("rslora_r32", "lora_r32")), better=True),),
    "MT-252": (Beyond(8192, ("long_context",)),),
    "AC-003": (Holds("ranks", tuple(("rslora", f"rslora_r{rank}") for rank in (2, 4, 32, 64)), better=False),),
    "AC-011": (
        Holds("modules", tuple(("attention_qv", row) for row in ("attention", "attention_down")), better=False),
    ),
    "AC-021": (Holds("context", tuple((f"rslora_at_{n}", "rslora_at_256") for n in (512, 1024)), better=True),),
}
