"""Memory for long series, handed out again once nobody holds it."""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch
from torch import Tensor

__all__ = ["empty_series"]

# Smaller tensors come from PyTorch: the C library hands those out again by itself.
_LEAST_BYTES = 2**21
# What may lie idle in all.
_MOST_IDLE_BYTES = 2**30

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
# Blocks that nobody holds, the longest idle first. A dictionary's pop is atomic, so no lock is needed: a
# block is given back in whatever thread its last tensor happens to die.
_idle: dict[int, np.ndarray] = {}


def empty_series(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return an uninitialised tensor of the dtype and device of `like`.

    Large ones on the CPU come from blocks that earlier ones left. The C library would return large blocks to
    the system and fetch them anew in every training step, which costs as much as the arithmetic on them. At
    most 1 GiB lies idle.
    """
    nbytes = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or like.dtype not in _DTYPES or nbytes < _LEAST_BYTES:
        return like.new_empty(shape)
    block = _take(nbytes)
    view = block[:nbytes].view(_DTYPES[like.dtype]).reshape(shape)
    # The tensor's storage holds `view` alone, so this runs when the last tensor on it is gone.
    weakref.finalize(view, _give_back, block).atexit = False
    return torch.from_numpy(view)


def _take(nbytes: int) -> np.ndarray:
    """Return the tightest idle block that wastes at most half of itself, else a new one."""
    fitting = [block for block in list(_idle.values()) if nbytes <= block.nbytes <= 2 * nbytes]
    for block in sorted(fitting, key=lambda block: block.nbytes):
        if _idle.pop(id(block), None) is not None:
            return block
    return np.empty(nbytes, np.uint8)


def _give_back(block: np.ndarray) -> None:
    _idle[id(block)] = block
    idle = list(_idle.values())
    excess = sum(each.nbytes for each in idle) - _MOST_IDLE_BYTES
    for each in idle:
        if excess <= 0:
            return
        if _idle.pop(id(each), None) is not None:
            excess -= each.nbytes
