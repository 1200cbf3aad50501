"""The arithmetic floor: how fast a pass would be if nothing but its matrix products took time."""

from __future__ import annotations

import torch

from seqbraid.bench.layer import Size
from seqbraid.bench.stopwatch import stopwatch

__all__ = ["flops_per_step", "product_rate"]


def flops_per_step(size: Size) -> int:
    """Return the floating-point operations of the products of one step, forward and backward to all weights.

    A multiply-add counts as two. The products are the input projection, the recurrence, its transpose
    backward, and the gradients of both weights; no gradient of the input.
    """
    rows, gates = size.B, 3 * size.H
    projection = 2 * rows * size.I * gates
    recurrence = 2 * rows * size.H * gates
    weight_gradients = 2 * rows * gates * (size.H + size.I)
    return projection + 2 * recurrence + weight_gradients


def product_rate(dtype: torch.dtype, n: int = 2048, repeats: int = 3) -> float:
    """Return the operations a second of one product of n x n matrices with torch's threads; best of some."""
    left, right = torch.rand(n, n, dtype=dtype), torch.rand(n, n, dtype=dtype)
    product = torch.empty(n, n, dtype=dtype)
    seconds = stopwatch(lambda: torch.mm(left, right, out=product))
    return 2 * n**3 / min(seconds() for _ in range(repeats))
