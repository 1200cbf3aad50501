"""Batches of a training's data: which sequences, and of those the ones and the steps of this rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqbraid.comm import ProcessGrid
from seqbraid.data.coarsened import coarsen_part
from seqbraid.data.dataset import Part
from seqbraid.data.standardisation import Standardisation
from seqbraid.mgrit import MGRIT, Serial, local_slice

__all__ = ["Batch", "BatchSlice", "Batches", "TimeSlice", "TrainingData"]

Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class TimeSlice:
    """Steps `start` ... `stop` - 1 of sequences of `total` steps: those that this rank holds."""

    start: int
    stop: int
    total: int

    def coarsened(self, factor: int, solver: Serial | MGRIT, grid: ProcessGrid) -> TimeSlice:
        """Return this rank's steps of the sequences of ceil(total / factor) steps."""
        if factor == 1:
            return self
        total = -(-self.total // factor)
        held = local_slice(total, grid.sequence, solver)
        return TimeSlice(held.start, held.stop, total)


@dataclass(frozen=True)
class TrainingData:
    """The parts, which steps of each sequence this rank holds, and how features are standardised.

    The part that is watched for the best epoch is `validation`, or `test` where there is none.
    """

    train: Part
    test: Part
    held: TimeSlice
    standardise: Standardisation
    validation: Part | None = None


@dataclass(frozen=True)
class BatchSlice:
    """Sequences `first` ... `first + count` - 1 of a batch of `total`."""

    first: int
    count: int
    total: int


@dataclass(frozen=True)
class Batch:
    """This rank's part of a batch.

    x (local steps, b, F), labels (b,) and lengths (b,) or None where all are full; `all_labels` (B,) of the
    whole batch. A group of ranks may have no sequence of a small batch: b is 0 then.
    """

    x: Tensor
    labels: Tensor
    lengths: list[int] | None
    all_labels: Tensor
    slice: BatchSlice


class Batches:
    """A part's sequences in a given order, `size` at a time, standardised."""

    def __init__(
        self, part: Part, held: TimeSlice, standardise: Standardisation, size: int, grid: ProcessGrid
    ) -> None:
        self.part = part
        self.held = held
        self.standardise = standardise
        self.size = size
        self.grid = grid

    def __len__(self) -> int:
        return -(-len(self.part) // self.size)

    def coarsened(self, factor: int, solver: Serial | MGRIT) -> Batches:
        """Return batches of the same sequences, `factor` times coarser in time."""
        held = self.held.coarsened(factor, solver, self.grid)
        part = coarsen_part(self.part, factor)
        return Batches(part, held, self.standardise, self.size, self.grid)

    def in_order(self, order: Indices, first: int = 0) -> Iterator[Batch]:
        """Yield the batches from number `first` on."""
        for start in range(first * self.size, len(order), self.size):
            yield self._load(order[start : start + self.size])

    def _load(self, indices: Indices) -> Batch:
        mine = self.grid.local_batch(len(indices))
        batch_slice = BatchSlice(mine.start, mine.stop - mine.start, len(indices))
        chosen = indices[mine]
        x = self.standardise(torch.from_numpy(self.part.load(chosen, self.held.start, self.held.stop)))
        lengths: list[int] = self.part.lengths[chosen].tolist()
        return Batch(
            x.transpose(0, 1),
            torch.from_numpy(self.part.labels[chosen]),
            lengths if any(length < self.held.total for length in lengths) else None,
            torch.from_numpy(self.part.labels[indices]),
            batch_slice,
        )
