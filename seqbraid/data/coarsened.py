"""Coarsening in time: sequences of which each step is the mean over several steps of a finer one."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from seqbraid.data.dataset import Part

__all__ = ["coarsen_part"]


def coarsen_part(part: Part, factor: int) -> Part:
    """Return `part` with every `factor` steps replaced by their mean; with 1, the part as it is.

    Step j of a sequence is the mean over its steps j factor ... j factor + factor - 1, as far as it has them,
    so that its length is ceil(length / factor). Loading reads the steps that it takes the means of, and none
    behind the longest of the sequences asked for; zeros stand past each end. Raises `ValueError` for a factor
    below 1.
    """
    if factor < 1:
        raise ValueError(f"factor is {factor}; give the steps of a mean, at least 1")
    if factor == 1:
        return part

    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        lengths = part.lengths[indices]
        last = min(stop * factor, int(lengths.max(initial=0)))
        first = min(start * factor, last)
        fine = part.load(indices, first, last)
        fine[np.arange(first, last) >= lengths[:, None]] = 0.0
        sums = np.add.reduceat(fine, np.arange(0, last - first, factor), axis=1, dtype=np.float64)
        counts = np.clip(lengths[:, None] - np.arange(start, stop) * factor, 1, factor)
        block = np.zeros((len(indices), stop - start, fine.shape[2]), np.float32)
        block[:, : sums.shape[1]] = sums / counts[:, : sums.shape[1], None]
        return block

    return dataclasses.replace(part, lengths=-(-part.lengths // factor), load=load)
