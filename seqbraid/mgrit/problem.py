"""What the solver needs of a time-stepping problem; it knows nothing else of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Problem", "Steps"]


class Steps(Protocol):
    """The steps of a coarse level that this rank holds, in the order of the solve.

    On level 1 each stands for one interval of fine steps, on the next for an interval of those, and so on.
    """

    @property
    def count(self) -> int:
        """The number of steps."""

    def apply(self, states: Tensor, which: slice) -> Tensor:
        """Advance `states` (k, ...), one for each of the k steps `which`, by that step each, at once."""

    def coarsen(self, factor: int, short_first: bool) -> Steps:
        """Return the next level, each of whose steps stands for `factor` of these.

        The last may stand for fewer; where `short_first`, the first.
        """


class Problem(Protocol):
    """The intervals of a sequence that this rank holds, each from a C-point to the next.

    A set of states is a tensor (intervals, ...), one state a tensor (...). An adjoint problem is the same
    with time reversed: its interval 0 is the last in time, and it is the first, not the last, that may be
    short (`short_first`).
    """

    @property
    def intervals(self) -> int:
        """The number of intervals on this rank."""

    @property
    def short_first(self) -> bool:
        """Whether the first interval is the one that may be short."""

    def relax(self, points: Tensor) -> Tensor:
        """Propagate all intervals from their C-points (intervals, ...) with the fine propagator, at once.

        Keeps the states inside the intervals for whoever reads the solution, and returns those at the ends.
        """

    def coarse_steps(self) -> Steps:
        """Return level 1: the coarse propagator over each interval."""
