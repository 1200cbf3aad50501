"""Which steps of the sequences this rank takes, with what a person should know of the division."""

from __future__ import annotations

import logging

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.errors import OptionsError
from seqbraid.mgrit import interval_count, local_slice
from seqbraid.options import MGRIT, Serial
from seqbraid.train.batches import TimeSlice

__all__ = ["grid_of_ranks", "take_slice"]

_logger = logging.getLogger(__name__)


def grid_of_ranks(world: Communicator, sequence_ranks: int | None, data_ranks: int | None) -> ProcessGrid:
    """Return the grid of so many ranks along the sequence and groups of data; collective.

    Raises `OptionsError` where they do not make the ranks that were started.
    """
    try:
        return ProcessGrid(world, sequence_ranks, data_ranks)
    except ValueError as error:
        raise OptionsError(f"`sequence_ranks` and `data_ranks`: {error}") from error


def take_slice(steps: int, solver: Serial | MGRIT, grid: ProcessGrid) -> TimeSlice:
    """Return this rank's steps of sequences of `steps` steps; ranks without an interval are logged.

    Raises `OptionsError` for more ranks along the sequence than steps.
    """
    ranks = grid.sequence.size
    if ranks > steps:
        raise OptionsError(
            f"{ranks} ranks were started for sequences of {steps} steps; start at most {steps} ranks"
        )
    multiple = solver.slice_multiple
    intervals = interval_count(steps, multiple)
    if intervals < ranks:
        _logger.info(
            f"note: {steps} steps make {intervals} intervals of {multiple}, so {ranks - intervals} of "
            f"{ranks} ranks have no work; a smaller `coarsening` gives them some"
        )
    elif intervals == 1 and isinstance(solver, MGRIT):
        _logger.info(
            f"note: {steps} steps make one interval of {multiple}, so nothing runs in parallel; a smaller "
            "`coarsening` changes that"
        )
    held = local_slice(steps, grid.sequence, solver)
    return TimeSlice(held.start, held.stop, steps)
