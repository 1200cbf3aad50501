"""How kernels are compiled, and kept on disk for later starts."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np

__all__ = ["Kernel", "compiled"]

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function for kernels to call, as part of them."""
    return cast(F, numba.njit(**_OPTIONS)(function))


class Kernel:
    """A function compiled for float32 and for float64 apart, as the dtype of its first argument says.

    Numba keeps the machine code on disk. It looks at the function's own file alone, so code from an older
    state of the others would be taken for today's; and processes that write different code into one entry at
    the same time may leave the one under the name of the other. Hence an entry of its own for each dtype,
    processor, version of Numba and state of these sources. Where nothing can be kept, every process compiles
    for itself.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._dispatchers = {np.dtype(name): _kept(function, name) for name in ("float32", "float64")}

    def __call__(self, first: np.ndarray, *others: object) -> None:
        """Run it, compiled at the first call."""
        try:
            self._dispatchers[first.dtype](first, *others)
        except (OSError, EOFError, pickle.UnpicklingError):
            # The disk is full or what it holds is damaged; nothing has run yet.
            self._dispatchers[first.dtype] = compiled(self._function)
            self._dispatchers[first.dtype](first, *others)

    def dispatcher(self, dtype: type[np.floating]) -> Any:
        """Return Numba's dispatcher for a dtype, whose `stats` tell whether code came from the disk."""
        return self._dispatchers[np.dtype(dtype)]


def _kept(function: Callable[..., None], name: str) -> Callable[..., None]:
    source = cast(FunctionType, function)
    twin = FunctionType(source.__code__, source.__globals__, source.__name__)
    # Numba's entries bear this name.
    twin.__qualname__ = f"{source.__qualname__}_{name}_{_state()}"
    try:
        return cast(Callable[..., None], numba.njit(cache=True, **_OPTIONS)(twin))
    except RuntimeError:
        # Neither the package's folder nor the user's can be written.
        return compiled(function)


@cache
def _state() -> str:
    """Return a digest of all that machine code depends on."""
    state = hashlib.sha256(numba.__version__.encode())
    state.update(llvmlite.binding.get_host_cpu_name().encode())
    with contextlib.suppress(RuntimeError):  # not known on every platform
        state.update(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()[:12]
