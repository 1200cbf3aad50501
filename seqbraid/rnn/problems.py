"""A layer's forward and adjoint recurrences as problems of the solver."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqbraid.kernels import Chunk, GradientAccumulator, Intervals, empty_series
from seqbraid.rnn.coarse import AdjointCoarseLevel, ForwardCoarseLevel
from seqbraid.rnn.trajectory import Trajectory, steps_at_once

__all__ = ["LayerAdjoint", "LayerForward"]

# Rows that a sweep needs to be at full speed.
_FULL_ROWS = 24
# Groups of sequences that follow one another through the ranks: each of enough rows for an efficient tile,
# and not so many that the messages' own cost grows above that of the steps.
_LEAST_GROUP = 4
_MOST_GROUPS = 8


def _groups(batch: int) -> list[slice]:
    count = max(1, min(batch // _LEAST_GROUP, _MOST_GROUPS))
    return [slice(batch * group // count, batch * (group + 1) // count) for group in range(count)]


def _share(points: Tensor, intervals: int, group: slice | None) -> float:
    """Return which part of a sweep through all intervals of all sequences a relaxation is."""
    part = 1.0 if group is None else (group.stop - group.start) / points.shape[1]
    return part * len(points) / intervals if intervals else 0.0


class LayerForward:
    """States from the layer's inputs.

    A relaxation that keeps writes into `states` (T, B, S) and `factors` (T, B, ...), None for not.
    `trajectory` has the inputs; its C-points are not read. `build_coarse` makes level 1, None for a solve in
    sequence; `output` what the loss sees of the states.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        build_coarse: Callable[[], ForwardCoarseLevel] | None,
        output: Callable[[Tensor], Tensor],
        states: Tensor,
        factors: Tensor | None,
    ) -> None:
        self.intervals = trajectory.intervals.count
        self.short_first = trajectory.intervals.reverse
        batch, hidden = states.shape[1:]
        self.together = max(1, _FULL_ROWS // batch)
        self.groups = _groups(batch)
        self.sweeps = 0.0
        self._trajectory = trajectory
        self._build_coarse, self._output = build_coarse, output
        self._coarse: ForwardCoarseLevel | None = None
        self._states = states
        self._factors = factors
        projected = trajectory.projection is not None and trajectory.projection.whole is not None
        self._at_once = None if projected else steps_at_once(batch, hidden)

    def relax(self, points: Tensor, which: slice, keep: bool, group: slice | None = None) -> Tensor:
        """See `Problem.relax`."""
        self.sweeps += _share(points, self.intervals, group)
        ends = points.clone()
        for chunk in self._trajectory.intervals.chunks(which, self._at_once):
            rows = slice(chunk.which.start - which.start, chunk.which.stop - which.start)
            states = self._states[chunk.times] if keep else None
            factors = self._factors[chunk.times] if keep and self._factors is not None else None
            ends[rows] = self._trajectory.forward(chunk, ends[rows], states, factors, group)
        return ends

    def coarse_level(self, for_guess: bool) -> ForwardCoarseLevel:
        """See `Problem.coarse_level`."""
        if self._build_coarse is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        self._coarse = self._build_coarse()
        return self._coarse

    def output(self) -> Tensor:
        """See `ForwardProblem.output`."""
        return self._output(self._states)

    def saved(self, points: Tensor) -> list[Tensor | None]:
        """See `ForwardProblem.saved`: points, states, factors, and the inputs and counts of level 1."""
        coarse = self._coarse
        inputs = None if coarse is None else coarse.inputs
        counts = None if coarse is None or isinstance(coarse.counts, int) else coarse.counts
        states = None if self._factors is None else self._states
        return [points, states, self._factors, inputs, counts]


class LayerAdjoint:
    """Cotangents of the states, against the order of the forward solve, about the states that it returned.

    The unknown at a C-point is dL/du carried back from the steps after it; what the loss adds at a state
    itself, `direct` (T, B, S), enters with the interval that ends there. A relaxation that keeps adds every
    step's part to `accumulator`. `sweeps` counts relaxations in units of all intervals. `coarse` is
    the forward solve's level 1, None for a solve in sequence, which takes all steps as one interval.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        direct: Tensor | None,
        accumulator: GradientAccumulator,
        coarse: ForwardCoarseLevel | None,
    ) -> None:
        forward = trajectory.intervals
        self.short_first = not forward.reverse
        self._whole = coarse is None
        self.intervals = min(1, forward.count) if self._whole else forward.count
        batch, hidden = trajectory.points.shape[1:]
        self.together = max(1, _FULL_ROWS // batch)
        self.groups = _groups(batch)
        self.sweeps = 0.0
        self._trajectory = trajectory
        self._direct = direct
        self._accumulator = accumulator
        self._coarse = coarse
        # What is not kept is recomputed from C-points, so that a single interval cannot be cut.
        recomputed_whole = trajectory.factors is None and forward.count == 1
        self._at_once = None if recomputed_whole else steps_at_once(batch, hidden)

    def relax(self, points: Tensor, which: slice, keep: bool, group: slice | None = None) -> Tensor:
        """See `Problem.relax`."""
        self.sweeps += _share(points, self.intervals, group)
        ends = points.clone()
        if not len(points):
            return ends
        forward = self._trajectory.intervals
        # The forward solve's count of the same intervals.
        first = 0 if self._whole else forward.count - which.stop
        last = forward.count if self._whole else forward.count - which.start
        at_once = self._at_once if keep or self._trajectory.factors is None else None
        for chunk in reversed(forward.chunks(slice(first, last), at_once)):
            rows = slice(0, 1) if self._whole else slice(last - chunk.which.stop, last - chunk.which.start)
            ends[rows] = self._adjoint(chunk, ends[rows], keep, group)
        return ends

    def _adjoint(self, chunk: Chunk, points: Tensor, keep: bool, group: slice | None) -> Tensor:
        trajectory = self._trajectory
        factors, before = trajectory.around(chunk, keep and self._accumulator.needs_states)
        steps, batch = factors.shape[:2]
        shape = (steps, batch, *trajectory.sweeps.cotangent_shape)
        step_cotangents = empty_series(shape, factors) if keep else None
        length = steps if self._whole else chunk.intervals.length
        ends = trajectory.sweeps.adjoint(
            factors,
            points,
            Intervals(steps, length, self.short_first),
            direct=None if self._direct is None else self._direct[chunk.times],
            step_cotangents=step_cotangents,
            group=group,
        )
        if step_cotangents is not None:
            counts = None if trajectory.counts is None else trajectory.counts[chunk.times]
            self._accumulator.add(chunk.times, step_cotangents, before, counts)
        return ends

    def gradients(self) -> list[Tensor | None]:
        """See `AdjointProblem.gradients`."""
        return self._accumulator.gradients()

    def coarse_level(self, for_guess: bool) -> AdjointCoarseLevel:
        """See `Problem.coarse_level`."""
        if self._coarse is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        source = self._estimated_source() if for_guess and self._direct is not None else None
        return AdjointCoarseLevel.of(self._coarse, self._trajectory.points, source)

    def _estimated_source(self) -> Tensor:
        """Return what the loss adds inside each interval, carried to its start along the diagonal.

        Only the guess depends on it: a correction is the same with any source. The exact one costs a sweep,
        and after one iteration the errors are alike.
        """
        trajectory = self._trajectory
        forward = trajectory.intervals
        source = torch.zeros_like(trajectory.points)
        at_once = None if trajectory.factors is not None else self._at_once
        for chunk in forward.chunks(slice(0, forward.count), at_once):
            factors, _ = trajectory.around(chunk, want_before=False)
            steps = len(factors)
            intervals = Intervals(steps, chunk.intervals.length, self.short_first)
            rows = slice(forward.count - chunk.which.stop, forward.count - chunk.which.start)
            if self._direct is not None:
                source[rows] = trajectory.sweeps.carry(factors, self._direct[chunk.times], intervals)
        return source
