"""Solve statistics: residuals, convergence, times and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["DirectionReport", "SolveReport", "SolverDivergedError", "SolverDivergedWarning"]


class SolverDivergedError(RuntimeError):
    """The residual of a parallel-in-time solve grew or is not finite; its states must not be used."""


class SolverDivergedWarning(RuntimeWarning):
    """The residual of a parallel-in-time solve grew or is not finite."""


@dataclass(frozen=True)
class DirectionReport:
    """One layer's solve, forward or backward, as this rank saw it.

    `residuals[k]` is the 2-norm of e_i - C_{i+1} over all intervals of all ranks, relative to that of e_i,
    after k iterations: residuals[0] belongs to the initial guess. Empty for a serial solve, which has none.
    `seconds` is the whole solve, `communication_seconds` what of it went into messages and waiting, and
    `coarse_seconds` what into the coarse levels: building them, the guess, and the corrections with their
    tau, without communication. The rest is relaxation, and what a layer does once: its input's projection,
    forward, and sums over the steps, backward.
    `fine_sweeps` counts runs of the fine propagator over all of the rank's steps, `coarse_sequences` runs
    through the coarsest level step by step, `coarse_batches` evaluations of a coarse level at once.
    `reverse` tells the backward direction of a bidirectional layer. `kept_bytes` is what a forward solve
    keeps on this rank, for its `steps` steps, for the adjoint: besides the input and the weights.
    """

    layer: int
    residuals: tuple[float, ...]
    seconds: float
    communication_seconds: float = 0.0
    fine_sweeps: int = 0
    coarse_sequences: int = 0
    coarse_batches: int = 0
    reverse: bool = False
    solved_serially: bool = False
    kept_bytes: int = 0
    steps: int = 0
    coarse_seconds: float = 0.0

    def __str__(self) -> str:
        """Return the residuals and seconds on one line."""
        name = f"layer {self.layer}{' reverse' if self.reverse else ''}"
        residuals = ", ".join(f"{residual:.1e}" for residual in self.residuals)
        factor = self.convergence_factor
        slope = "" if factor is None else f" (convergence factor {factor:.2g})"
        how = f"residuals {residuals}{slope}" if residuals else "in sequence"
        again = ", solved again in sequence" if self.solved_serially else ""
        seconds = f"{self.seconds:.3g} s, communication {self.communication_seconds:.3g} s of it"
        kept = f"; keeps {self.bytes_per_step:.4g} bytes a step" if self.kept_bytes else ""
        return f"{name}: {how}{again}; {seconds}{kept}"

    @property
    def bytes_per_step(self) -> float:
        """What a forward solve keeps for the adjoint, in bytes a step of all sequences."""
        return self.kept_bytes / self.steps if self.steps else 0.0

    @property
    def iterations(self) -> int:
        """The number of MGRIT iterations done."""
        return max(len(self.residuals) - 1, 0)

    @property
    def residual(self) -> float:
        """The last relative residual; 0 where the solution comes from a serial solve."""
        return 0.0 if self.solved_serially or not self.residuals else self.residuals[-1]

    @property
    def convergence_factors(self) -> tuple[float, ...]:
        """Each residual over the one before it; below 1 is progress."""
        pairs = zip(self.residuals[1:], self.residuals[:-1], strict=True)
        return tuple(new / old if old > 0 else 0.0 for new, old in pairs)

    @property
    def convergence_factor(self) -> float | None:
        """The mean factor of an iteration, (r_k / r_0)^(1/k); None without iterations, or where r_0 is 0.

        Above 1 the solve diverges. Once rounding is reached, further iterations hide how fast it was.
        """
        if self.iterations == 0 or not self.residuals[0] > 0 or not math.isfinite(self.residuals[0]):
            return None
        return float((self.residuals[-1] / self.residuals[0]) ** (1 / self.iterations))


@dataclass
class SolveReport:
    """The latest forward solve of a module, and its backward solve once that has run; one entry a layer."""

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

    def __str__(self) -> str:
        """Return one short line for each layer and direction."""
        return "\n".join(
            f"{direction} {entry}"
            for direction, entries in (("forward ", self.forward), ("backward", self.backward))
            for entry in entries
        )
