"""The coarse levels: the coarsest is solved in sequence, the others by one V-cycle each.

Two ways lead through the coarsest level, and it says itself which is taken (`CoarseLevel.sequential`). Its
steps are gathered from all ranks once, and every rank then takes all of them itself; or they stay where they
are, and each rank hands its last state to the next. The pipeline takes the same steps one after the other,
and waits for a message at every rank besides: P latencies a solve, where a gathered source costs log2 P. It
is for steps that are too large to be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqbraid.mgrit.neighbours import Neighbours
from seqbraid.mgrit.problem import CoarseLevel, Problem
from seqbraid.options import MGRIT

__all__ = ["CoarseHierarchy", "interval_starts", "move_points"]


def move_points(points: Tensor, ends: Tensor, received: Tensor | None, weight: float) -> Tensor:
    """C-relaxation: move each C-point to the end state of the interval before it, all the way at weight 1.

    `received` (...) is the end state on the rank before, None where there is none.
    """
    if not len(points):
        return points
    first = points[0] if received is None else received
    relaxed = torch.cat([first.unsqueeze(0), ends[:-1]])
    return relaxed if weight == 1.0 else torch.lerp(points, relaxed, weight)


def interval_starts(points: Tensor, coarsening: int, short_first: bool) -> Tensor:
    """Pick from the states before each step (count, ...) those at the starts of intervals."""
    missing = -len(points) % coarsening if short_first else 0
    return torch.cat([points[:1], points[coarsening - missing :: coarsening]])


@dataclass
class CoarseHierarchy:
    """Levels 1, 2, ... of a solve, `levels[0]` being level 1, and how often their propagators ran.

    `sequences` counts runs through the coarsest level step by step, `batches` evaluations of a level's
    propagators at once (over all its steps, or over every c-th). `seconds` adds up what was done within
    `timed()`, without communication.
    """

    levels: list[CoarseLevel]
    options: MGRIT
    short_first: bool
    neighbours: Neighbours
    sequences: int = field(default=0, init=False)
    batches: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    # The coarsest level's steps on all ranks, once they have been gathered.
    _everything: CoarseLevel | None = field(default=None, init=False)

    @staticmethod
    def of(problem: Problem, options: MGRIT, neighbours: Neighbours, for_guess: bool) -> CoarseHierarchy:
        """Build the levels below a problem; `for_guess` tells whether `guess` will be called."""
        coarse = CoarseHierarchy([], options, problem.short_first, neighbours)
        with coarse.timed():
            coarse.levels.append(problem.coarse_level(for_guess))
            while len(coarse.levels) < options.levels - 1:
                factor = options.coarsening_of(len(coarse.levels))
                coarse.levels.append(coarse.levels[-1].coarsen(factor))
        return coarse

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add what is done within to `seconds`."""
        clock, neighbours = self.neighbours.communicator.clock, self.neighbours
        start = clock() - neighbours.seconds
        yield
        self.seconds += clock() - neighbours.seconds - start

    def guess(self, initial: Tensor, level: int = 1) -> tuple[Tensor, Tensor]:
        """Solve the coarsest level and relax up to level 1: its points, and the one after the last."""
        if level == len(self.levels):
            return self._in_sequence(initial, None)
        points, end = self.guess(initial, level + 1)
        states, _ = self._relax(level, points, None)
        return states, end

    def apply(self, points: Tensor, level: int = 1) -> Tensor:
        """Apply a level's propagators to the states before each of its steps, at once."""
        self.batches += 1
        return self.levels[level - 1].propagate(points, 1, None)[1]

    def correct(self, points: Tensor, tau: Tensor, initial: Tensor, level: int = 1) -> tuple[Tensor, Tensor]:
        """Solve C_{j+1} = Phi_j(C_j) + tau_j: exactly on the coarsest level, else one V-cycle from `points`.

        Returns this rank's points and the one after its last.
        """
        if level == len(self.levels):
            return self._in_sequence(initial, tau)
        options = self.options
        starts = interval_starts(points, options.coarsening_of(level), self.short_first)
        _, ends = self._relax(level, starts, tau)
        if options.relaxation_of(level) == "FCF":
            if len(ends):
                self.neighbours.send(ends[-1])
            received = self.neighbours.receive(initial)
            starts = move_points(starts, ends, received, options.c_weight_of(level))
            _, ends = self._relax(level, starts, tau)
        starts, end = self.correct(starts, ends - self.apply(starts, level + 1), initial, level + 1)
        states, _ = self._relax(level, starts, tau)
        return states, end

    def _relax(self, level: int, points: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        coarsening = self.options.coarsening_of(level)
        self.batches += coarsening
        return self.levels[level - 1].propagate(points, coarsening, source)

    def _gather(self, tensor: Tensor) -> Tensor:
        multiple = self.options.slice_multiple
        return self.neighbours.gather(tensor, multiple, "coarsest level")

    def _in_sequence(self, initial: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor]:
        self.sequences += 1
        if self.levels[-1].sequential == "pipeline":
            return self._in_pipeline(initial, tau)
        source = None if tau is None else self._gather(tau)
        everything = self._everything = self._everything or self.levels[-1].gather(self._gather)
        before, ends = everything.propagate(initial.unsqueeze(0), everything.count, source)
        count = self.levels[-1].count
        first = self.neighbours.steps_before(self.options.slice_multiple)
        after = first + count
        end = before[after] if after < everything.count else ends[0]
        return before[first:after], end

    def _in_pipeline(self, initial: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor]:
        level = self.levels[-1]
        if not level.count:
            return initial.new_empty((0, *initial.shape)), initial
        received = self.neighbours.receive(initial)
        start = initial if received is None else received
        points, ends = level.propagate(start.unsqueeze(0), level.count, tau)
        self.neighbours.send(ends[0])
        return points, ends[0]
