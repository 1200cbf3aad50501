"""Two-level MGRIT with the full approximation scheme, over ranks that hold consecutive intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator
from seqbraid.mgrit.options import MGRIT
from seqbraid.mgrit.problem import Problem

__all__ = ["Neighbours", "has_diverged", "solve_in_parallel", "solve_in_sequence"]


@dataclass(frozen=True)
class Neighbours:
    """The ranks before and after this one in the direction of the solve, and a name for error messages."""

    communicator: Communicator
    previous: int | None
    next: int | None
    what: str

    def receive(self, like: Tensor) -> Tensor | None:
        """Return the state that the previous rank sent, of the form of `like`; None where there is none."""
        if self.previous is None:
            return None
        return self.communicator.receive(torch.empty_like(like), self.previous, self.what)

    def send(self, state: Tensor) -> None:
        """Hand a state to the next rank, if there is one."""
        if self.next is not None:
            self.communicator.send(state, self.next, self.what)


def solve_in_sequence(problem: Problem, initial: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
    """Propagate through this rank's only interval once the previous rank has; returns its start and end.

    `initial` (...) is the state at the beginning of the whole sequence. The rank holds one interval.
    """
    received = neighbours.receive(initial)
    start = initial if received is None else received
    end = problem.relax(start.unsqueeze(0))[0]
    neighbours.send(end)
    return start, end


def solve_in_parallel(
    problem: Problem, initial: Tensor, neighbours: Neighbours, options: MGRIT, iterations: int
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Run MGRIT; returns C-points (intervals, ...), the end state (...) and the residual by iteration.

    The states inside the intervals and the end state are those of the problem's last relaxation, which
    starts from the returned C-points. `initial` (...) is the state at the beginning of the whole sequence;
    `iterations` is exact where `options.tolerance` is None. A rank without intervals only takes part in
    the sums.
    """
    tolerance = options.tolerance
    if tolerance is not None:
        iterations = options.max_iterations
    idle = problem.intervals == 0
    points = end = last_end = initial
    if idle:
        points = initial.new_empty((0, *initial.shape))
    else:
        points, end = _initial_guess(problem, initial, neighbours, options)

    squares: list[Tensor] = []
    residuals: tuple[float, ...] = ()
    for iteration in range(iterations + 1):
        # This relaxation opens the iteration, measures the one before, and is the final one at the end.
        if idle:
            squares.append(torch.zeros(2, dtype=torch.float64))
        else:
            ends = problem.relax(points)
            last_end = ends[-1]
            squares.append(_residual_squares(points, end, ends))
        if tolerance is not None:
            residuals += _reduce_residuals(squares[-1:], neighbours)
            if residuals[-1] <= tolerance or not math.isfinite(residuals[-1]):
                break
        if iteration == iterations or idle:
            continue
        if options.relaxation == "FCF":
            points = _c_relax(points, ends, neighbours)
            ends = problem.relax(points)
        tau = ends - problem.coarse(points)
        points, end = _coarse_solve(problem, initial, tau, neighbours)
    if tolerance is None:
        residuals = _reduce_residuals(squares, neighbours)
    return points, last_end, residuals


def has_diverged(residuals: tuple[float, ...], epsilon: float) -> bool:
    """Say whether residuals are not finite, or above the first after at least two iterations.

    Rounding (1000 times the dtype's `epsilon`) does not count as growth.
    """
    if not all(math.isfinite(residual) for residual in residuals):
        return True
    return len(residuals) > 2 and residuals[-1] > max(residuals[0], 1e3 * epsilon)


def _initial_guess(
    problem: Problem, initial: Tensor, neighbours: Neighbours, options: MGRIT
) -> tuple[Tensor, Tensor]:
    if options.initial_guess == "coarse":
        return _coarse_solve(problem, initial, None, neighbours)
    points = initial.new_zeros((problem.intervals, *initial.shape))
    if neighbours.previous is None:
        points[0] = initial
    return points, torch.zeros_like(initial)


def _c_relax(points: Tensor, ends: Tensor, neighbours: Neighbours) -> Tensor:
    """Replace each C-point by the fine state at the end of the interval before it."""
    neighbours.send(ends[-1])
    received = neighbours.receive(points[0])
    first = points[0] if received is None else received
    return torch.cat([first.unsqueeze(0), ends[:-1]])


def _coarse_solve(
    problem: Problem, initial: Tensor, tau: Tensor | None, neighbours: Neighbours
) -> tuple[Tensor, Tensor]:
    """Solve C_{i+1} = Phi_c(C_i) + tau_i in sequence; returns this rank's C-points and the one after them."""
    received = neighbours.receive(initial)
    point = initial if received is None else received
    points = initial.new_empty((problem.intervals, *initial.shape))
    for interval in range(problem.intervals):
        points[interval] = point
        point = problem.coarse_step(interval, point)
        if tau is not None:
            point = point + tau[interval]
    neighbours.send(point)
    return points, point


def _residual_squares(points: Tensor, end: Tensor, ends: Tensor) -> Tensor:
    """Return the squared norms of e_i - C_{i+1} and of e_i over this rank's intervals, in float64."""
    difference = ends - torch.cat([points[1:], end.unsqueeze(0)])
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in (difference, ends)]
    return torch.stack(norms).square().cpu()


def _reduce_residuals(squares: list[Tensor], neighbours: Neighbours) -> tuple[float, ...]:
    total = neighbours.communicator.all_reduce(torch.stack(squares), f"{neighbours.what}: residual")
    return tuple(
        math.sqrt(difference / states) if states > 0 else (0.0 if difference == 0 else math.inf)
        for difference, states in total.tolist()
    )
