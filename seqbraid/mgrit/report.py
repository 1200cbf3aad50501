"""What a solve tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DirectionReport", "SolveReport", "SolverDivergedError", "SolverDivergedWarning"]


class SolverDivergedError(RuntimeError):
    """The residual of a parallel-in-time solve grew or is not finite; its states must not be used."""


class SolverDivergedWarning(RuntimeWarning):
    """The residual of a parallel-in-time solve grew or is not finite."""


@dataclass(frozen=True)
class DirectionReport:
    """One layer's solve in one direction of time.

    `residuals[k]` is the 2-norm of e_i - C_{i+1} over all intervals relative to that of e_i after k
    iterations, so residuals[0] belongs to the initial guess; empty for a serial solve, which has none.
    `seconds` is this rank's wall time, communication included.
    """

    layer: int
    residuals: tuple[float, ...]
    seconds: float
    solved_serially: bool = False

    @property
    def iterations(self) -> int:
        """The number of MGRIT iterations done."""
        return max(len(self.residuals) - 1, 0)

    @property
    def residual(self) -> float:
        """The last relative residual; 0 for a serial solve."""
        return self.residuals[-1] if self.residuals else 0.0


@dataclass
class SolveReport:
    """The latest forward solve of a `GRU`, and its backward solve once that has run; one entry a layer."""

    forward: list[DirectionReport] = field(default_factory=list)
    backward: list[DirectionReport] = field(default_factory=list)

    @property
    def forward_residual(self) -> float:
        """The largest final residual of the layers' forward solves."""
        return max((entry.residual for entry in self.forward), default=0.0)

    @property
    def backward_residual(self) -> float:
        """The largest final residual of the layers' backward solves."""
        return max((entry.residual for entry in self.backward), default=0.0)
