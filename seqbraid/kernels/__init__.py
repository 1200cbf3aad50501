"""Sweeps through many steps at once: of any cell in plain PyTorch, of the GRU compiled for the CPU too."""

from seqbraid.kernels.dispatch import active, gru_kernel, sweeps_for, why_plain
from seqbraid.kernels.intervals import Chunk, Intervals
from seqbraid.kernels.memory import empty_series
from seqbraid.kernels.protocol import Counts, GradientAccumulator, GRUKernel, Sweeps

__all__ = [
    "Chunk",
    "Counts",
    "GRUKernel",
    "GradientAccumulator",
    "Intervals",
    "Sweeps",
    "active",
    "empty_series",
    "gru_kernel",
    "sweeps_for",
    "why_plain",
]
