"""The time grid: which steps and which intervals a rank holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqbraid.comm import ProcessGrid, rank_and_size
from seqbraid.options import MGRIT, Serial

__all__ = ["Partition", "interval_count", "local_slice"]


def interval_count(steps: int, coarsening: int) -> int:
    """Return N = ceil(T / c), the number of intervals; the last one may be short."""
    return -(-steps // coarsening)


def local_slice(T: int, comm: object = None, coarsening: int | Serial | MGRIT = 16) -> slice:
    """Return the slice of a sequence of T steps that this rank holds: whole intervals, as equal as can be.

    `coarsening` is the steps of an interval, or a solver, whose intervals (of its second coarsest level,
    where it has several) are then kept whole. They go in contiguous blocks over the ranks of `comm`: None, an
    mpi4py communicator, a Communicator, or a `ProcessGrid`, whose sequence ranks are meant. With fewer blocks
    than ranks the last ranks get an empty slice. Not collective. Raises ValueError for T or `coarsening`
    below 1.
    """
    multiple = coarsening if isinstance(coarsening, int) else coarsening.slice_multiple
    if T < 1:
        raise ValueError(f"T is {T}; expected at least one step")
    if multiple < 1:
        raise ValueError(f"coarsening is {multiple}; expected at least 1")
    rank, size = rank_and_size(comm.sequence if isinstance(comm, ProcessGrid) else comm)
    each, extra = divmod(interval_count(T, multiple), size)
    first = rank * each + min(rank, extra)
    last = first + each + (rank < extra)
    return slice(min(first * multiple, T), min(last * multiple, T))


@dataclass(frozen=True)
class Partition:
    """A sequence cut over ranks: `lengths[p]` steps on rank p, in time order; a rank may hold none."""

    lengths: tuple[int, ...]
    rank: int

    @staticmethod
    def from_lengths(lengths: Sequence[int], rank: int, multiple: int) -> Partition:
        """Check the slices' lengths of all ranks and return the partition as `rank` sees it.

        Raises ValueError where the sequence is empty or a slice is not cut at a multiple of `multiple`.
        """
        total = sum(lengths)
        if total == 0:
            raise ValueError("the sequence has no steps on any rank; expected at least one")
        start = 0
        for before, length in enumerate(lengths[:-1]):
            start += length
            if start % multiple and start < total:
                raise ValueError(
                    f"the slices of ranks {before} and {before + 1} meet at step {start}, which is no "
                    f"multiple of {multiple}; cut the sequence with "
                    f"seqbraid.local_slice({total}, comm, {multiple})"
                )
        return Partition(tuple(lengths), rank)

    @property
    def total(self) -> int:
        """T, the number of steps on all ranks."""
        return sum(self.lengths)

    @property
    def start(self) -> int:
        """The global index of this rank's first step."""
        return sum(self.lengths[: self.rank])

    @property
    def steps(self) -> int:
        """The number of steps on this rank."""
        return self.lengths[self.rank]

    def interval_counts(self, multiple: int) -> tuple[int, ...]:
        """Return every rank's number of intervals of `multiple` steps."""
        return tuple(interval_count(length, multiple) for length in self.lengths)

    @property
    def first_holder(self) -> int:
        """The rank that holds the first step."""
        return next(rank for rank, length in enumerate(self.lengths) if length)

    @property
    def last_holder(self) -> int:
        """The rank that holds the last step."""
        return max(rank for rank, length in enumerate(self.lengths) if length)

    @property
    def previous(self) -> int | None:
        """The rank that holds the step before this rank's first; None at the beginning and on idle ranks."""
        earlier = [rank for rank in range(self.rank) if self.lengths[rank]]
        return earlier[-1] if earlier and self.steps else None

    @property
    def next(self) -> int | None:
        """The rank that holds the step after this rank's last; None at the end and on idle ranks."""
        later = [rank for rank in range(self.rank + 1, len(self.lengths)) if self.lengths[rank]]
        return later[0] if later and self.steps else None
