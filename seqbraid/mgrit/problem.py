"""What the solver needs of a time-stepping problem; it knows nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from torch import Tensor

__all__ = ["CoarseLevel", "Problem"]


class CoarseLevel(Protocol):
    """The steps of a coarse level that this rank holds, in the order of the solve.

    On level 1 each stands for one interval of fine steps, on the next for an interval of those, and so on.
    """

    @property
    def sequential(self) -> Literal["gathered", "pipeline"]:
        """How the steps of the coarsest level are taken one after the other.

        "gathered": every rank gets the steps of all ranks, and takes all of them itself; "pipeline": each
        rank takes its own and hands its last state to the next, for steps too large to be sent.
        """

    @property
    def count(self) -> int:
        """The number of steps; a rank may hold none."""

    def propagate(self, points: Tensor, coarsening: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take the states `points` (intervals, ...) through intervals of `coarsening` steps each, at once.

        `source` (count, ...) is added after each step: u_{j+1} = Phi_j(u_j) + source_j. Returns the states
        before each step (count, ...) and those at the ends of the intervals (intervals, ...).
        """

    def coarsen(self, factor: int) -> CoarseLevel:
        """Return the next level, each of whose steps stands for `factor` of these.

        The last in time may stand for fewer.
        """

    def gather(self, gather: Callable[[Tensor], Tensor]) -> CoarseLevel:
        """Return the steps of all ranks; only called where `sequential` is "gathered".

        `gather` makes of this rank's part (count, ...) of a series in the order of the solve that of all
        ranks.
        """


class Problem(Protocol):
    """The intervals of a sequence that this rank holds, each from a C-point to the next; it may hold none.

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

    @property
    def together(self) -> int:
        """The number of intervals that are worth relaxing on their own: fewer waste arithmetic."""

    @property
    def groups(self) -> Sequence[slice]:
        """Parts of a state's first dimension that do not depend on one another, each worth a sweep."""

    def relax(self, points: Tensor, which: slice, keep: bool, group: slice | None = None) -> Tensor:
        """Propagate the intervals `which` from their C-points (k, ...) with the fine propagator, at once.

        Of a single interval a `group` may be taken alone; what is returned for the others means nothing.

        Returns the states at their ends. With `keep`, what the states inside are wanted for is kept or done:
        exactly one such relaxation of every interval is the last of a solve.
        """

    def coarse_level(self, for_guess: bool) -> CoarseLevel:
        """Return level 1: the coarse propagator over each interval.

        What it adds whatever the state matters for an initial guess alone, and may be left out otherwise.
        """
