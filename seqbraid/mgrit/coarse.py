"""The coarse levels: the coarsest is solved in sequence, the others by one V-cycle each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqbraid.mgrit.neighbours import Neighbours
from seqbraid.mgrit.options import MGRIT
from seqbraid.mgrit.problem import Problem, Steps

__all__ = ["CoarseLevels", "c_relax", "interval_starts", "relax_steps"]


def c_relax(points: Tensor, ends: Tensor, neighbours: Neighbours, weight: float) -> Tensor:
    """Move each C-point towards the state at the end of the interval before it, all the way at weight 1."""
    neighbours.send(ends[-1])
    received = neighbours.receive(points[0])
    first = points[0] if received is None else received
    relaxed = torch.cat([first.unsqueeze(0), ends[:-1]])
    return relaxed if weight == 1.0 else torch.lerp(points, relaxed, weight)


def _missing(count: int, coarsening: int, short_first: bool) -> int:
    """Return how many steps the first interval lacks."""
    return -count % coarsening if short_first else 0


def interval_starts(points: Tensor, coarsening: int, short_first: bool) -> Tensor:
    """Pick from the states before each step (count, ...) those at the starts of intervals."""
    missing = _missing(len(points), coarsening, short_first)
    return torch.cat([points[:1], points[coarsening - missing :: coarsening]])


def relax_steps(
    steps: Steps, coarsening: int, short_first: bool, points: Tensor, source: Tensor | None
) -> tuple[Tensor, Tensor]:
    """F-relaxation on a coarse level: u_{j+1} = Phi_j(u_j) + source_j through all intervals at once.

    From the states at interval starts (intervals, ...) to those before each step (count, ...) and those at
    interval ends (intervals, ...).
    """
    missing = _missing(steps.count, coarsening, short_first)
    states = points.new_empty((steps.count, *points.shape[1:]))
    current = points.clone()
    for k in range(coarsening):
        # The k-th step of every interval that has one; the first lacks its first ones.
        row = int(k < missing)
        which = slice(row * coarsening + k - missing, None, coarsening)
        rows = slice(row, row + len(range(*which.indices(steps.count))))
        if rows.start == rows.stop:
            continue
        states[which] = current[rows]
        moved = steps.apply(current[rows], which)
        current[rows] = moved if source is None else moved + source[which]
    return states, current


@dataclass
class CoarseLevels:
    """Levels 1, 2, ... of a solve, and how often their propagators ran.

    `sequences` counts runs through the coarsest level step by step, `batches` evaluations of a level's
    propagators at once (over all its steps, or over every c-th).
    """

    levels: list[Steps]
    options: MGRIT
    short_first: bool
    neighbours: Neighbours
    sequences: int = field(default=0, init=False)
    batches: int = field(default=0, init=False)

    @staticmethod
    def of(problem: Problem, options: MGRIT, neighbours: Neighbours) -> CoarseLevels:
        """Build the levels below a problem; for a rank that holds intervals."""
        levels = [problem.coarse_steps()]
        while len(levels) < options.levels - 1:
            levels.append(levels[-1].coarsen(options.coarsening, problem.short_first))
        return CoarseLevels(levels, options, problem.short_first, neighbours)

    def guess(self, initial: Tensor, level: int = 0) -> tuple[Tensor, Tensor]:
        """Solve the coarsest level and relax up to level 1: its points, and the one after the last."""
        if level == len(self.levels) - 1:
            return self._in_sequence(initial, None)
        points, end = self.guess(initial, level + 1)
        states, _ = self._relax(level, points, None)
        return states, end

    def apply(self, points: Tensor, level: int = 0) -> Tensor:
        """Apply a level's propagators to the states before each of its steps, at once."""
        self.batches += 1
        return self.levels[level].apply(points, slice(None))

    def correct(self, points: Tensor, tau: Tensor, initial: Tensor, level: int = 0) -> tuple[Tensor, Tensor]:
        """Solve C_{j+1} = Phi_j(C_j) + tau_j: exactly on the coarsest level, else one V-cycle from `points`.

        Returns this rank's points and the one after its last.
        """
        if level == len(self.levels) - 1:
            return self._in_sequence(initial, tau)
        options = self.options
        starts = interval_starts(points, options.coarsening, self.short_first)
        _, ends = self._relax(level, starts, tau)
        if options.relaxation == "FCF":
            starts = c_relax(starts, ends, self.neighbours, options.c_weight)
            _, ends = self._relax(level, starts, tau)
        starts, end = self.correct(starts, ends - self.apply(starts, level + 1), initial, level + 1)
        states, _ = self._relax(level, starts, tau)
        return states, end

    def _relax(self, level: int, points: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        self.batches += self.options.coarsening
        return relax_steps(self.levels[level], self.options.coarsening, self.short_first, points, source)

    def _in_sequence(self, initial: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor]:
        self.sequences += 1
        coarsest = self.levels[-1]
        received = self.neighbours.receive(initial)
        point = (initial if received is None else received).unsqueeze(0)
        points = initial.new_empty((coarsest.count, *initial.shape))
        for step in range(coarsest.count):
            points[step] = point[0]
            point = coarsest.apply(point, slice(step, step + 1))
            if tau is not None:
                point = point + tau[step]
        self.neighbours.send(point[0])
        return points, point[0]
