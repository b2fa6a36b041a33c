"""`HyLoRADAModel`: a Hugging Face causal language model with adapters in place of the layers that are named.

It finds the layers, freezes the base, wraps, delivers token positions, counts, saves and merges. Positions come from
two kinds of hooks. One on the decoder runs once a pass: it derives ids from the padding mask and the cache, which the
base alone does not. One on each attention module hands the ids of *its* call to the layers of its block: activation
checkpointing runs a block again long after the pass, when only the arguments of that call still tell its positions.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hylorada import build, checkpoint, daa, rope, s2_attention
from hylorada.config import HyLoRADAConfig
from hylorada.daa import DirectAttention
from hylorada.errors import HyLoRADAError
from hylorada.find import find_attentions_by_name, find_blocks, find_feed_forwards, find_final_norm, find_layers
from hylorada.landmark_redesigns import ConstantVector, PerLayerLandmark, PooledLandmark
from hylorada.landmarks import PositionGatedLandmark
from hylorada.lora import AtPosition, GatedMagnitude, LowRankUpdate, PositionBias
from hylorada.positions import PositionIds
from hylorada.running_pass import RunningPass, positions_of
from hylorada.sparse_mlp import SparseMLP
from hylorada.trained_weights import TrainedEmbedding, TrainedNorm

PARTS = {
    LowRankUpdate: "lora",
    GatedMagnitude: "magnitude",
    PositionBias: "position_bias",
    PositionGatedLandmark: "landmark",
    PooledLandmark: "landmark",
    ConstantVector: "landmark",
    DirectAttention: "daa",
    SparseMLP: "sparse",
    TrainedEmbedding: "embeddings",
    TrainedNorm: "norms",
}
DYNAMIC = ("position_bias", "landmark", "daa", "sparse")  # what no weight can hold: it differs from token to token

WITHOUT_WEIGHTS = {  # what the merged weights have taken over
    "lora_enabled": False,
    "use_dora_magnitude": False,
    "magnitude_gated": True,
    "train_embeddings": False,
    "train_norms": False,
    "rope_scaling_type": None,
    "rope_scaling_factor": 1.0,
}


class HyLoRADAModel(nn.Module):
    """A base model adapted as `config` says; only the adapters train.

    base_model: a causal language model of transformers; its layers are wrapped in place. It stays usable through
    `.base_model`, adapters included.

    Raises:
        HyLoRADAError: the base is no causal language model, a named layer matches nothing, a part finds no place; the
            base is then as it was.
    """

    def __init__(self, base_model: PreTrainedModel, config: HyLoRADAConfig | None = None) -> None:
        super().__init__()
        config = HyLoRADAConfig() if config is None else config
        _check_arguments(base_model, config)
        self.hylorada_config = config
        self.base_model = base_model
        self.state = "on"  # or "disabled" for the length of a block, or "merged" for good
        self.positions = PositionIds()
        self.running = RunningPass(base_model.config)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._layers: dict[str, nn.Module] = {}
        self._trained_before = [p for p in base_model.parameters() if p.requires_grad]
        try:
            self._scale_rope()  # first: buckets spread over the context length that it sets
            self.position_bias = build.make_position_bias(base_model, config)
            layers = build.make_layers(base_model, config, self.position_bias, self.positions)
            self.landmark = build.make_landmark(base_model, config)  # after the layers: one seed, one A in all stages
            self.daa = build.make_direct_attention(base_model, config)
            self.sparse = build.make_sparse(base_model, config)
            base_model.requires_grad_(False)
            self._layers = layers
            self._attach()
            if config.gradient_checkpointing:
                _checkpoint_blocks(base_model)
        except BaseException:  # an interrupt or a lack of memory too: the base is the caller's
            self._take_off()
            raise
        base_model.is_adapted_by_hylorada = True

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
        """Return the parameters that train, each once (HyLoRADAError while the adapter is off)."""
        self._require_on()
        return [p for p in self.parameters() if p.requires_grad]

    def count_params(self) -> dict[str, int]:
        """Return the trained parameters of each part, of all, and of the whole model (HyLoRADAError while off)."""
        self._require_on()
        counts = dict.fromkeys(PARTS.values(), 0)
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
        if self.state != "on":  # disabled already by an outer block, or merged
            yield self.base_model
            return
        self._detach()
        rope.disable(self.base_model)
        self.state = "disabled"
        try:
            yield self.base_model
        finally:
            self._scale_rope()
            try:
                self._attach()
            except HyLoRADAError:  # what the block did to the base does not allow it
                self._detach()
                raise
            self.state = "on"

    def merge_and_unload(self, keep_dynamic: bool = False) -> "PreTrainedModel | HyLoRADAModel":
        """Fold the adapters into the weights (in float32, rounded once) and return the plain base model.

        Parts whose effect differs from token to token fit no weight. They are refused, or with `keep_dynamic` they
        stay: then this model is returned, its layers plain again, with such parts alone. It saves and loads as an
        adapter of the merged base.

        Raises:
            HyLoRADAError: there are such parts and they are not kept (they are named), the position bias acts on the
                update alone, a trained number is not finite, or the adapter is disabled. Nothing is changed.
        """
        if self.state == "merged":
            return self.base_model
        self._require_on()
        kept = [part for part in DYNAMIC if getattr(self, part) is not None]
        if kept and not keep_dynamic:
            raise HyLoRADAError(
                f"{' and '.join(kept)} cannot merge into the weights (their effect differs from token to token); keep "
                "the adapter beside the base, train without them, or pass keep_dynamic=True to merge the rest."
            )
        if self.position_bias is not None and self.hylorada_config.position_bias_on == "update":
            raise HyLoRADAError(
                "position_bias_on='update' scales the update apart from the weight, so the two cannot merge; keep the "
                "adapter beside the base."
            )
        broken = [name for name, tensor in self.adapter_tensors().items() if not tensor.isfinite().all()]
        if broken:
            raise HyLoRADAError(f"{len(broken)} tensors hold NaN or infinity, {broken[0]} first; nothing is merged.")
        self._detach()
        rope.settle(self.base_model)  # the scaling is part of the base model's own configuration now
        for layer in self._layers.values():
            layer.merge()
        folded, self._layers = self._layers, {}
        if not kept:
            self.state, self.base_model.is_adapted_by_hylorada = "merged", False
            self._keep_activations()
            return self.base_model
        # such an adapter fits no other base than this one, which looks like the one it came from
        self.base_model.config.hylorada_merged = _fingerprint(layer.base_layer for layer in folded.values())
        self.hylorada_config = replace(self.hylorada_config, **WITHOUT_WEIGHTS)
        self._attach()
        return self

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Return every trained tensor by name, as an adapter folder holds it (HyLoRADAError while it is off)."""
        self._require_on()
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
                f"{k} {base.get(k)} there, {here.get(k)} here"
                for k in sorted(here.keys() | base.keys())
                if base.get(k) != here.get(k)
            )
            raise HyLoRADAError(
                f"{folder} is for another base model: {differing}; load it on the one it was trained on."
            )
        model = cls(base_model, HyLoRADAConfig.from_dict(config))
        try:
            model.load_adapter_tensors(tensors, folder)
        except HyLoRADAError:
            model._take_off()
            raise
        return model

    def load_adapter_tensors(self, tensors: dict[str, Tensor], source: str | Path) -> None:
        """Copy trained tensors in; each must be there, and nothing else may be (HyLoRADAError naming `source`)."""
        own = self.adapter_tensors()
        checkpoint.check_same_names(tensors, own, Path(source))
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HyLoRADAModel":
        probe = fn(torch.zeros((), device=self.base_model.device))
        if probe.dtype != torch.float32:
            raise HyLoRADAError(
                f"the trained tensors stay float32; to compute in {probe.dtype}, load or cast the base model before it "
                "is adapted."
            )
        return super()._apply(fn, recurse)

    def _require_on(self) -> None:
        if self.state != "on":
            raise HyLoRADAError(
                f"the adapter is {self.state}, so its tensors are not in the model; do this "
                f"{'after the block that disables it' if self.state == 'disabled' else 'before merging'}."
            )

    def _take_off(self) -> None:
        """Leave the base as it was before this model was made."""
        self._detach()
        rope.disable(self.base_model)
        for parameter in self._trained_before:
            parameter.requires_grad_(True)
        self._keep_activations()
        self.state, self.base_model.is_adapted_by_hylorada = "merged", False

    def _keep_activations(self) -> None:
        """Undo `_checkpoint_blocks`, where it was done."""
        if self.hylorada_config.gradient_checkpointing and self.base_model.is_activation_checkpointing:
            self.base_model.activation_checkpointing_disable()
            self.base_model.disable_input_require_grads()

    def _attach(self) -> None:
        for name, layer in self._layers.items():
            layer.train(self.training)  # the base may have been switched while they were out
            self.base_model.set_submodule(name, layer)
        decoder = self.base_model.get_decoder()
        self._hooks = [
            decoder.register_forward_pre_hook(self._begin_pass, with_kwargs=True),
            decoder.register_forward_hook(self._end_pass),
        ]
        self._group_attention()
        if self.daa is not None:  # around what S²-Attn does
            daa.enable(self.base_model, self.daa)
        if self.position_bias is not None:
            self._deliver_positions(decoder)
        if self.sparse is not None:
            blocks = zip(find_feed_forwards(decoder), self.sparse, strict=True)
            self._hooks += [block.register_forward_hook(partial(_after, part)) for block, part in blocks]
        self._hooks += self._hook_landmark(decoder)

    def _detach(self) -> None:
        daa.disable(self.base_model)  # these two may refuse, so they come first
        s2_attention.disable(self.base_model)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for name, layer in self._layers.items():
            self.base_model.set_submodule(name, layer.base_layer)

    def _scale_rope(self) -> None:
        config = self.hylorada_config
        if config.rope_scaling_type is not None:
            rope.enable(self.base_model, config.rope_scaling_type, config.rope_scaling_factor)

    def _deliver_positions(self, decoder: nn.Module) -> None:
        attentions = find_attentions_by_name(decoder)
        self._hooks += [a.register_forward_pre_hook(self._enter_attention, with_kwargs=True) for a in attentions]
        if not self.hylorada_config.lora_enabled:  # then no adapted layer applies the bias
            scale = AtPosition(self.position_bias, self.positions)
            targets = find_layers(self.base_model, self.hylorada_config.lora_target_modules)
            self._hooks += [layer.register_forward_hook(partial(_after, scale)) for layer in targets.values()]

    def _group_attention(self) -> None:
        config = self.hylorada_config
        if not config.s2_attn_enabled:
            return
        context = rope.usable_context(self.base_model.config) or math.inf
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

    def _begin_pass(self, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        names = inspect.signature(decoder.forward).parameters
        kwargs = dict(zip(names, args, strict=False)) | kwargs
        self._check_attention()
        self.positions.set(positions_of(kwargs))
        if kwargs.get("attention_mask") is not None:  # without a mask the decoder counts as we do
            kwargs["position_ids"] = positions_of(kwargs)
        if isinstance(self.landmark, PooledLandmark | PerLayerLandmark):
            self.running.begin(kwargs, decoder.training)
        return (), kwargs

    def _end_pass(self, *call: Any) -> None:
        self.running.end()

    def _check_attention(self) -> None:
        """Raise where the attention that the adapter set up was exchanged for another."""
        wanted = daa.NAME if self.daa is not None else s2_attention.NAME
        current = self.base_model.config._attn_implementation
        if (self.daa is not None or self.hylorada_config.s2_attn_enabled) and current != wanted:
            raise HyLoRADAError(
                f"the attention of this model was set to {current!r} after it was adapted, and {wanted!r} does not act "
                f"there; set it before, or back to {wanted!r}."
            )

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
        if not isinstance(hidden, Tensor):
            raise HyLoRADAError(
                f"the blocks of this {self.base_model.config.model_type!r} model return a {type(hidden).__name__}, so "
                "landmark_design='per_layer' cannot act there; use another design."
            )
        if part.causal:
            return part(hidden, *self.running.look_back(hidden, slot))
        if self.running.past:
            raise HyLoRADAError(
                "landmark_pooling='sequence' sees the whole sequence, future included, and cannot go on from a cache; "
                "generate with use_cache=False, or use 'causal'."
            )
        return part(hidden, hidden, self.running.real(hidden))


def _after(part: Callable[[Tensor], Tensor], module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    return part(output)


def real_targets(labels: Tensor, mask: Tensor) -> Tensor:
    """Return labels (batch, seq) with -100 wherever the target or its context is padding."""
    real = mask.bool()
    context = torch.cat([real[:, :1], real[:, :-1]], dim=1)
    return labels.masked_fill(~(real & context), -100)


def describe_base(base_model: PreTrainedModel) -> dict[str, Any]:
    """Return the shape that tells one base model from another that an adapter would not fit."""
    config = base_model.config.get_text_config()
    shape = {name: getattr(config, name) for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")}
    merged = getattr(base_model.config, "hylorada_merged", None)
    return shape if merged is None else shape | {"merged": merged}


def _check_arguments(base_model: Any, config: Any) -> None:
    if not isinstance(config, HyLoRADAConfig):
        raise HyLoRADAError(
            f"{config!r} is no HyLoRADAConfig; make one with HyLoRADAConfig(...), .preset(name) or .from_dict(values)."
        )
    if not isinstance(base_model, PreTrainedModel) or base_model.get_output_embeddings() is None:
        raise HyLoRADAError(f"a {type(base_model).__name__} is no causal language model; use AutoModelForCausalLM.")
    if base_model.config.is_encoder_decoder or not base_model.can_generate():
        raise HyLoRADAError(f"a {type(base_model).__name__} is no causal language model; use AutoModelForCausalLM.")
    if getattr(base_model, "is_adapted_by_hylorada", False):
        raise HyLoRADAError("this base model is adapted already; load a fresh one, or merge the first adapter.")


def _checkpoint_blocks(base_model: PreTrainedModel) -> None:
    try:
        base_model.activation_checkpointing_enable()  # recomputes blocks, non-reentrant
    except ValueError as error:
        raise HyLoRADAError(
            f"a {type(base_model).__name__} cannot recompute its blocks; set gradient_checkpointing=False."
        ) from error


@torch.no_grad()
def _fingerprint(layers: Iterable[nn.Module]) -> str:
    """Return a short digest that tells merged weights from others: of the sum of each."""
    sums = [parameter.double().sum().item() for layer in layers for parameter in layer.parameters(recurse=False)]
    return sha256(repr(sums).encode()).hexdigest()[:16]
