"""The methods that are compared, as rows of one table. Needs no torch.

A row says which parts a method has. Everything else (target layers, rank, alpha, dropout, scale, sizes) comes from one
configuration shared by all, so that a benchmark compares like with like; only `lora` has a scale and a start of its
own, alpha/r and a random A, as it was published: both tell it from `rslora`.
"""

from dataclasses import dataclass, replace
from typing import Any

from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near

NO_PARTS = {  # what a row does not name is off
    "lora_enabled": True,
    "use_dora_magnitude": False,
    "magnitude_gated": True,
    "position_bias_enabled": False,
    "landmark_enabled": False,
    "s2_attn_enabled": False,
    "s2_sink_tokens": 0,
    "daa_enabled": False,
    "sparse_enabled": False,
    "train_embeddings": False,
    "train_norms": False,
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of the benchmark.

    parts: settings that make it what it is, on top of `NO_PARTS`. stays: the parts that cannot merge into the weights.
    not_neutral: why a fresh adapter moves the logits, empty when it does not.
    """

    label: str
    parts: dict[str, Any]
    source: str
    stays: tuple[str, ...] = ()
    not_neutral: str = ""


METHODS = {
    "lora": Method(
        label="LoRA", parts={"use_rslora": False, "orthogonal_init": False}, source="arXiv:2106.09685, with alpha/r"
    ),
    "rslora": Method(label="rsLoRA", parts={"use_rslora": True}, source="arXiv:2312.03732, with alpha/sqrt(r)"),
    "dora": Method(
        label="DoRA", parts={"use_dora_magnitude": True, "magnitude_gated": False}, source="arXiv:2402.09353"
    ),
    "lorada": Method(label="LoRaDA", parts={"daa_enabled": True}, source="the published documents", stays=("daa",)),
    "longlora": Method(
        label="LongLoRA",
        parts={"s2_attn_enabled": True, "train_embeddings": True, "train_norms": True},
        source="arXiv:2309.12307, without its leak over the end of the row",
    ),
    "sparse": Method(
        label="SparseAdapter",
        parts={"lora_enabled": False, "sparse_enabled": True},
        source="the published documents",
        stays=("sparse",),
    ),
    "hylorada": Method(
        label="HyLoRADA",
        parts={"use_dora_magnitude": True, "position_bias_enabled": True, "landmark_enabled": True},
        source="this paper",
        stays=("position_bias", "landmark"),
        not_neutral="landmarks start near zero, not at zero, so that their gates learn from the first step",
    ),
}


def method_config(method: str, config: HyLoRADAConfig | None = None) -> HyLoRADAConfig:
    """Return the configuration of a method: `config` (default: the library's) with the parts of its row, no others.

    Raises:
        HyLoRADAError: the method is not in the table.
    """
    if config is not None and not isinstance(config, HyLoRADAConfig):
        raise HyLoRADAError(
            f"{config!r} is no HyLoRADAConfig; make one with HyLoRADAConfig(...), .preset or .from_dict."
        )
    if not isinstance(method, str) or method not in METHODS:
        raise HyLoRADAError(f"method {method!r} is not known; {near(str(method), METHODS)}")
    return replace(HyLoRADAConfig() if config is None else config, **NO_PARTS | METHODS[method].parts)
