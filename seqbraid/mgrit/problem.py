"""What the solver needs of a time-stepping problem; it knows nothing else of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Problem"]


class Problem(Protocol):
    """The intervals of a sequence that this rank holds, each from a C-point to the next.

    A set of states is a tensor (intervals, ...), one state a tensor (...). An adjoint problem is the same
    with time reversed: its interval 0 is the last in time.
    """

    intervals: int

    def relax(self, points: Tensor) -> Tensor:
        """Propagate all intervals from their C-points (intervals, ...) with the fine propagator, at once.

        Keeps the states inside the intervals for whoever reads the solution, and returns those at the ends.
        """

    def coarse(self, points: Tensor) -> Tensor:
        """Apply the coarse propagator to the C-points (intervals, ...) of all intervals, at once."""

    def coarse_step(self, interval: int, point: Tensor) -> Tensor:
        """Apply the coarse propagator of one interval to its C-point (...)."""
