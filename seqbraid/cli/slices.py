"""Which part of a data set's sequences this rank takes, with the checks that a person needs."""

from __future__ import annotations

import argparse

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.errors import OptionsError
from seqbraid.mgrit import MGRIT, Serial, interval_count, local_slice
from seqbraid.train import TimeSlice

__all__ = ["grid_from_options", "take_slice"]


def grid_from_options(options: argparse.Namespace, world: Communicator) -> ProcessGrid:
    """Return the grid of --sequence-ranks and --data-ranks.

    Raises `OptionsError` where they do not make the ranks that were started.
    """
    try:
        return ProcessGrid(world, options.sequence_ranks, options.data_ranks)
    except ValueError as error:
        raise OptionsError(f"--sequence-ranks and --data-ranks: {error}") from error


def take_slice(steps: int, solver: Serial | MGRIT, grid: ProcessGrid) -> TimeSlice:
    """Return this rank's steps of sequences of `steps` steps.

    Raises `OptionsError` for more ranks along the sequence than steps; rank 0 tells of those without an
    interval.
    """
    ranks = grid.sequence.size
    if ranks > steps:
        raise OptionsError(
            f"{ranks} ranks were started for sequences of {steps} steps; start at most {steps} ranks"
        )
    multiple = solver.slice_multiple
    intervals = interval_count(steps, multiple)
    if intervals < ranks and grid.world.rank == 0:
        print(
            f"note: {steps} steps make {intervals} intervals of {multiple}, so {ranks - intervals} of "
            f"{ranks} ranks have no work; a smaller --coarsening gives them some",
            flush=True,
        )
    elif intervals == 1 and isinstance(solver, MGRIT) and grid.world.rank == 0:
        print(
            f"note: {steps} steps make one interval of {multiple}, so nothing runs in parallel; a smaller "
            "--coarsening changes that",
            flush=True,
        )
    held = local_slice(steps, grid.sequence, solver)
    return TimeSlice(held.start, held.stop, steps)
