"""MGRIT with the full approximation scheme, over ranks that hold consecutive intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.mgrit.coarse import CoarseLevels, c_relax
from seqbraid.mgrit.neighbours import Neighbours
from seqbraid.mgrit.options import MGRIT
from seqbraid.mgrit.problem import Problem

__all__ = ["Solution", "has_diverged", "solve_in_parallel", "solve_in_sequence"]


@dataclass(frozen=True)
class Solution:
    """C-points (intervals, ...) from which the problem's last relaxation started, and its end state (...).

    The states inside the intervals are those that the problem kept. `residuals[k]` is that after k
    iterations, relative; none for a solve in sequence.
    """

    points: Tensor
    end: Tensor
    residuals: tuple[float, ...] = ()
    coarse_sequences: int = 0
    coarse_batches: int = 0


def solve_in_sequence(problem: Problem, initial: Tensor, neighbours: Neighbours) -> Solution:
    """Propagate through this rank's only interval, or none, once the previous rank has.

    `initial` (...) is the state at the beginning of the whole sequence.
    """
    if problem.intervals == 0:
        return Solution(initial.new_empty((0, *initial.shape)), initial)
    received = neighbours.receive(initial)
    start = (initial if received is None else received).unsqueeze(0)
    end = problem.relax(start)[0]
    neighbours.send(end)
    return Solution(start, end)


def solve_in_parallel(
    problem: Problem, initial: Tensor, neighbours: Neighbours, options: MGRIT, iterations: int
) -> Solution:
    """Run MGRIT on two or more levels.

    `initial` (...) is the state at the beginning of the whole sequence; `iterations` is exact where
    `options.tolerance` is None. A rank without intervals only takes part in the sums.
    """
    tolerance = options.tolerance
    if tolerance is not None:
        iterations = options.max_iterations
    levels = CoarseLevels.of(problem, options, neighbours) if problem.intervals else None
    points = end = last_end = initial
    if levels is None:
        points = initial.new_empty((0, *initial.shape))
    elif options.initial_guess == "coarse":
        points, end = levels.guess(initial)
    else:
        points, end = _zero_guess(problem, initial, neighbours)

    squares: list[Tensor] = []
    residuals: tuple[float, ...] = ()
    for iteration in range(iterations + 1):
        # This relaxation opens the iteration, measures the one before, and is the final one at the end.
        if levels is None:
            squares.append(torch.zeros(2, dtype=torch.float64))
        else:
            ends = problem.relax(points)
            last_end = ends[-1]
            squares.append(_residual_squares(points, end, ends))
        if tolerance is not None:
            residuals += _reduce_residuals(squares[-1:], neighbours)
            if residuals[-1] <= tolerance or not math.isfinite(residuals[-1]):
                break
        if iteration == iterations or levels is None:
            continue
        if options.relaxation == "FCF":
            points = c_relax(points, ends, neighbours, options.c_weight)
            ends = problem.relax(points)
        points, end = levels.correct(points, ends - levels.apply(points), initial)
    if tolerance is None:
        residuals = _reduce_residuals(squares, neighbours)
    if levels is None:
        return Solution(points, last_end, residuals)
    return Solution(points, last_end, residuals, levels.sequences, levels.batches)


def has_diverged(residuals: tuple[float, ...], epsilon: float) -> bool:
    """Say whether residuals are not finite, or above the first after at least two iterations.

    Rounding (1000 times the dtype's `epsilon`) does not count as growth.
    """
    if not all(math.isfinite(residual) for residual in residuals):
        return True
    return len(residuals) > 2 and residuals[-1] > max(residuals[0], 1e3 * epsilon)


def _zero_guess(problem: Problem, initial: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
    points = initial.new_zeros((problem.intervals, *initial.shape))
    if neighbours.previous is None:
        points[0] = initial
    return points, torch.zeros_like(initial)


def _residual_squares(points: Tensor, end: Tensor, ends: Tensor) -> Tensor:
    """Return the squared norms of e_i - C_{i+1} and of e_i over this rank's intervals, in float64."""
    difference = ends - torch.cat([points[1:], end.unsqueeze(0)])
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in (difference, ends)]
    return torch.stack(norms).square().cpu()


def _reduce_residuals(squares: list[Tensor], neighbours: Neighbours) -> tuple[float, ...]:
    total = neighbours.sum(torch.stack(squares), "residual")
    return tuple(
        math.sqrt(difference / states) if states > 0 else (0.0 if difference == 0 else math.inf)
        for difference, states in total.tolist()
    )
