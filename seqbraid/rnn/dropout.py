"""Dropout between layers whose choice depends on the place in the sequence, not on the rank that holds it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["drop"]

Numbers = npt.NDArray[np.uint64]

_CHUNK = 1 << 20


def drop(
    x: Tensor,
    probability: float,
    seed: tuple[int, int],
    first_step: int,
    first_sequence: int = 0,
    sequences: int | None = None,
) -> Tensor:
    """Set each value of x (T, B, H) to zero with this probability, and scale the others by 1 / (1 - it).

    Value i of all sequences, counted over steps, sequences and units, is kept or not by the i-th number of a
    stream that `seed` starts. x begins at step `first_step` of sequence `first_sequence` of the global batch,
    which has `sequences` in all; None for those of x alone. The stream is SplitMix64 (Steele, Lea & Flood,
    OOPSLA 2014), whose i-th number can be had without the ones before.
    """
    steps, batch, units = x.shape
    stride = (batch if sequences is None else sequences) * units
    first = first_step * stride + first_sequence * units
    wide = batch * units
    start = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    kept = np.empty((steps, wide), dtype=np.bool_)
    threshold = np.uint64(int(probability * 2.0**64))
    within = np.arange(wide, dtype=np.uint64)
    at_once = max(1, _CHUNK // max(wide, 1))
    for step in range(0, steps, at_once):
        stop = min(step + at_once, steps)
        of_steps = np.arange(step, stop, dtype=np.uint64) * np.uint64(stride) + np.uint64(first)
        kept[step:stop] = _splitmix64(start, of_steps[:, None] + within) >= threshold
    mask = torch.from_numpy(kept).view(x.shape).to(x.device)
    return x * mask.to(x.dtype).div_(1.0 - probability)


def _splitmix64(start: np.uint64, counter: Numbers) -> Numbers:
    """Return the numbers `counter` of the stream that begins at `start`; arithmetic modulo 2^64."""
    with np.errstate(over="ignore"):
        z: Numbers = start + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z
