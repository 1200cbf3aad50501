"""The grid of ranks that options ask for."""

from __future__ import annotations

import argparse

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.errors import OptionsError
from seqbraid.train.slices import take_slice

__all__ = ["grid_from_options", "take_slice"]


def grid_from_options(options: argparse.Namespace, world: Communicator) -> ProcessGrid:
    """Return the grid of --sequence-ranks and --data-ranks.

    Raises `OptionsError` where they do not make the ranks that were started.
    """
    try:
        return ProcessGrid(world, options.sequence_ranks, options.data_ranks)
    except ValueError as error:
        raise OptionsError(f"--sequence-ranks and --data-ranks: {error}") from error
