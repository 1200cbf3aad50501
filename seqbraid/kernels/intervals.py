"""How a stretch of steps is cut into intervals, whose rows a sweep takes through their steps together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

__all__ = ["Chunk", "Intervals", "Piece"]


@dataclass(frozen=True)
class Piece:
    """Intervals `first` to `first + count - 1` of `steps` steps each.

    The k-th step of the i-th of them lies at time `origin + i stride + k direction`.
    """

    first: int
    count: int
    steps: int
    origin: int
    stride: int
    direction: int

    def take(self, series: Tensor, k: int) -> Tensor:
        """Return the k-th steps (count, ...) of a series (T, ...)."""
        taken = series[self._times(k)]
        return taken if self.stride > 0 else taken.flip(0)

    def put(self, series: Tensor, k: int, values: Tensor) -> None:
        """Write the k-th steps (count, ...) of a series (T, ...)."""
        series[self._times(k)] = values if self.stride > 0 else values.flip(0)

    def _times(self, k: int) -> slice:
        first = self.origin + k * self.direction
        last = first + (self.count - 1) * self.stride
        return slice(min(first, last), max(first, last) + 1, abs(self.stride))


@dataclass(frozen=True)
class Intervals:
    """`steps` steps in intervals of `length`, aligned to the first in time; the last in time may be short.

    Intervals are counted in the order of the sweep, series are in the order of time: with `reverse` the sweep
    runs from the last step to the first, and interval 0 is the last in time.
    """

    steps: int
    length: int
    reverse: bool = False

    @staticmethod
    def one(steps: int, reverse: bool = False) -> Intervals:
        """Return all steps as one interval."""
        return Intervals(steps, max(steps, 1), reverse)

    @property
    def count(self) -> int:
        """The number n of intervals, a short one included."""
        return -(-self.steps // self.length)

    @property
    def short_first(self) -> bool:
        """Whether it is the first interval of the sweep that may be short."""
        return self.reverse

    def pieces(self) -> Iterator[Piece]:
        """Yield the intervals in runs of equal length."""
        full, rest = divmod(self.steps, self.length)
        short = 1 if rest else 0
        if self.reverse:
            if rest:
                yield Piece(0, 1, rest, self.steps - 1, self.length, -1)
            if full:
                yield Piece(short, full, self.length, full * self.length - 1, -self.length, -1)
            return
        if full:
            yield Piece(0, full, self.length, 0, self.length, 1)
        if rest:
            yield Piece(full, 1, rest, full * self.length, self.length, 1)

    def times(self, which: slice) -> slice:
        """Return the stretch of time that a run of intervals covers."""
        first, last = which.start, which.stop
        if self.reverse:
            first, last = self.count - last, self.count - first
        return slice(min(first * self.length, self.steps), min(last * self.length, self.steps))

    def chunks(self, which: slice, steps: int | None = None) -> list[Chunk]:
        """Cut a run of intervals into chunks of about `steps` steps, in the sweep's order; None: one chunk.

        A chunk is one or more whole intervals; a single interval is cut too, into pieces that follow one
        another.
        """
        if which.start >= which.stop:
            return []
        if steps is None:
            return [self._chunk(which)]
        if self.count == 1:
            times = self.times(which)
            firsts = range(times.start, times.stop, steps)
            pieces = [slice(first, min(first + steps, times.stop)) for first in firsts]
            if self.reverse:
                pieces.reverse()
            return [
                Chunk(which, piece, Intervals.one(piece.stop - piece.start, self.reverse)) for piece in pieces
            ]
        run = max(1, steps // self.length)
        firsts = range(which.start, which.stop, run)
        return [self._chunk(slice(first, min(first + run, which.stop))) for first in firsts]

    def _chunk(self, which: slice) -> Chunk:
        times = self.times(which)
        return Chunk(which, times, replace(self, steps=times.stop - times.start))


@dataclass(frozen=True)
class Chunk:
    """A run of intervals, the stretch of time that it covers, and that stretch's own intervals."""

    which: slice
    times: slice
    intervals: Intervals
