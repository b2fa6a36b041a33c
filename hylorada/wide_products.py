"""Products in bfloat16 or float16 on a processor that has no units for them: the same products, by its float32 units.

Numbers of half precision are float32 numbers too, so that

    y = half(sum over k of float32(a_k) · float32(b_k))

is what bfloat16 units compute as well: float32 sums of exact products, rounded once. torch multiplies such tensors by
plain loops where it has no units for them; copies in float32 cost little beside
the product that is made of them. Attention goes back the same way: its gradient is a chain of such products, here
rounded once at its end. Other tensors and other devices are torch's as before.

torch calls what is set here for every product of the process, so it is set for a while only (`wide_products`).
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

HALVES = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}  # what torch asks
ATTENTION_SLOPE = "_scaled_dot_product_flash_attention_for_cpu_backward"  # its sixth tensor is float32 anyway
PRODUCTS = {"mm": 2, "addmm": 3, "bmm": 2, "baddbmm": 3, ATTENTION_SLOPE: 5}  # with how many tensors of one type
UNITS = "float32 units"  # as records name them
_lock = threading.Lock()
_users, _library = 0, None  # how many `with` blocks are open, and what they share


def without_units() -> tuple[torch.dtype, ...]:
    """Return the types of half precision that this processor has no units for; none where torch cannot tell."""
    if not torch.backends.mkldnn.is_available():
        return ()
    return tuple(dtype for dtype, has_units in HALVES.items() if not getattr(torch.ops.mkldnn, has_units)())


def widened(dtype: torch.dtype, device: torch.device | str) -> str | None:
    """Return what multiplies a type on a device within `wide_products`, or None where that is torch as it is."""
    return UNITS if torch.device(device).type == "cpu" and dtype in without_units() else None


@contextmanager
def wide_products() -> Iterator[None]:
    """Multiply on this processor as the module says for the length of a `with` block; blocks may lie in each other.

    The setting is the process's, and torch's own ways come back when the last block ends, whatever happens. Nothing
    changes on a processor that has the units.
    """
    global _users, _library
    halves = without_units()
    with _lock:
        _users += 1
        if _users == 1 and halves:
            _library = _registered(halves)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _library is not None:
                _library._destroy()
                _library = None


def _registered(halves: tuple[torch.dtype, ...]) -> torch.library.Library:
    """Put a function before torch's own for each of `PRODUCTS` on the processor."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Overriding a previously registered kernel")  # as is meant
        for name, factors in PRODUCTS.items():
            own = torch.library.get_kernel(f"aten::{name}", "CPU")
            library.impl(name, _widened(own, factors, halves), "CPU", with_keyset=True)
    return library


def _widened(own: Any, factors: int, halves: tuple[torch.dtype, ...]) -> Callable[..., Any]:
    """Return a kernel that gives torch's own one float32 copies, if its first tensors are all of one half type."""

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        dtype = args[0].dtype
        if dtype not in halves or any(factor.dtype != dtype for factor in args[:factors]):
            return own.call_boxed(keys, *args, **kwargs)
        named = {name: _wide(value) for name, value in kwargs.items()}
        product = own.call_boxed(keys, *map(_wide, args), **named)
        return product.to(dtype) if isinstance(product, Tensor) else tuple(slope.to(dtype) for slope in product)

    return kernel


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
