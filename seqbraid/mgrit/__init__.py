"""Multigrid reduction in time: the grid over ranks, the problem protocol, the solver and its report."""

from seqbraid.mgrit.grid import Partition, local_slice
from seqbraid.mgrit.options import MGRIT, Serial
from seqbraid.mgrit.problem import Problem
from seqbraid.mgrit.report import DirectionReport, SolverDivergedError, SolverDivergedWarning, SolveReport
from seqbraid.mgrit.solver import Neighbours, has_diverged, solve_in_parallel, solve_in_sequence

__all__ = [
    "MGRIT",
    "DirectionReport",
    "Neighbours",
    "Partition",
    "Problem",
    "Serial",
    "SolveReport",
    "SolverDivergedError",
    "SolverDivergedWarning",
    "has_diverged",
    "local_slice",
    "solve_in_parallel",
    "solve_in_sequence",
]
