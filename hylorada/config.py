"""What an adapter is made of: one flat, frozen, checked description (`HyLoRADAConfig`)."""

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any

from hylorada.arguments import checked, named_settings
from hylorada.errors import HyLoRADAError, near
from hylorada.presets import PRESETS
from hylorada.typed import QUIET, check_kinds, check_size, plain

BUCKET_SPACINGS = ("log", "linear")
LANDMARK_DESIGNS = ("position_adaptive", "learnable_bucket", "original", "per_layer", "constant")
POOLED_DESIGNS = ("original", "per_layer")
POOLINGS = ("causal", "sequence")
POSITION_BIAS_PLACES = ("output", "update")
ROPE_SCALINGS = ("linear", "dynamic", "yarn")
STARTS = ("pissa",)
MOST = {  # beyond what any model is wide or long; memory is given to these times a width of the model
    **{"lora_rank": 2**17, "num_landmarks": 2**17, "sparse_bottleneck": 2**20},
    **{"position_num_buckets": 2**24, "num_position_buckets": 2**24},
}
PARTS_THAT_TRAIN = (
    *("lora_enabled", "position_bias_enabled", "landmark_enabled", "daa_enabled", "sparse_enabled"),
    *("train_embeddings", "train_norms"),
)
PUBLISHED_ELSEWHERE = {  # fields of the published configuration class that no adapter is made of
    "mixed_precision": "it is one of TrainingConfig",
    "max_sequence_length": "give max_positions",
    "s2_shift_ratio": "every other layer shifts by half a group",
    "sparse_adapter_dim": "give sparse_bottleneck",
    "sparse_topk_ratio": "give sparse_top_share",
}


