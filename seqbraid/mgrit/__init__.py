"""Multigrid reduction in time: the grid over ranks, the problem protocol, the solver and its report."""

from seqbraid.mgrit.coarse import interval_starts
from seqbraid.mgrit.grid import Partition, interval_count, local_slice
from seqbraid.mgrit.neighbours import Neighbours
from seqbraid.mgrit.problem import CoarseLevel, Problem
from seqbraid.mgrit.report import DirectionReport, SolverDivergedError, SolverDivergedWarning, SolveReport
from seqbraid.mgrit.solver import (
    Solution,
    has_diverged,
    relative_residuals,
    solve_in_parallel,
    solve_in_sequence,
)
from seqbraid.options import MGRIT, Serial

__all__ = [
    "MGRIT",
    "CoarseLevel",
    "DirectionReport",
    "Neighbours",
    "Partition",
    "Problem",
    "Serial",
    "Solution",
    "SolveReport",
    "SolverDivergedError",
    "SolverDivergedWarning",
    "has_diverged",
    "interval_count",
    "interval_starts",
    "local_slice",
    "relative_residuals",
    "solve_in_parallel",
    "solve_in_sequence",
]
