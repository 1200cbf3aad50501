"""Ranks as a grid: some share the steps of a sequence, and such groups share the sequences of a batch."""

from __future__ import annotations

from typing import Any

from seqbraid.comm.base import Communicator
from seqbraid.comm.world import as_communicator

__all__ = ["ProcessGrid", "as_grid"]


class ProcessGrid:
    """Ranks as a grid: `sequence` of them share the steps of a batch, `data` groups share the batch.

    Args:
        comm: None (one process), an mpi4py communicator, or a `seqbraid.comm.Communicator`.
        sequence: S, ranks that a sequence is cut over. Default: all ranks over `data`.
        data: D, groups of so many ranks, each with sequences of its own. Default: all ranks over `sequence`.

    Attributes:
        world: the communicator of all S D ranks.
        sequence: that of the S ranks that hold the same sequences, in the order of time.
        data: that of the D ranks that hold the same steps, in the order of the batch.

    Rank d S + s is at place s of `sequence` and at place d of `data`: neighbours along the sequence, which
    talk the most, are neighbours among the ranks. Making a grid is collective over `comm`. Raises ValueError
    where S D is not the number of ranks.
    """

    def __init__(self, comm: object = None, sequence: int | None = None, data: int | None = None) -> None:
        self.world: Communicator = as_communicator(comm)
        S, D = _shape(self.world.size, sequence, data)
        group, place = divmod(self.world.rank, S)
        self.sequence: Communicator = self.world.split(range(group * S, (group + 1) * S))
        self.data: Communicator = self.world.split(range(place, S * D, S))

    def __deepcopy__(self, memo: dict[int, Any]) -> ProcessGrid:
        """Return itself: a copied module works with the same ranks."""
        return self

    def __repr__(self) -> str:
        """Return the numbers of ranks."""
        return f"ProcessGrid(sequence={self.sequence.size}, data={self.data.size})"

    def local_batch(self, B: int) -> slice:
        """Return which of a global batch's B sequences are this rank's group's: contiguous, maybe none.

        As equal as can be: the first groups have one more. Not collective. Raises ValueError for B below 0.
        """
        if B < 0:
            raise ValueError(f"B is {B}; expected a number of sequences")
        rows, extra = divmod(B, self.data.size)
        first = self.data.rank * rows + min(self.data.rank, extra)
        return slice(first, first + rows + (self.data.rank < extra))


def as_grid(comm: object) -> ProcessGrid:
    """Return what a user passes as `comm` as a grid: itself, or all ranks of a communicator in one group."""
    return comm if isinstance(comm, ProcessGrid) else ProcessGrid(comm)


def _shape(size: int, sequence: int | None, data: int | None) -> tuple[int, int]:
    """Return S and D, one of which may follow from the other."""
    for name, value in (("sequence", sequence), ("data", data)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}; expected a whole number of ranks, at least 1")
    S = sequence or size // (data or 1)
    D = data or size // max(S, 1)
    if size == S * D:
        return S, D
    if sequence is None or data is None:
        given, number = (f"sequence={sequence}", sequence) if data is None else (f"data={data}", data)
        raise ValueError(
            f"{given} does not divide the {size} ranks of the job; take a divisor of {size}, or start a "
            f"multiple of {number} ranks"
        )
    raise ValueError(
        f"sequence={sequence} times data={data} makes {S * D} ranks, but the job has {size}; start {S * D} "
        f"ranks, or take numbers whose product is {size}"
    )
