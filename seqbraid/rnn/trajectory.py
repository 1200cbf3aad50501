"""A forward solve as its adjoint needs it: kept whole, or recomputed from its C-points by chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from seqbraid.kernels import Chunk, Intervals, Sweeps, empty_series

__all__ = ["Projection", "Trajectory", "steps_at_once"]


def steps_at_once(batch: int, hidden: int) -> int:
    """Return how many steps to take at a time where work goes chunk by chunk.

    Enough for efficient products, few enough for the chunk's gates to stay in the last level of cache.
    """
    rows = min(max(2**19 // hidden, 1024), 4096)
    return max(1, rows // batch)


@dataclass(frozen=True)
class Projection:
    """What steps take of a slice x (T, B, I), of a GRU its projection; `whole` (T, B, W) where it is kept."""

    x: Tensor
    whole: Tensor | None = None

    def kept(self, sweeps: Sweeps) -> Projection:
        """Project the whole slice at once, for several sweeps."""
        return replace(self, whole=sweeps.project(self.x))

    def at(self, times: slice, sweeps: Sweeps) -> Tensor:
        """Return the inputs (t, B, W) of a stretch of time."""
        if self.whole is not None:
            return self.whole[times]
        return sweeps.project(self.x[times])


@dataclass(frozen=True)
class Trajectory:
    """The states of a forward solve's last relaxation, which started from `points` (n, B, S).

    `states` (T, B, S) and `factors` (T, B, ...) are None where only the C-points are kept; `projection` is
    None where it is not needed any more. `counts` is int32 (T, B), 0 past a sequence's end; None for 1
    everywhere.
    """

    sweeps: Sweeps
    intervals: Intervals
    points: Tensor
    counts: Tensor | None
    states: Tensor | None
    factors: Tensor | None
    projection: Projection | None

    def forward(
        self,
        chunk: Chunk,
        points: Tensor,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """Propagate a chunk's C-points (k, B, S) to the ends of its intervals; see `Sweeps.forward`."""
        if self.projection is None:
            raise RuntimeError("the projected input of this trajectory is gone")
        return self.sweeps.forward(
            self.projection.at(chunk.times, self.sweeps),
            points,
            chunk.intervals,
            None,
            1 if self.counts is None else self.counts[chunk.times],
            states=states,
            factors=factors,
            group=group,
        )

    def around(self, chunk: Chunk, want_before: bool) -> tuple[Tensor, Tensor | None]:
        """Return a chunk's factors (t, B, ...) and the states (t, B, S) before its steps, if wanted."""
        factors, states = self.factors, self.states
        if factors is not None:
            factors = factors[chunk.times]
            return factors, self._before(chunk, states) if want_before else None
        steps = chunk.times.stop - chunk.times.start
        batch, hidden = self.points.shape[1:]
        factors = empty_series((steps, batch, *self.sweeps.factor_shape), self.points)
        states = empty_series((steps, batch, hidden), self.points) if want_before else None
        self.forward(chunk, self.points[chunk.which], states, factors)
        return factors, self._before(chunk, states, chunk.times.start) if want_before else None

    def _before(self, chunk: Chunk, states: Tensor | None, beginning: int = 0) -> Tensor:
        """Shift the states after each step, the first at time `beginning`, by one step of the solve."""
        if states is None:
            raise RuntimeError("the states of this trajectory were not kept")
        first, last = chunk.times.start - beginning, chunk.times.stop - beginning
        interval = self.intervals.times(chunk.which)
        points = self.points[chunk.which]
        reverse = self.intervals.reverse
        # A chunk within a longer interval begins at a state, all others at C-points.
        if reverse and chunk.times.stop < interval.stop:
            return states[first + 1 : last + 1]
        if not reverse and chunk.times.start > interval.start:
            return states[first - 1 : last - 1]
        before = empty_series((last - first, *states.shape[1:]), states)
        length = chunk.intervals.length
        if reverse:
            before[:-1] = states[first + 1 : last]
            before[-1] = points[0]
            before[length - 1 : -1 : length] = points[1:].flip(0)
        else:
            before[1:] = states[first : last - 1]
            before[0] = points[0]
            before[length::length] = points[1:]
        return before
