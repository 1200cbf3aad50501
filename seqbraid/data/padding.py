"""Padding: sequences of unequal length filled up to T steps, after which none is shorter than another."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from seqbraid.data.dataset import Dataset, Part
from seqbraid.options import Padding

__all__ = ["PADDINGS", "Padding", "pad_part", "pad_sequence", "padded_steps"]

PADDINGS: tuple[Padding, ...] = get_args(Padding)


def padded_steps(dataset: Dataset, padding: Padding) -> int:
    """Return the steps of every padded sequence: the data set's room; with "lengths", the longest length."""
    return dataset.steps if padding == "lengths" else dataset.room


def pad_part(part: Part, steps: int, padding: Padding, mean: npt.NDArray[np.float32]) -> Part:
    """Return `part` with every sequence filled up to `steps` steps; with "lengths", the part as it is.

    "zeros" fills up with the training part's `mean` (F,), which is zero once standardised, so that padding
    stands for a mean step whatever the features' origin; "repeat-last" with the last true step, of which a
    slice behind it reads that one step alone.
    """
    if padding == "lengths":
        return part

    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        block = part.load(indices, start, stop)
        for row, length in enumerate(part.lengths[indices].tolist()):
            if length >= stop or start == stop:
                continue
            if padding == "zeros":
                filling = mean
            elif length > start:
                filling = block[row, length - 1 - start]
            else:
                filling = part.load(indices[row : row + 1], length - 1, length)[0, 0]
            block[row, max(length - start, 0) :] = filling
        return block

    return Part(part.labels, np.full_like(part.lengths, steps), load)


def pad_sequence(
    sequence: npt.NDArray[np.float32], steps: int, padding: Padding, mean: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return one sequence (n, F), n <= steps, filled up as `pad_part` does it: (steps, F), or (n, F)."""
    if padding == "lengths":
        return sequence
    filling = mean if padding == "zeros" else sequence[-1]
    return np.concatenate([sequence, np.tile(filling, (steps - len(sequence), 1))])
