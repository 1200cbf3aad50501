"""Which kernel serves a device and a dtype."""

from __future__ import annotations

import importlib
import os

import torch
from torch import Tensor

from seqbraid.errors import OptionsError
from seqbraid.kernels.plain import PlainSweeps
from seqbraid.kernels.protocol import Sweeps

__all__ = ["active", "sweeps_for"]

_CHOICES = ("fused", "plain")


def active(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """Return "fused" or "plain", the kernel that serves tensors of a device and dtype, whatever their size.

    Fused sweeps need the CPU, float32 or float64, and Numba. The environment variable SEQBRAID_KERNELS asks for
    one of the two; "fused" is then an error where it cannot serve. Raises OptionsError.
    """
    wish = os.environ.get("SEQBRAID_KERNELS", "")
    if wish not in ("", *_CHOICES):
        raise OptionsError(f"SEQBRAID_KERNELS is {wish!r}; expected one of {_CHOICES}, or nothing")
    if wish == "plain" or torch.device(device).type != "cpu" or dtype not in (torch.float32, torch.float64):
        return "plain"
    reason = _why_not_compiled()
    if reason and wish == "fused":
        raise OptionsError(f"SEQBRAID_KERNELS asks for the fused kernels, but {reason}; pip install numba")
    return "plain" if reason else "fused"


def sweeps_for(w_hh: Tensor, b_hh: Tensor | None) -> Sweeps:
    """Return the sweeps with these weights: compiled on the CPU, in plain PyTorch elsewhere."""
    if active(w_hh.device, w_hh.dtype) == "plain":
        return PlainSweeps(w_hh, b_hh)
    from seqbraid.kernels.fused import FusedSweeps

    return FusedSweeps(w_hh, b_hh)


_reason: str | None = None


def _why_not_compiled() -> str:
    """Return why Numba cannot serve, "" where it can; found out once."""
    global _reason
    if _reason is None:
        try:
            importlib.import_module("numba")
            _reason = ""
        except ImportError as error:
            _reason = f"Numba cannot be imported ({error})"
    return _reason
