"""Recurrent networks trained in parallel along the sequence."""

from seqbraid.comm import SimulatedWorld
from seqbraid.errors import SeqbraidError
from seqbraid.gru import GRU, sum_gradients
from seqbraid.mgrit import (
    MGRIT,
    Serial,
    SolverDivergedError,
    SolverDivergedWarning,
    SolveReport,
    local_slice,
)

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "MGRIT",
    "SeqbraidError",
    "Serial",
    "SimulatedWorld",
    "SolveReport",
    "SolverDivergedError",
    "SolverDivergedWarning",
    "local_slice",
    "sum_gradients",
]
