"""Which sweeps serve a cell, and which kernel a device and a dtype."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from seqbraid.cells import Cell, GRUCell
from seqbraid.errors import OptionsError
from seqbraid.kernels.generic import GenericSweeps
from seqbraid.kernels.gru import GRUSweeps
from seqbraid.kernels.plain import PlainSweeps
from seqbraid.kernels.protocol import GRUKernel, Sweeps

__all__ = ["active", "gru_kernel", "sweeps_for", "why_plain"]

_CHOICES = ("fused", "plain")


def active(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """Return "fused" or "plain", the kernel that serves tensors of a device and dtype, whatever their size.

    Fused sweeps need the CPU, float32 or float64, and Numba. The environment variable SEQBRAID_KERNELS asks
    for one of the two; "fused" is then an error where Numba is missing. Raises OptionsError.
    """
    return "plain" if why_plain(device, dtype) else "fused"


def why_plain(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """Return why plain kernels serve tensors of a device and dtype, "" where the fused do; see `active`."""
    wish = os.environ.get("SEQBRAID_KERNELS", "")
    if wish not in ("", *_CHOICES):
        raise OptionsError(f"SEQBRAID_KERNELS is {wish!r}; expected one of {_CHOICES}, or nothing")
    if wish == "plain":
        return "SEQBRAID_KERNELS asks for them"
    if torch.device(device).type != "cpu":
        return "the fused are for the CPU"
    if dtype not in (torch.float32, torch.float64):
        return "the fused are for float32 and float64"
    reason = _why_not_compiled()
    if reason and wish == "fused":
        raise OptionsError(f"SEQBRAID_KERNELS asks for the fused kernels, but {reason}")
    return reason


def sweeps_for(cell: Cell, parameters: Mapping[str, Tensor]) -> Sweeps:
    """Return the sweeps of a cell with these parameters: its own kernels where it has some, else generic."""
    # Not of a subclass: it may take other steps.
    if type(cell) is GRUCell:
        return GRUSweeps(cell, parameters, gru_kernel(parameters["weight_hh"], parameters.get("bias_hh")))
    return GenericSweeps(cell, parameters)


def gru_kernel(w_hh: Tensor, b_hh: Tensor | None) -> GRUKernel:
    """Return the GRU's kernel with these weights: compiled on the CPU, in plain PyTorch elsewhere."""
    if active(w_hh.device, w_hh.dtype) == "plain":
        return PlainSweeps(w_hh, b_hh)
    from seqbraid.kernels.fused import FusedSweeps

    return FusedSweeps(w_hh, b_hh)


@cache
def _why_not_compiled() -> str:
    """Return why Numba cannot serve, "" where it can; found out once."""
    try:
        numba = importlib.import_module("numba")
    except (ImportError, OSError) as error:
        return f"Numba cannot be imported ({error}); pip install numba"
    # Tiles are machine code or nothing.
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else ""
