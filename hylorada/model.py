"""`HyLoRADAModel`: a Hugging Face causal language model with adapters in place of the layers that are named.

It finds the layers, freezes the base, wraps, delivers token positions, counts, saves and merges. Positions come from
two kinds of hooks. One on the decoder runs once a pass: it derives ids from the padding mask and the cache, which the
base alone does not. One on each attention module hands the ids of *its* call to the layers of its block: activation
checkpointing runs a block again long after the pass, when only the arguments of that call still tell its positions.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hylorada import checkpoint, s2_attention
from hylorada.config import HyLoRADAConfig
from hylorada.errors import HyLoRADAError, near
from hylorada.landmark_redesigns import LearnableBucketLandmark, PerLayerLandmark, PooledLandmark
from hylorada.landmarks import LandmarkLoRA
from hylorada.lora import AtPosition, GatedMagnitude, HyLoRADAUnified, LowRankUpdate, PositionBias, weight_rows
from hylorada.positions import PositionIds
from hylorada.running_pass import RunningPass, positions_of

LLAMA_LIKE = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = {  # layers adapted when the configuration names none, by `model_type`
    "gpt2": ("c_attn", "c_proj"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma", "granite"), LLAMA_LIKE),
}
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
BLOCKS = ("layers", "h")
PARTS = {
    LowRankUpdate: "lora",
    GatedMagnitude: "magnitude",
    PositionBias: "position_bias",
    LandmarkLoRA: "landmark",
    PooledLandmark: "landmark",
}


class HyLoRADAModel(nn.Module):
    """A base model adapted as `config` says; only the adapters train.

    base_model: a causal language model of transformers; its layers are wrapped in place. It stays usable through
    `.base_model`, adapters included.

    Raises:
        HyLoRADAError: the base is no causal language model, a named layer matches nothing, a part finds no place.
    """

    def __init__(self, base_model: PreTrainedModel, config: HyLoRADAConfig | None = None) -> None:
        super().__init__()
        config = HyLoRADAConfig() if config is None else config
        if not isinstance(base_model, PreTrainedModel) or base_model.get_output_embeddings() is None:
            raise HyLoRADAError(f"a {type(base_model).__name__} is no causal language model; use AutoModelForCausalLM.")
        if any(isinstance(module, HyLoRADAUnified) for module in base_model.modules()):
            raise HyLoRADAError("this base model is adapted already; load a fresh one, or merge the first adapter.")
        targets = find_layers(base_model, config.lora_target_modules)
        self.hylorada_config = config
        self.positions = PositionIds()
        self.running = RunningPass(base_model.config)
        base_model.requires_grad_(False)
        self.base_model = base_model
        self.position_bias = self._make_position_bias()
        self._layers = {name: self._wrap(layer) for name, layer in targets.items()}
        self.landmark = self._make_landmark()  # after the layers, so that one seed gives all stages the same A
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        if config.gradient_checkpointing:
            base_model.activation_checkpointing_enable()  # recomputes blocks, non-reentrant
        self._attach()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the adapted base model; arguments and outputs are its own.

        With `labels` and a (batch, seq) `attention_mask`, a target counts when it and the token before it are real:
        under left padding the base alone would also score the first token from padding.
        """
        labels, mask = kwargs.get("labels"), kwargs.get("attention_mask")
        if labels is not None and mask is not None and mask.shape == labels.shape:
            kwargs["labels"] = real_targets(labels, mask)
        return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate with the adapted base model, cached; arguments and outputs are its own."""
        return self.base_model.generate(*args, **kwargs)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train, each once."""
        return [p for p in self.parameters() if p.requires_grad]

    def count_params(self) -> dict[str, int]:
        """Return the number of trained parameters of each part, of all, and of the whole model."""
        counts = dict.fromkeys((*PARTS.values(), "daa", "sparse", "embeddings", "norms"), 0)
        for module in self.modules():
            part = next((part for kind, part in PARTS.items() if isinstance(module, kind)), None)
            if part is not None:
                counts[part] += sum(p.numel() for p in module.parameters() if p.requires_grad)
        counts["trainable"] = sum(p.numel() for p in self.trainable_parameters())
        counts["total"] = sum(p.numel() for p in self.parameters())
        return counts

    def print_trainable_params(self) -> None:
        """Print the trained parameters by part and their share of the model."""
        counts = self.count_params()
        total, trainable = counts.pop("total"), counts.pop("trainable")
        parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
        print(f"trainable {trainable:,} of {total:,} ({100 * trainable / total:.3f} %): {parts}")

    @contextmanager
    def disable_adapter(self) -> Iterator[PreTrainedModel]:
        """Give the base model back for the length of a `with` block, exactly as it was; blocks may nest."""
        if not self._hooks:  # disabled already by an outer block, or merged
            yield self.base_model
            return
        self._detach()
        try:
            yield self.base_model
        finally:
            self._attach()

    def merge_and_unload(self) -> PreTrainedModel:
        """Fold the adapters into the weights (in float32, rounded once) and return the plain base model.

        Raises:
            HyLoRADAError: the model has parts that no weight can hold; they are named, and nothing is changed.
        """
        kept = [name for name in ("position_bias", "landmark") if getattr(self, name) is not None]
        if kept:
            raise HyLoRADAError(
                f"{' and '.join(kept)} cannot merge into the weights (their effect differs from token to token); "
                "keep the adapter beside the base, or train without them."
            )
        with torch.no_grad():
            for layer in self._layers.values():
                rows = weight_rows(layer.base_layer)
                rows.copy_(layer.merged_weight().to(rows.dtype))
        self._detach()
        self._layers = {}
        return self.base_model

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Return every trained tensor by name: what an adapter folder holds."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapter, not the base, to a folder; see `hylorada.checkpoint`."""
        checkpoint.write_adapter(
            Path(folder), self.hylorada_config.to_dict(), describe_base(self.base_model), self.adapter_tensors()
        )

    @classmethod
    def from_pretrained(cls, base_model: PreTrainedModel, folder: str | Path) -> "HyLoRADAModel":
        """Adapt a fresh base model with what `save_pretrained` wrote.

        Raises:
            HyLoRADAError: the folder is not whole, is for another base, or lacks or adds a tensor.
        """
        config, base, tensors = checkpoint.read_adapter(Path(folder))
        here = describe_base(base_model)
        if base != here:
            differing = ", ".join(
                f"{k} {base.get(k)} there, {here.get(k)} here" for k in here if base.get(k) != here[k]
            )
            raise HyLoRADAError(
                f"{folder} is for another base model: {differing}; load it on the one it was trained on."
            )
        model = cls(base_model, HyLoRADAConfig.from_dict(config))
        model.load_adapter_tensors(tensors, folder)
        return model

    def load_adapter_tensors(self, tensors: dict[str, Tensor], source: str | Path) -> None:
        """Copy trained tensors in; each must be there, and nothing else may be (HyLoRADAError naming `source`)."""
        own = self.adapter_tensors()
        checkpoint.check_same_names(tensors, own, Path(source))
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def _wrap(self, layer: nn.Module) -> HyLoRADAUnified:
        config, bias = self.hylorada_config, self.position_bias
        return HyLoRADAUnified(
            layer,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            use_rslora=config.use_rslora,
            orthogonal_init=config.orthogonal_init,
            magnitude=config.use_dora_magnitude,
            scale_at_position=None if bias is None else AtPosition(bias, self.positions),
            position_bias_on=config.position_bias_on,
        )

    def _make_position_bias(self) -> PositionBias | None:
        config = self.hylorada_config
        if not config.position_bias_enabled:
            return None
        bias = PositionBias(config.position_num_buckets, self._max_positions(), config.bucket_spacing)
        return bias.to(self.base_model.device)

    def _make_landmark(self) -> LandmarkLoRA | PooledLandmark | PerLayerLandmark | None:
        config = self.hylorada_config
        if not config.landmark_enabled:
            return None
        size, number, dropout = self.base_model.config.hidden_size, config.num_landmarks, config.lora_dropout
        match config.landmark_design:
            case "original":
                landmark = PooledLandmark(size, number, dropout, config.landmark_pooling)
            case "per_layer":
                blocks = self.base_model.config.num_hidden_layers
                landmark = PerLayerLandmark(blocks, size, number, dropout, config.landmark_pooling)
            case "learnable_bucket":
                landmark = LearnableBucketLandmark(*self._bucketed(dropout))
            case _:
                landmark = LandmarkLoRA(*self._bucketed(dropout), bucket_spacing=config.bucket_spacing)
        return landmark.to(self.base_model.device)

    def _bucketed(self, dropout: float) -> tuple[int, int, int, int, float]:
        config = self.hylorada_config
        size = self.base_model.config.hidden_size
        return size, config.num_landmarks, config.num_position_buckets, self._max_positions(), dropout

    def _max_positions(self) -> int:
        limit = self.hylorada_config.max_positions or getattr(self.base_model.config, "max_position_embeddings", None)
        if limit is None:
            raise HyLoRADAError("this base model states no context length; set max_positions to the length in tokens.")
        return limit

    def _attach(self) -> None:
        self._group_attention()
        for name, layer in self._layers.items():
            self.base_model.set_submodule(name, layer)
        decoder = self.base_model.get_decoder()
        self._hooks = [decoder.register_forward_pre_hook(self._begin_pass, with_kwargs=True)]
        if self.position_bias is not None:
            attentions = find_attentions(decoder)
            self._hooks += [a.register_forward_pre_hook(self._enter_attention, with_kwargs=True) for a in attentions]
        self._hooks += self._hook_landmark(decoder)

    def _group_attention(self) -> None:
        config = self.hylorada_config
        if not config.s2_attn_enabled:
            return
        context = getattr(self.base_model.config, "max_position_embeddings", math.inf)
        if config.s2_group_size >= context:
            raise HyLoRADAError(
                f"s2_group_size={config.s2_group_size} holds the whole context of {context} tokens, so "
                "S²-Attn would never act; use smaller groups, or set s2_attn_enabled=False."
            )
        s2_attention.enable(self.base_model, config.s2_group_size, config.s2_sink_tokens)

    def _hook_landmark(self, decoder: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        match self.landmark:
            case None:
                return []
            case PerLayerLandmark():  # a block's own hook is outside activation checkpointing: it runs once a pass
                pairs = enumerate(zip(find_blocks(decoder), self.landmark, strict=True))
                return [b.register_forward_hook(partial(self._leave_pooled, part, slot)) for slot, (b, part) in pairs]
            case PooledLandmark():
                return [find_final_norm(decoder).register_forward_hook(partial(self._leave_pooled, self.landmark, 0))]
            case _:
                return [find_final_norm(decoder).register_forward_hook(self._leave_final_norm)]

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        s2_attention.disable(self.base_model)
        for name, layer in self._layers.items():
            self.base_model.set_submodule(name, layer.base_layer)

    def _begin_pass(self, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        names = inspect.signature(decoder.forward).parameters
        kwargs = dict(zip(names, args, strict=False)) | kwargs
        self.positions.set(positions_of(kwargs))
        if kwargs.get("attention_mask") is not None:  # without a mask the decoder counts as we do
            kwargs["position_ids"] = positions_of(kwargs)
        if isinstance(self.landmark, PooledLandmark | PerLayerLandmark):
            self.running.begin(kwargs, decoder.training)
        return (), kwargs

    def _enter_attention(self, attention: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if kwargs.get("position_ids") is None:
            raise HyLoRADAError(
                f"{type(attention).__name__} gets no position_ids from its model, so a position bias cannot act here; "
                "set position_bias_enabled=False."
            )
        self.positions.set(kwargs["position_ids"])

    def _leave_final_norm(self, norm: nn.Module, args: tuple, hidden: Tensor) -> Tensor:
        return self.landmark(hidden, self.positions.get())

    def _leave_pooled(self, part: PooledLandmark, slot: int, *call: Any) -> Tensor:
        hidden = call[-1]  # of (module, arguments, output)
        if part.causal:
            return part(hidden, *self.running.look_back(hidden, slot))
        if self.running.past:
            raise HyLoRADAError(
                "landmark_pooling='sequence' sees the whole sequence, future included, and cannot go on from a cache; "
                "generate with use_cache=False, or use 'causal'."
            )
        return part(hidden, hidden, self.running.real(hidden))


def find_layers(base_model: PreTrainedModel, names: tuple[str, ...] | None) -> dict[str, nn.Module]:
    """Return the layers to adapt by full name; a name matches a layer's full name or its dotted end.

    Raises:
        HyLoRADAError: an unknown family without names, or a name that matches nothing (nearest names are listed).
    """
    if names is None:
        family = base_model.config.model_type
        if family not in TARGETS:
            raise HyLoRADAError(f"the layers to adapt in a {family!r} model are not known; set lora_target_modules.")
        names = TARGETS[family]
    found: dict[str, nn.Module] = {}
    modules = dict(base_model.named_modules())
    for name in names:
        matches = {full: module for full, module in modules.items() if full == name or full.endswith("." + name)}
        if not matches:
            ends = {full.rsplit(".", 1)[-1] for full, m in modules.items() if full and not any(m.children())}
            raise HyLoRADAError(f"lora_target_modules: {name!r} matches no layer of this model; {near(name, ends)}")
        for full, module in matches.items():
            if module is base_model.get_output_embeddings():
                raise HyLoRADAError(
                    f"lora_target_modules: {full!r} is the output layer, whose weight may be the input embedding's too "
                    "and which the loss applies in chunks; name layers inside the blocks."
                )
            weight_rows(module)  # raises for a layer that cannot be adapted
            found[full] = module
    return {full: found[full] for full in modules if full in found}  # in the model's order


def find_attentions(decoder: nn.Module) -> list[nn.Module]:
    """Return the self-attention modules of the decoder (HyLoRADAError when none is recognised)."""
    found = [m for name, m in decoder.named_modules() if type(m).__name__.endswith("Attention") and "cross" not in name]
    if not found:
        raise HyLoRADAError("no attention module was found to deliver positions; set position_bias_enabled=False.")
    return found


def find_blocks(decoder: nn.Module) -> nn.ModuleList:
    """Return the decoder's blocks (HyLoRADAError when they are not recognised)."""
    for name in BLOCKS:
        if isinstance(blocks := getattr(decoder, name, None), nn.ModuleList):
            return blocks
    raise HyLoRADAError(f"{type(decoder).__name__} has none of {', '.join(BLOCKS)}; use another landmark_design.")


def find_final_norm(decoder: nn.Module) -> nn.Module:
    """Return the norm after the last block, where landmarks act (HyLoRADAError when none is recognised)."""
    for name in FINAL_NORMS:
        if isinstance(norm := getattr(decoder, name, None), nn.Module):
            return norm
    raise HyLoRADAError(f"{type(decoder).__name__} has none of {', '.join(FINAL_NORMS)}; set landmark_enabled=False.")


def real_targets(labels: Tensor, mask: Tensor) -> Tensor:
    """Return labels (batch, seq) with -100 wherever the target or its context is padding."""
    real = mask.bool()
    context = torch.cat([real[:, :1], real[:, :-1]], dim=1)
    return labels.masked_fill(~(real & context), -100)


def describe_base(base_model: PreTrainedModel) -> dict[str, Any]:
    """Return the shape that tells one base model from another that an adapter would not fit."""
    config = base_model.config
    return {name: getattr(config, name) for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")}
