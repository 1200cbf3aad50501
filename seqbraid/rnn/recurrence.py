"""What every step of a layer shares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seqbraid.cells import CellKind, Propagator
from seqbraid.kernels import Sweeps, sweeps_for

__all__ = ["Recurrence"]


@dataclass(frozen=True)
class Recurrence:
    """The fine propagator, and the sweeps with the hidden-to-hidden weights."""

    fine: Propagator
    sweeps: Sweeps

    @staticmethod
    def of(w_hh: Tensor, b_hh: Tensor | None, cell: CellKind, gamma: float) -> Recurrence:
        """Return the recurrence of a fine cell with step `gamma`, weights (3H, H) and bias (3H) or None."""
        return Recurrence(Propagator(cell, gamma, cell), sweeps_for(w_hh, b_hh))
