"""Verbs for users of the library: export an adapter, measure speed. Imports as in `runs`."""

import argparse
import logging

from hylorada.errors import HyLoRADAError, near

LOG = logging.getLogger(__name__)


def do_export(options: argparse.Namespace) -> None:
    """Write an adapter for PEFT, or for servers that know only LoRA."""
    import warnings

    import torch

    from hylorada.export import export_lora, export_peft
    from hylorada.load import load_base
    from hylorada.model import HyLoRADAModel

    base = load_base(options.base, torch.float32)
    model = HyLoRADAModel.from_pretrained(base, options.adapter)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if options.svd_rank is None:
            export_peft(model, options.out, options.drop)
        else:
            errors = export_lora(model, options.out, options.svd_rank, options.drop)
            print(f"relative error: mean {sum(errors.values()) / len(errors):.3g}, largest {max(errors.values()):.3g}")
    for warning in told:
        LOG.warning("%s", warning.message)
    print(options.out)


def do_bench(options: argparse.Namespace) -> None:
    """Measure speed and memory."""
    import torch

    from hylorada.allocator import in_use
    from hylorada.bench.competitors import Setting
    from hylorada.bench.report import page, run_benchmark, save
    from hylorada.study.run.machine import describe_machine, device_name
    from hylorada.study.run.memory import told_when_full
    from hylorada.study.sources.identity import model_folder
    from hylorada.wide_products import widened

    for name, most in (("tokens", 2**20), ("rounds", 100_000), ("threads", 1024)):
        if not 1 <= (given := getattr(options, name)) <= most:
            what = "small" if given < 1 else "large"
            raise HyLoRADAError(f"--{name} {given} is too {what}; use 1 to {most}.")
    if options.dtype not in (allowed := ("bfloat16", "float32")):
        raise HyLoRADAError(f"--dtype {options.dtype} is not known; {near(options.dtype, allowed)}")
    torch.set_num_threads(options.threads)
    setting = Setting(
        model=str(options.model or model_folder("smollm2-135m", options.data)),
        dtype=options.dtype,
        device="cuda" if torch.cuda.is_available() else "cpu",
        tokens=options.tokens,
        rounds=options.rounds,
        targets=tuple(options.targets) if options.targets else None,
        compiled=options.compile,
        against=None if options.against is None else str(options.against),
    )
    machine = describe_machine() | {"threads": options.threads, "device": device_name(), "allocator": in_use()}
    if units := widened(getattr(torch, setting.dtype), setting.device):
        machine["half_products"] = units
    only = options.only or (["training"] if options.compile else [])  # what the compiler changes
    with told_when_full(f"lower --tokens (now {options.tokens}), or --only some of the tables."):
        record = run_benchmark(setting, machine, only)
    print(page([record]))
    if not options.only:  # a record is whole
        save(record, options.out)
