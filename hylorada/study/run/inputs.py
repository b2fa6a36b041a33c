"""What runs read, once for all runs of a process: tokens, digests, tokenizers, and one base model at a time.

A run adapts the base and takes its adapter out again; the base is then as it was loaded, or it is let go. Whether a
file is still the one that was read is told by its size and by the time when it was changed.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from hylorada import load
from hylorada.attention_interface import attention_name
from hylorada.study.plan.specification import Specification
from hylorada.study.run.score import probe_nll
from hylorada.study.sources.tokens import Tokens

LOG = logging.getLogger(__name__)
Stamp = tuple[tuple[str, int, int], ...]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass
class Base:
    """A base model as it was loaded. of: its folder, dtype and files. probes: what the untouched base scored."""

    model: PreTrainedModel
    of: tuple[Path, str, Stamp]
    look: Any
    probes: dict[Any, float] = field(default_factory=dict)

    def probe(self, specification: Specification, text: Tokens) -> float:
        """Return `probe_nll`, scored once for each text and way of scoring it; before the base is adapted."""
        key = text.digest, specification.evaluation, specification.compile
        if key not in self.probes:
            self.probes[key] = probe_nll(self.model, specification, text)
        return self.probes[key]


class Inputs:
    """The files that the runs of a process have read so far, and the bases that the last of them has left, by dtype."""

    def __init__(self) -> None:
        self._read: dict[tuple[Callable, Path], tuple[Stamp, Any]] = {}
        self._bases: dict[str, Base] = {}  # of one folder

    def once(self, read: Callable[[Path], Any], path: Path) -> Any:
        """Return `read(path)`, which is kept while that file, or each file of that folder, stays as it is."""
        stamp = _stamp(path)
        if (read, path) not in self._read or self._read[read, path][0] != stamp:
            self._read[read, path] = stamp, read(path)
        return self._read[read, path][1]

    @contextmanager
    def base(self, folder: Path, dtype: str) -> Iterator[Base]:
        """Give a run the base in a folder; the next run gets it too, if it comes back as it was loaded."""
        wanted = folder, dtype, _stamp(folder)
        base = self._bases.pop(dtype, None)  # a run that fails may leave it changed
        if base is None or base.of != wanted:
            base = None  # before the next is loaded: two models need not fit into memory
            self._bases = {name: kept for name, kept in self._bases.items() if kept.of == (folder, name, wanted[2])}
            gc.collect()  # adapters point in circles, and to the base
            model = load_base(folder, dtype)
            base = Base(model, wanted, _look(model))
        yield base
        if _look(base.model) == base.look:
            self._bases[dtype] = base
        else:
            LOG.info("a run has changed its base model, which is loaded anew")


def load_base(folder: Path, dtype: str) -> PreTrainedModel:
    """Load a fetched model on the device that accelerate chooses."""
    return load.load_base(folder, getattr(torch, dtype)).to(Accelerator().device)


def _stamp(path: Path) -> Stamp:
    files = sorted(path.iterdir()) if path.is_dir() else [path] * path.exists()
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _look(base: PreTrainedModel) -> Any:
    """Return what tells a base that was changed: each tensor and how often it was written, modules, hooks, settings."""
    tensors = [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]
    modules = [
        (name, type(module), module.training, attention_name(module), *(len(getattr(module, hooks)) for hooks in HOOKS))
        for name, module in base.named_modules(remove_duplicate=False)
    ]
    return (
        [(name, id(t), t.data_ptr(), t._version, t.dtype, t.requires_grad, t.grad is None) for name, t in tensors],
        modules,
        base.config.to_dict(),
    )


IN_PROCESS = Inputs()