@named_settings("adapter", PUBLISHED_ELSEWHERE, {})
@dataclass(frozen=True, kw_only=True)
class HyLoRADAConfig:
    """Every choice of the method, with the defaults of the published configuration class.

    Sizes are counts, `max_positions` is in tokens (None: the model's own context length) and `lora_target_modules`
    holds layer names or dotted suffixes, or is one pattern that full names match as a whole, or "all-linear" (None: the
    attention projections, see `hylorada.targets`). How layers are told apart, and keys of the two patterns are read,
    says `hylorada.layer_choice`.

    Raises:
        HyLoRADAError: a value outside what the field allows, saying what was given and what to do; for a name that is
            no setting, `UnknownSettingError` with the nearest ones.
    """

    lora_enabled: bool = True  # without it the position bias alone acts on the targets
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    lora_target_modules: tuple[str, ...] | str | None = None
    use_rslora: bool = True  # alpha/sqrt(r) instead of alpha/r
    orthogonal_init: bool = True  # A starts with orthonormal rows instead of Kaiming-uniform ones
    use_dora_magnitude: bool = False
    magnitude_gated: bool = True  # trained gate and blend around the magnitude; without them it is DoRA
    position_bias_enabled: bool = True
    position_num_buckets: int = 64
    position_bias_on: str = "output"  # one of POSITION_BIAS_PLACES
    landmark_enabled: bool = True
    landmark_design: str = "position_adaptive"  # one of LANDMARK_DESIGNS
    landmark_pooling: str = "causal"  # one of POOLINGS, for the designs that pool; "sequence" sees the future
    num_landmarks: int = 8
    num_position_buckets: int = 32
    bucket_spacing: str = "log"  # one of BUCKET_SPACINGS
    max_positions: int | None = None
    s2_attn_enabled: bool = False  # in training alone
    s2_group_size: int = 2048  # tokens, even
    s2_sink_tokens: int = 0  # first tokens of a row that stay visible to all
    daa_enabled: bool = False  # direct attention adaptation
    sparse_enabled: bool = False  # sparse bottleneck after each feed-forward block
    sparse_bottleneck: int = 128
    sparse_top_share: float = 0.05  # of the bottleneck's units, for each token
    train_embeddings: bool = False
    train_norms: bool = False
    rope_scaling_type: str | None = None  # one of ROPE_SCALINGS
    rope_scaling_factor: float = 1.0
    gradient_checkpointing: bool = False
    # younger than the first records: left out of what is written while they have their defaults
    exclude_modules: tuple[str, ...] | str | None = field(default=None, metadata=QUIET)  # as lora_target_modules
    layers_to_transform: tuple[int, ...] | None = field(default=None, metadata=QUIET)  # blocks, from 0; None: all
    rank_pattern: dict[str, int] | None = field(default=None, metadata=QUIET)  # in place of lora_rank
    alpha_pattern: dict[str, float] | None = field(default=None, metadata=QUIET)  # in place of lora_alpha
    init_lora_weights: str | None = field(default=None, metadata=QUIET)  # one of STARTS; None: as orthogonal_init says

    def __post_init__(self) -> None:
        check_kinds(self, "lora_target_modules", "exclude_modules", "layers_to_transform")
        counts = ("lora_rank", "position_num_buckets", "num_landmarks", "num_position_buckets", "sparse_bottleneck")
        for name in counts:
            check_size(name, getattr(self, name), MOST[name])
        if self.max_positions is not None:
            check_size("max_positions", self.max_positions)
        if not 0 < self.lora_alpha < math.inf:
            raise HyLoRADAError(f"lora_alpha={self.lora_alpha} is not allowed; use a positive number, such as 16.0.")
        if not 0.0 <= self.lora_dropout < 1.0:
            raise HyLoRADAError(f"lora_dropout={self.lora_dropout} is not a share; use 0.0 up to, not including, 1.0.")
        if not 0.0 < self.sparse_top_share <= 1.0:
            raise HyLoRADAError(f"sparse_top_share={self.sparse_top_share} is not a share; use more than 0, up to 1.0.")
        if self.landmark_design == "learnable_bucket" and self.num_position_buckets < 2:
            raise HyLoRADAError("num_position_buckets=1 leaves no boundary to learn; use 2 or more.")
        for name, allowed in (
            ("bucket_spacing", BUCKET_SPACINGS),
            ("landmark_design", LANDMARK_DESIGNS),
            ("position_bias_on", POSITION_BIAS_PLACES),
            ("landmark_pooling", POOLINGS),
        ):
            if getattr(self, name) not in allowed:
                raise HyLoRADAError(
                    f"{name}={getattr(self, name)!r} is not known; {near(getattr(self, name), allowed)}"
                )
        if self.landmark_pooling == "sequence" and self.landmark_design not in POOLED_DESIGNS:
            raise HyLoRADAError(
                f"landmark_pooling='sequence' has nothing to act on in landmark_design={self.landmark_design!r}; "
                f"it is for {' and '.join(POOLED_DESIGNS)}."
            )
        if self.landmark_design == "per_layer" and self.num_landmarks % 2:
            raise HyLoRADAError(
                f"num_landmarks={self.num_landmarks} leaves half a landmark a layer in landmark_design='per_layer'; "
                "use an even number."
            )
        self._check_groups()
        self._check_rope()
        self._check_targets("lora_target_modules", "'all-linear', or None for the attention projections")
        self._check_targets("exclude_modules", "or None for no exclusion")
        self._check_blocks()
        self._check_patterns()
        self._check_parts()

    def _check_groups(self) -> None:
        group, sinks = self.s2_group_size, self.s2_sink_tokens
        check_size("s2_group_size", group)
        if group < 2 or group % 2:
            raise HyLoRADAError(
                f"s2_group_size={group} is not allowed: every other layer shifts by half a group; use an even number, "
                "2 or more."
            )
        if not 0 <= sinks < group:
            raise HyLoRADAError(f"s2_sink_tokens={sinks} does not fit s2_group_size={group}; use 0 up to {group - 1}.")
        if sinks and not self.s2_attn_enabled:
            raise HyLoRADAError(f"s2_sink_tokens={sinks} acts in S²-Attn alone; set s2_attn_enabled=True, or sinks 0.")

    def _check_rope(self) -> None:
        kind, factor = self.rope_scaling_type, self.rope_scaling_factor
        if kind is not None and kind not in ROPE_SCALINGS:
            raise HyLoRADAError(f"rope_scaling_type={kind!r} is not known; {near(kind, ROPE_SCALINGS)}")
        if kind is None and factor != 1.0:
            raise HyLoRADAError(
                f"rope_scaling_factor={factor} has no scaling to act in; set rope_scaling_type, such as 'yarn'."
            )
        if kind is not None and not (math.isfinite(factor) and factor > 1.0):
            raise HyLoRADAError(
                f"rope_scaling_factor={factor} scales nothing; use a number above 1, such as 2.0 for twice the context."
            )

    def _check_parts(self) -> None:
        if not any(getattr(self, name) for name in PARTS_THAT_TRAIN):
            raise HyLoRADAError(f"nothing is left to train; set one of {', '.join(PARTS_THAT_TRAIN)}.")
        if not self.magnitude_gated and not self.use_dora_magnitude:
            raise HyLoRADAError("magnitude_gated=False has no magnitude to act on; set use_dora_magnitude=True.")
        if self.lora_enabled:
            return
        if self.use_dora_magnitude:
            raise HyLoRADAError("use_dora_magnitude=True scales the adapted weight; it needs lora_enabled=True.")
        if self.position_bias_enabled and self.position_bias_on == "update":
            raise HyLoRADAError("position_bias_on='update' has no update without lora_enabled=True; use 'output'.")

    def _check_targets(self, setting: str, otherwise: str) -> None:
        targets = getattr(self, setting)
        if targets is None:
            return
        if isinstance(targets, str) and targets:
            _check_pattern(setting, targets)
            return
        if isinstance(targets, list | set):  # JSON and YAML know lists only; the frozen config keeps a tuple
            object.__setattr__(self, setting, tuple(targets if isinstance(targets, list) else sorted(targets)))
        names = getattr(self, setting)
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) and n for n in names):
            raise HyLoRADAError(
                f"{setting}={targets!r} is not a list of layer names; "
                f"give names such as ['q_proj', 'v_proj'], one pattern over full names, {otherwise}."
            )
        if len(set(names)) != len(names):
            raise HyLoRADAError(f"{setting}={list(names)} names a layer twice; name each once.")

    def _check_blocks(self) -> None:
        given = self.layers_to_transform
        if given is None:
            return
        numbers = tuple(given) if isinstance(given, list | tuple | range) else (given,)
        if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
            raise HyLoRADAError(
                f"layers_to_transform={given!r} are no numbers of blocks; give some, such as [0, 1], or None for all."
            )
        object.__setattr__(self, "layers_to_transform", tuple(dict.fromkeys(numbers)))

    def _check_patterns(self) -> None:
        for setting in ("rank_pattern", "alpha_pattern"):
            for key, value in (getattr(self, setting) or {}).items():
                _check_pattern(setting, key)
                if not 0 < value < math.inf:
                    raise HyLoRADAError(f"{setting}: {key!r} has {value}; use a positive number.")
                if setting == "rank_pattern":
                    check_size(f"rank_pattern, {key!r}", value, MOST["lora_rank"])
        if self.init_lora_weights is not None and self.init_lora_weights not in STARTS:
            raise HyLoRADAError(
                f"init_lora_weights={self.init_lora_weights!r} is not known; {near(self.init_lora_weights, STARTS)}, "
                "or leave it out and set orthogonal_init."
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "HyLoRADAConfig":
        """Return a named configuration of the published guidelines (`hylorada.presets`), with changes of your own."""
        if not isinstance(name, str) or name not in PRESETS:
            raise HyLoRADAError(f"preset {name!r} is not known; {near(str(name), PRESETS)}")
        return cls.from_dict(PRESETS[name] | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold and `from_dict` reads back."""
        return plain(self)

    @classmethod
    @checked()
    def from_dict(cls, values: dict[str, Any]) -> "HyLoRADAConfig":
        """Build from plain values; a name that is no setting raises HyLoRADAError with the nearest ones."""
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise HyLoRADAError(f"{values!r} is no dictionary of settings; give names and values.")
        return cls(**values)


IS_SETTING = {each.name: "it is a setting of HyLoRADAConfig, given as config" for each in fields(HyLoRADAConfig)}


def _check_pattern(setting: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise HyLoRADAError(f"{setting}: {pattern!r} is no regular expression ({error}).") from error
