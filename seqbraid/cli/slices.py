"""Which part of a data set's sequences this rank takes, with the checks that a person needs."""

from __future__ import annotations

from seqbraid.comm import Communicator
from seqbraid.errors import OptionsError
from seqbraid.mgrit import MGRIT, Serial, interval_count, local_slice
from seqbraid.train import TimeSlice

__all__ = ["take_slice"]


def take_slice(steps: int, solver: Serial | MGRIT, communicator: Communicator) -> TimeSlice:
    """Return this rank's steps of sequences of `steps` steps.

    Raises `OptionsError` for more ranks than steps; rank 0 tells of ranks that get no interval.
    """
    ranks = communicator.size
    if ranks > steps:
        raise OptionsError(
            f"{ranks} ranks were started for sequences of {steps} steps; start at most {steps} ranks"
        )
    multiple = solver.slice_multiple
    intervals = interval_count(steps, multiple)
    if intervals < ranks and communicator.rank == 0:
        print(
            f"note: {steps} steps make {intervals} intervals of {multiple}, so {ranks - intervals} of "
            f"{ranks} ranks have no work; a smaller --coarsening gives them some",
            flush=True,
        )
    elif intervals == 1 and isinstance(solver, MGRIT) and communicator.rank == 0:
        print(
            f"note: {steps} steps make one interval of {multiple}, so nothing runs in parallel; a smaller "
            "--coarsening changes that",
            flush=True,
        )
    held = local_slice(steps, communicator, solver)
    return TimeSlice(held.start, held.stop, steps)
