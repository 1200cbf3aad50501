"""MGRIT with the full approximation scheme, over ranks that hold consecutive intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.mgrit.coarse import CoarseHierarchy, move_points
from seqbraid.mgrit.neighbours import Neighbours
from seqbraid.mgrit.problem import Problem
from seqbraid.options import MGRIT

__all__ = ["Solution", "has_diverged", "relative_residuals", "solve_in_parallel", "solve_in_sequence"]


@dataclass(frozen=True)
class Solution:
    """C-points (intervals, ...) from which the problem's last relaxation started, and its end state (...).

    The states inside the intervals are those that the problem kept. `squares` (iterations + 1, 2), in float64
    on the CPU, are the squared norms of e_i - C_{i+1} and of e_i over this rank's intervals after each number
    of iterations, or a common multiple: their sum over the ranks makes the residuals, and is left to the
    caller, who may have more to sum. None for a solve in sequence. `coarse_seconds` is the time on the coarse
    levels, without communication.
    """

    points: Tensor
    end: Tensor
    squares: Tensor | None = None
    coarse_sequences: int = 0
    coarse_batches: int = 0
    coarse_seconds: float = 0.0


def solve_in_sequence(problem: Problem, initial: Tensor, neighbours: Neighbours) -> Solution:
    """Propagate through this rank's only interval, or none, once the previous rank has.

    `initial` (...) is the state at the beginning of the whole sequence. The problem's groups follow one
    another through the ranks: while one is here, the next is still on the rank before.
    """
    if problem.intervals == 0:
        return Solution(initial.new_empty((0, *initial.shape)), initial)
    whole = slice(0, 1)
    start = initial.unsqueeze(0).clone()
    alone = neighbours.previous is None and neighbours.next is None
    for group in [] if alone else problem.groups:
        received = neighbours.receive(initial[group])
        if received is not None:
            start[0, group] = received
        if neighbours.next is not None:
            # The next rank waits for the end state alone: what is kept is left for when it has that.
            neighbours.send(problem.relax(start, whole, keep=False, group=group)[0, group])
    return Solution(start, problem.relax(start, whole, keep=True)[0])


def solve_in_parallel(
    problem: Problem,
    initial: Tensor,
    neighbours: Neighbours,
    options: MGRIT,
    iterations: int,
    guess: Tensor | None = None,
) -> Solution:
    """Run MGRIT on two or more levels; collective.

    `initial` (...) is the state at the beginning of the whole sequence; `iterations` is exact where
    `options.tolerance` is None. `guess` (intervals, ...) are the states at the ends of this rank's intervals
    to begin with, on all ranks or on none; without, the options tell the initial guess.
    """
    tolerance = options.tolerance
    if tolerance is not None:
        iterations = options.max_iterations
    fcf = options.relaxation_of(0) == "FCF"
    from_coarse = guess is None and options.initial_guess == "coarse"
    levels = CoarseHierarchy.of(problem, options, neighbours, from_coarse)
    everything = slice(0, problem.intervals)
    if guess is not None:
        points, end = _points_before(guess, initial, neighbours)
    elif from_coarse:
        with levels.timed():
            points, end = levels.guess(initial)
    else:
        points, end = _zero_guess(problem, initial, neighbours)

    squares: list[Tensor] = []
    for iteration in range(iterations + 1):
        # This relaxation opens the iteration, measures the one before, and is the final one at the end.
        final = iteration == iterations
        opens_fcf = fcf and not final and tolerance is None
        if opens_fcf:
            ends = _relax_last_first(problem, points, neighbours)
        else:
            ends = problem.relax(points, everything, keep=final)
        squares.append(_residual_squares(points, end, ends))
        if tolerance is not None:
            residual = relative_residuals(neighbours.sum(squares[-1], "residual").unsqueeze(0))[0]
            if residual <= tolerance or math.isnan(residual):
                if not final:
                    # That this relaxation was the last could not be known before it.
                    ends = problem.relax(points, everything, keep=True)
                break
        if final:
            break
        if fcf:
            if not opens_fcf and len(ends):
                neighbours.send(ends[-1])
            points, ends = _move_and_relax(problem, points, ends, initial, neighbours, options.c_weight_of(0))
        with levels.timed():
            points, end = levels.correct(points, ends - levels.apply(points), initial)
    last_end = ends[-1] if len(ends) else initial
    return Solution(points, last_end, torch.stack(squares), levels.sequences, levels.batches, levels.seconds)


def _relax_last_first(problem: Problem, points: Tensor, neighbours: Neighbours) -> Tensor:
    """F-relaxation that hands its last state to the next rank before it goes through the other intervals."""
    count, few = problem.intervals, problem.together
    if neighbours.next is None or count < 2 * few:
        ends = problem.relax(points, slice(0, count), keep=False)
        if count:
            neighbours.send(ends[-1])
        return ends
    last = problem.relax(points[count - few :], slice(count - few, count), keep=False)
    neighbours.send(last[-1])
    return torch.cat([problem.relax(points[: count - few], slice(0, count - few), keep=False), last])


def _move_and_relax(
    problem: Problem, points: Tensor, ends: Tensor, initial: Tensor, neighbours: Neighbours, weight: float
) -> tuple[Tensor, Tensor]:
    """C- and F-relaxation, in which the first interval comes last: it waits for the rank before."""
    count, few = problem.intervals, problem.together
    if neighbours.previous is None or count < 2 * few:
        points = move_points(points, ends, neighbours.receive(initial), weight)
        return points, problem.relax(points, slice(0, count), keep=False)
    others = move_points(points, ends, None, weight)[few:]
    later = problem.relax(others, slice(few, count), keep=False)
    first = move_points(points[:few], ends[:few], neighbours.receive(initial), weight)
    points = torch.cat([first, others])
    return points, torch.cat([problem.relax(first, slice(0, few), keep=False), later])


def has_diverged(residuals: tuple[float, ...], epsilon: float) -> bool:
    """Say whether residuals end not finite, or above the first after at least two iterations.

    States of zero have a residual of infinity as long as their C-points are others, and then one of 0.
    Rounding (1000 times the dtype's `epsilon`) does not count as growth.
    """
    if not residuals:
        return False
    if any(map(math.isnan, residuals)) or math.isinf(residuals[-1]):
        return True
    return len(residuals) > 2 and residuals[-1] > max(residuals[0], 1e3 * epsilon)


def _zero_guess(problem: Problem, initial: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
    points = initial.new_zeros((problem.intervals, *initial.shape))
    if neighbours.previous is None and problem.intervals:
        points[0] = initial
    return points, torch.zeros_like(initial)


def _points_before(ends: Tensor, initial: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
    """Return the C-points whose intervals end in `ends`, and the point after the last."""
    if not len(ends):
        return ends, initial
    neighbours.send(ends[-1])
    received = neighbours.receive(initial)
    first = initial if received is None else received
    return torch.cat([first.unsqueeze(0), ends[:-1]]), ends[-1]


def _residual_squares(points: Tensor, end: Tensor, ends: Tensor) -> Tensor:
    """Return the squared norms of e_i - C_{i+1} and of e_i over this rank's intervals, in float64."""
    if not len(ends):
        return torch.zeros(2, dtype=torch.float64)
    difference = ends - torch.cat([points[1:], end.unsqueeze(0)])
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in (difference, ends)]
    return torch.stack(norms).square().cpu()


def relative_residuals(squares: Tensor) -> tuple[float, ...]:
    """Return ||e - C|| / ||e|| from the sums (iterations + 1, 2) of their squares over all ranks."""
    return tuple(
        math.sqrt(difference / states) if states > 0 else (0.0 if difference == 0 else math.inf)
        for difference, states in squares.tolist()
    )
