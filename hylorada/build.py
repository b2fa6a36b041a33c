"""From the configuration to modules: each function makes one part for a base model, or nothing where it is not wanted.

The parts take plain arguments and know no configuration; here the two meet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from hylorada.attention_interface import find_attentions_on_interface
from hylorada.config import HyLoRADAConfig
from hylorada.daa import DirectAttention
from hylorada.decoder import decoder_of
from hylorada.errors import HyLoRADAError
from hylorada.find import find_feed_forwards, find_final_norm
from hylorada.idle import RunningSequence
from hylorada.landmark_redesigns import ConstantVector, LearnableBucketLandmark, PerLayerLandmark, PooledLandmark
from hylorada.landmarks import LandmarkLoRA, PositionGatedLandmark
from hylorada.layer_choice import by_pattern, chosen_layers
from hylorada.lora import HyLoRADAUnified
from hylorada.position_bias import AtPosition, PositionBias
from hylorada.positions import PositionIds
from hylorada.room import check_room
from hylorada.rope import usable_context
from hylorada.sparse_mlp import SparseMLP
from hylorada.trained_weights import wrap_embeddings, wrap_norms

Landmark = PositionGatedLandmark | PooledLandmark | PerLayerLandmark | ConstantVector


@dataclass(frozen=True)
class Parts:
    """What an adapter puts into a base model; None, or no layer, where it is not wanted.

    layers: what stands in for modules of the base, by their full names; each holds the original as `base_layer`.
    landmark_place: the full name of the norm it acts after, None where it acts after blocks. daa, sparse: one module
    for each layer of the base, in its order.
    """

    layers: dict[str, nn.Module] = field(default_factory=dict)
    position_bias: PositionBias | None = None
    landmark: Landmark | None = None
    landmark_place: str | None = None
    daa: nn.ModuleList | None = None
    sparse: nn.ModuleList | None = None


def make_parts(
    base: PreTrainedModel, config: HyLoRADAConfig, positions: PositionIds, sequence: RunningSequence
) -> Parts:
    """Return all parts that are asked for; positions, sequence: what the layers will be told of each pass.

    Raises:
        HyLoRADAError: there is too little memory for them, or they find no place in the base; all that stands in the
            way is said at once.
    """
    problems: dict[str, None] = {}  # for its order

    def made(make: Callable, *arguments: Any) -> Any:
        try:
            return make(base, *arguments)
        except HyLoRADAError as problem:
            problems[str(problem)] = None
            return None

    chosen = made(chosen_layers, config) if config.lora_enabled else {}  # once: what it leaves out is told
    check_room(base, config, chosen or {}, config.max_positions or usable_context(base.config) or 0)
    bias = made(make_position_bias, config)
    layers = {} if chosen is None else made(make_layers, config, chosen, bias, positions, sequence)
    landmark = made(make_landmark, config)  # after the layers: one seed, one A in all stages
    after_norm = landmark is not None and not isinstance(landmark, PerLayerLandmark)
    parts = Parts(
        layers=layers,
        position_bias=bias,
        landmark=landmark,
        landmark_place=made(find_final_norm) if after_norm else None,
        daa=made(make_direct_attention, config),
        sparse=made(make_sparse, config),
    )
    if problems:
        raise HyLoRADAError(" And: ".join(problems))
    return parts


def make_layers(
    base: PreTrainedModel,
    config: HyLoRADAConfig,
    chosen: dict[str, nn.Module],
    bias: PositionBias | None,
    positions: PositionIds,
    sequence: RunningSequence,
) -> dict[str, nn.Module]:
    """Return what stands in for the chosen layers, and the embeddings and norms that train whole."""
    layers: dict[str, nn.Module] = {}
    at_position = None if bias is None else AtPosition(bias, positions, sequence)
    if config.lora_enabled:
        ranks = by_pattern(config.rank_pattern, "rank_pattern", chosen)
        alphas = by_pattern(config.alpha_pattern, "alpha_pattern", chosen)
        for name, layer in chosen.items():
            layers[name] = HyLoRADAUnified(
                layer,
                rank=ranks.get(name, config.lora_rank),
                alpha=alphas.get(name, config.lora_alpha),
                dropout=config.lora_dropout,
                use_rslora=config.use_rslora,
                orthogonal_init=config.orthogonal_init,
                magnitude=config.use_dora_magnitude,
                magnitude_gated=config.magnitude_gated,
                init_lora_weights=config.init_lora_weights,
                scale_at_position=at_position,
                position_bias_on=config.position_bias_on,
                sequence=sequence,
            )
    if config.train_embeddings:
        layers |= wrap_embeddings(base)
    if config.train_norms:
        layers |= wrap_norms(base)
    return layers


def make_position_bias(base: PreTrainedModel, config: HyLoRADAConfig) -> PositionBias | None:
    """Return the one table of the whole model."""
    if not config.position_bias_enabled:
        return None
    bias = PositionBias(config.position_num_buckets, max_positions(base, config), config.bucket_spacing)
    return bias.to(base.device)


def make_landmark(base: PreTrainedModel, config: HyLoRADAConfig) -> Landmark | None:
    """Return the landmarks of the design that is asked for."""
    if not config.landmark_enabled:
        return None
    size, number, dropout = base.config.get_text_config().hidden_size, config.num_landmarks, config.lora_dropout
    match config.landmark_design:
        case "original" | "per_layer" if base.config.get_text_config() is not base.config:
            raise HyLoRADAError(
                f"landmark_design={config.landmark_design!r} pools under the padding mask, which a multimodal "
                f"{type(base).__name__} does not hand to its language model; use another design."
            )
        case "original" | "per_layer" if "past_key_values" not in signature(decoder_of(base).forward).parameters:
            raise HyLoRADAError(
                f"landmark_design={config.landmark_design!r} pools over earlier states, and the cache of "
                f"a {type(base).__name__} has no place for them; use another design."
            )
        case "original":
            landmark = PooledLandmark(size, number, dropout, config.landmark_pooling)
        case "per_layer":
            landmark = PerLayerLandmark(
                base.config.get_text_config().num_hidden_layers, size, number, dropout, config.landmark_pooling
            )
        case "constant":
            landmark = ConstantVector(size)
        case "learnable_bucket":
            buckets = config.num_position_buckets, max_positions(base, config)
            landmark = LearnableBucketLandmark(size, number, *buckets, dropout)
        case _:
            buckets = config.num_position_buckets, max_positions(base, config)
            landmark = LandmarkLoRA(size, number, *buckets, dropout, config.bucket_spacing)
    return landmark.to(base.device)


def make_direct_attention(base: PreTrainedModel, config: HyLoRADAConfig) -> nn.ModuleList | None:
    """Return alpha and beta of each attention module, in the order of the layers."""
    if not config.daa_enabled:
        return None
    heads = [attention.config.num_attention_heads for attention in find_attentions_on_interface(base, "DAA")]
    return nn.ModuleList(DirectAttention(number) for number in heads).to(base.device)


def make_sparse(base: PreTrainedModel, config: HyLoRADAConfig) -> nn.ModuleList | None:
    """Return the sparse bottleneck of each feed-forward block, in the order of the layers."""
    if not config.sparse_enabled:
        return None
    sizes = base.config.get_text_config().hidden_size, config.sparse_bottleneck, config.sparse_top_share
    return nn.ModuleList(SparseMLP(*sizes) for _ in find_feed_forwards(decoder_of(base))).to(base.device)


def max_positions(base: PreTrainedModel, config: HyLoRADAConfig) -> int:
    """Return the length over which buckets spread, in tokens: the setting, else the context of the base model.

    Raises:
        HyLoRADAError: neither says one.
    """
    limit = config.max_positions or usable_context(base.config)
    if limit is None:
        raise HyLoRADAError("this base model states no context length; set max_positions to the length in tokens.")
    return limit
