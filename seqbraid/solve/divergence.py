"""What follows where a solve diverges."""

from __future__ import annotations

import warnings

import torch

from seqbraid.comm import ProcessGrid
from seqbraid.mgrit import (
    DirectionReport,
    SolverDivergedError,
    SolverDivergedWarning,
    has_diverged,
)
from seqbraid.options import MGRIT, Serial

__all__ = ["Divergence"]


class Divergence:
    """Divergence in one forward call and its backward passes; what to do is told by the solver's options.

    An error must be raised by all ranks, or the others would wait for those that did. The ranks of a group
    know of it at once, other groups do not: it is then put off until all have exchanged a flag.
    """

    def __init__(self, solver: Serial | MGRIT, grid: ProcessGrid) -> None:
        self._solver = solver
        self._grid = grid
        self._error: SolverDivergedError | None = None

    @property
    def flag(self) -> float:
        """1 where an error was put off, else 0: to be summed over the groups."""
        return 0.0 if self._error is None else 1.0

    def wants_serial(
        self,
        entry: DirectionReport,
        dtype: torch.dtype,
        name: str,
        direction: str,
        solver: Serial | MGRIT,
        put_off: bool,
    ) -> bool:
        """Say whether a solve diverged and is to be done again in sequence; raise or warn as options say.

        With `put_off` the error waits for `raise_for`.
        """
        if not isinstance(solver, MGRIT) or not has_diverged(entry.residuals, torch.finfo(dtype).eps):
            return False
        history = ", ".join(f"{residual:.1e}" for residual in entry.residuals)
        message = (
            f"{name}: the {direction} solve diverged, relative residuals {history} (coarse="
            f"{solver.coarse!r}, coarse_step={solver.coarse_step!r}, coarsening={solver.coarsening})"
        )
        if solver.on_divergence == "raise":
            error = SolverDivergedError(
                f"{message}; take another coarse propagator, a smaller coarsening, or on_divergence='serial'"
            )
            if not put_off:
                raise error
            self._error = self._error or error
            return False
        ending = "; solved again in sequence" if solver.on_divergence == "serial" else ""
        warnings.warn(message + ending, SolverDivergedWarning, stacklevel=5)
        return solver.on_divergence == "serial"

    def exchange(self) -> None:
        """Raise on all ranks what was put off on some; collective where there are several groups."""
        solver = self._solver
        if self._grid.data.size > 1 and isinstance(solver, MGRIT) and solver.on_divergence == "raise":
            flags = torch.tensor([self.flag])
            self._grid.data.all_reduce(flags, "whether a data group's solve diverged")
            self.raise_for(flags.item())

    def raise_for(self, flags: float) -> None:
        """Raise where the sum of the flags of all ranks is not 0."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        if flags:
            raise SolverDivergedError(
                "the solve of another data group diverged; its ranks tell the residuals"
            )
