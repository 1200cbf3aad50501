"""The sweeps through many steps at once: compiled for the CPU, in plain PyTorch everywhere else."""

from seqbraid.kernels.dispatch import active, sweeps_for, why_plain
from seqbraid.kernels.intervals import Chunk, Intervals
from seqbraid.kernels.memory import empty_series
from seqbraid.kernels.protocol import Sweeps

__all__ = ["Chunk", "Intervals", "Sweeps", "active", "empty_series", "sweeps_for", "why_plain"]
