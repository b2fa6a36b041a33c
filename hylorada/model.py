"""`HyLoRADAModel`: a Hugging Face causal language model with adapters in place of the layers that are named.

What users call, and which state allows it; the work is done beside it: `build` makes the parts, `wiring` puts them into
the base, `merge` folds them into its weights, `parts` counts them, `checkpoint` keeps them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from hylorada import build, checkpoint, hub, merge, rope
from hylorada.arguments import checked
from hylorada.as_pretrained import WITHOUT_EFFECT, AsPretrained
from hylorada.card import Card, card_text
from hylorada.config import IS_SETTING, HyLoRADAConfig
from hylorada.errors import HyLoRADAError
from hylorada.lora import STARTS
from hylorada.loss import real_targets
from hylorada.parts import count_trained, left_alone
from hylorada.reading import told_of
from hylorada.states import check_frozen_base, check_on
from hylorada.usable_base import check_base, require_numbers
from hylorada.wiring import Wiring


class HyLoRADAModel(AsPretrained):
    """A base model adapted as `config` says; only the adapters train.

    base_model: a causal language model of transformers; its layers are wrapped in place. It stays usable through
    `.base_model`, adapters included. To the tools of transformers this is a model like the base itself
    (`hylorada.as_pretrained`); what they save of it is the adapter. compile_pieces: run its norms, rotary positions and
    SwiGLU as compiled loops while the adapter is on (`hylorada.pieces`); a matter of speed that no adapter tells of.

    Raises:
        HyLoRADAError: the base is no causal language model, a named layer matches nothing, a part finds no place,
            nothing can be compiled here; the base is then as it was.
    """

    @checked(elsewhere=IS_SETTING)
    def __init__(
        self, base_model: PreTrainedModel, config: HyLoRADAConfig | None = None, compile_pieces: bool = False
    ) -> None:
        config = HyLoRADAConfig() if config is None else config
        _check_arguments(base_model, config)
        super().__init__(base_model)
        self.hylorada_config = config
        self.card = Card()
        self.state = "on"  # or "disabled" for the length of a block, or "merged" or "unloaded" for good
        self.wiring = Wiring(base_model, config, compile_pieces)
        try:
            self.wiring.scale_rope()  # first: buckets spread over the context length that it sets
            parts = build.make_parts(base_model, config, self.wiring.positions, self.wiring.sequence)
            self.position_bias, self.landmark = parts.position_bias, parts.landmark
            self.daa, self.sparse = parts.daa, parts.sparse
            self.wiring.put_in(parts)
        except BaseException:  # an interrupt or a lack of memory too: the base is the caller's
            self._give_back()
            raise
        named = list(self.named_parameters())
        self._trained_names = frozenset(name for name, p in named if p.requires_grad)
        self._adapter_names = self._trained_names | {name for name, _ in named if name.endswith(STARTS)}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the adapted base model; arguments and outputs are its own, here and in a call by position.

        With `labels` and a (batch, seq) `attention_mask`, a target counts when it and the token before it are real:
        under left padding the base alone would also score the first token from padding. Who divides by a count of
        targets of his own (`num_items_in_batch`) has all of them scored that he counted.
        """
        if labels is not None and attention_mask is not None and kwargs.get("num_items_in_batch") is None:
            labels = real_targets(labels, attention_mask) if attention_mask.shape == labels.shape else labels
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "labels": labels,
            "use_cache": use_cache,
        }
        return self.base_model(**{name: value for name, value in given.items() if value is not None}, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate with the adapted base model, cached; arguments and outputs are its own."""
        require_numbers(self.base_model)
        return self.base_model.generate(*args, **kwargs)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train, each once.

        Raises:
            HyLoRADAError: the adapter is off, a weight trains that is none of the adapter's and would not be saved, or
                the base model has no numbers.
        """
        check_on(self.state)
        require_numbers(self.base_model)
        check_frozen_base(self, self._trained_names)
        return [p for p in self.parameters() if p.requires_grad]

    def requires_grad_(self, requires_grad: bool = True) -> "HyLoRADAModel":
        """Let all of the adapter train, or none of it; the base stays frozen.

        Raises:
            HyLoRADAError: the adapter is off.
        """
        super().requires_grad_(False)
        for name, parameter in self.adapter_tensors().items():
            parameter.requires_grad_(requires_grad and name in self._trained_names)
        return self

    def count_params(self) -> dict[str, int]:
        """Return the trained parameters of each part, of all, and of the whole model (HyLoRADAError while off)."""
        check_on(self.state)
        return count_trained(self)

    def print_trainable_params(self) -> None:
        """Print the trained parameters by part and their share of the model, and which experts have no adapter."""
        counts = self.count_params()
        total, trainable = counts.pop("total"), counts.pop("trainable")
        parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
        share = f"{100 * trainable / total:.3f} %"
        print(f"trainable {trainable:,} of {total:,} ({share}): {parts}{left_alone(self.base_model)}")

    @contextmanager
    def disable_adapter(self) -> Iterator[PreTrainedModel]:
        """Give the base model back for the length of a `with` block, exactly as it was; blocks may nest."""
        if self.state != "on":  # disabled already by an outer block, or merged
            yield self.base_model
            return
        self.wiring.detach()
        rope.disable(self.base_model)
        self.state = "disabled"
        try:
            yield self.base_model
        finally:
            self.wiring.scale_rope()
            try:
                self.wiring.attach(self.training)
            except HyLoRADAError:  # what the block did to the base does not allow it
                self.wiring.detach()
                raise
            self.state = "on"

    @checked()
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
        tensors = self.adapter_tensors()
        merge.check_mergeable(self.wiring.parts, self.hylorada_config, tensors, keep_dynamic)
        merge.fold_weights(self.wiring, tensors)
        if not merge.dynamic_parts(self.wiring.parts):
            self.state = "merged"
            self.wiring.release()
            return self.base_model
        self.hylorada_config = self.wiring.config
        self.wiring.attach(self.training)
        return self

    def unload(self) -> PreTrainedModel:
        """Take the adapter out for good and return the base model as it was before, in the mode that it is in.

        Raises:
            HyLoRADAError: the adapter is disabled or merged, or other attention has come into its place.
        """
        check_on(self.state)
        self.wiring.give_back()
        self.state = "unloaded"
        return self.base_model

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the adapter by name, as a folder holds it, those too that are kept from training.

        Raises:
            HyLoRADAError: the adapter is off, or the base model has no numbers.
        """
        check_on(self.state)
        require_numbers(self.base_model)
        return {name: parameter for name, parameter in self.named_parameters() if name in self._adapter_names}

    @checked(also=WITHOUT_EFFECT)
    def save_pretrained(
        self,
        folder: str | Path,
        is_main_process: bool | None = None,
        state_dict: dict[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Write the adapter, not the base, to a folder; see `hylorada.checkpoint`.

        is_main_process: a trainer gives it, and then what else its checkpoint holds stays. state_dict: the tensors by
        name, where this process has not all of them. options: those of transformers that an adapter has no use for.

        Raises:
            HyLoRADAError: as `write_adapter`, the adapter is off, a weight trains that is none of the adapter's, or an
                option is not known.
        """
        check_on(self.state)
        check_frozen_base(self, self._trained_names)
        tensors = self.adapter_tensors()
        if state_dict is not None:
            tensors = {name: state_dict[name] for name in tensors}
        base, settings = checkpoint.describe_base(self.base_model), self.hylorada_config.to_dict()
        if is_main_process is None:
            card = card_text(self.card, self.base_model, settings, self.adapter_tensors())
            checkpoint.write_adapter(Path(folder), settings, base, tensors, card, self.card.to_json())
        elif is_main_process:
            checkpoint.write_adapter_into(Path(folder), settings, base, tensors)

    @checked(also=hub.COMMIT)
    def push_to_hub(self, repo_id: str, private: bool | None = None, **commit: Any) -> str:
        """Put the adapter and its card into a repository of the hub; return the address of the commit.

        repo_id: OWNER/NAME. commit: as `hylorada.hub.push_adapter`, such as `commit_message` or `token`.

        Raises:
            HyLoRADAError: as `save_pretrained`, or the hub refuses or does not answer.
        """
        return hub.push_adapter(self.save_pretrained, repo_id, private, **commit)

    @classmethod
    @checked()
    def from_pretrained(
        cls,
        base_model: PreTrainedModel,
        folder: str | Path,
        revision: str | None = None,
        compile_pieces: bool = False,
    ) -> "HyLoRADAModel":
        """Adapt a fresh base model with what `save_pretrained` wrote.

        folder: where that is, or OWNER/NAME of a repository of the hub, then at a `revision` or as it is now.
        compile_pieces: as for a new model.

        Raises:
            HyLoRADAError: there is no such folder or repository, it is not whole, is for another base, or lacks or adds
                a tensor.
        """
        folder = hub.adapter_folder(folder, revision)
        settings, base, tensors = checkpoint.read_adapter(Path(folder))
        with told_of(Path(folder) / checkpoint.CONFIG_FILE):
            config = HyLoRADAConfig.from_dict(settings)
        _check_arguments(base_model, config)
        checkpoint.check_same_base(base, checkpoint.describe_base(base_model), Path(folder))
        model = cls(base_model, config, compile_pieces)
        model.card = Card.from_json(checkpoint.read_about(Path(folder)))
        try:
            model.load_adapter_tensors(tensors, folder)
        except HyLoRADAError:
            model._give_back()
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

    def _give_back(self) -> None:
        self.wiring.give_back()
        self.state = "merged"


def _check_arguments(base_model: Any, config: Any) -> None:
    if not isinstance(config, HyLoRADAConfig):
        raise HyLoRADAError(
            f"{config!r} is no HyLoRADAConfig; make one with HyLoRADAConfig(...), .preset(name) or .from_dict(values)."
        )
    check_base(base_model, config)
