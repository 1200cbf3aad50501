"""What every step of a layer shares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seqbraid.cells import CellKind, Linearisation, Propagator, Steps, linearise

__all__ = ["Recurrence"]


@dataclass(frozen=True)
class Recurrence:
    """The hidden-to-hidden weights (3H, H), their bias (3H) or None, and the fine propagator."""

    w_hh: Tensor
    b_hh: Tensor | None
    fine: Propagator

    @staticmethod
    def of(w_hh: Tensor, b_hh: Tensor | None, cell: CellKind, gamma: float) -> Recurrence:
        """Return the recurrence of a fine cell with step `gamma`."""
        return Recurrence(w_hh, b_hh, Propagator(cell, gamma, cell))

    def linearise(self, a: Tensor, before: Tensor, valid: Tensor | None) -> Linearisation:
        """Return the fine steps' factors (c, n, B, ·) about the states (c, n, B, H) before each step."""
        m: Steps = 1.0 if valid is None else valid
        return linearise(a, before, self.w_hh, self.b_hh, self.fine, m)
