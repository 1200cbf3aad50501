"""The GRU's forward and adjoint recurrences as problems of the solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.cells import (
    CellKind,
    Linearisation,
    Propagator,
    Steps,
    adjoint_step,
    adjoint_sweep,
    linearise,
    step,
    sweep,
)
from seqbraid.mgrit import MGRIT

__all__ = ["AdjointProblem", "CoarseLevel", "ForwardProblem", "Recurrence"]


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


@dataclass(frozen=True)
class CoarseLevel:
    """The coarse propagator with its inputs: one step over each interval.

    `inputs` (n, B, 3H) are the projected inputs and `m` the number of fine steps that each step stands for.
    """

    propagator: Propagator
    inputs: Tensor
    m: Steps

    @staticmethod
    def of(options: MGRIT, fine: Propagator, a: Tensor, valid: Tensor | None) -> CoarseLevel:
        """Build the coarse level for projected inputs a (c, n, B, 3H), counting valid steps only."""
        m: Steps
        if valid is None:
            m = float(a.shape[0])
            inputs = a.mean(dim=0) if options.coarse_input == "mean" else a[-1]
        else:
            m = valid.sum(dim=0)
            if options.coarse_input == "mean":
                inputs = (a * valid).sum(dim=0) / m.clamp_min(1.0)
            else:
                # Valid steps come first in an interval, so the last of them has the index m - 1.
                last = (m - 1.0).clamp_min(0.0).long().expand(a.shape[1:])
                inputs = a.gather(0, last.unsqueeze(0)).squeeze(0)
        if options.coarse_step == "unit":
            m = 1.0 if isinstance(m, float) else m.clamp_max(1.0)
        return CoarseLevel(Propagator(options.coarse, fine.gamma, fine.cell), inputs, m)

    def m_of(self, interval: int) -> Steps:
        """Return the fine steps that one interval's coarse step stands for."""
        return self.m if isinstance(self.m, float) else self.m[interval]


class ForwardProblem:
    """States from projected inputs a (c, n, B, 3H); `states` (c, n, B, H) are those of the last relaxation."""

    def __init__(
        self, recurrence: Recurrence, a: Tensor, valid: Tensor | None, coarse_level: CoarseLevel | None
    ) -> None:
        self.intervals: int = a.shape[1]
        self.states = a.new_empty((*a.shape[:-1], a.shape[-1] // 3))
        self._recurrence = recurrence
        self._a = a
        self._valid = valid
        self._coarse_level = coarse_level

    def relax(self, points: Tensor) -> Tensor:
        """See `Problem.relax`."""
        weights = self._recurrence
        return sweep(self._a, points, weights.w_hh, weights.b_hh, weights.fine, self._valid, self.states)

    def coarse(self, points: Tensor) -> Tensor:
        """See `Problem.coarse`."""
        level, weights = self._level(), self._recurrence
        return step(level.inputs, points, weights.w_hh, weights.b_hh, level.propagator, level.m)

    def coarse_step(self, interval: int, point: Tensor) -> Tensor:
        """See `Problem.coarse_step`."""
        level, weights = self._level(), self._recurrence
        return step(
            level.inputs[interval],
            point,
            weights.w_hh,
            weights.b_hh,
            level.propagator,
            level.m_of(interval),
        )

    def _level(self) -> CoarseLevel:
        if self._coarse_level is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        return self._coarse_level


class AdjointProblem:
    """Cotangents of the states, with time reversed, about the states that the forward solve returned.

    The unknown at a C-point is dL/dh carried back from the steps after it; what the loss adds at a state
    itself, `direct` (c, n, B, H), enters with the interval that ends there. `cotangents` (c, n, B, H) are
    the whole dL/dh of the last relaxation. `coarse` is the coarse propagator's linearisation (n, B, ·).
    """

    def __init__(
        self, w_hh: Tensor, fine: Linearisation, coarse: Linearisation | None, direct: Tensor | None
    ) -> None:
        self.intervals: int = fine.carry.shape[1] if fine.carry.shape[0] else 0
        self.cotangents = torch.empty_like(fine.carry)
        self._w_hh = w_hh
        self._fine = fine
        self._coarse = None if coarse is None else Linearisation(*(factor.flip(0) for factor in coarse))
        self._direct = direct
        self._carried: Tensor | None = None
        if coarse is not None and direct is not None and self.intervals:
            # What the loss adds inside the intervals, carried to their starts: the coarse equations' source.
            self._carried = self.relax(torch.zeros_like(fine.carry[0]))

    def relax(self, points: Tensor) -> Tensor:
        """See `Problem.relax`."""
        ends = adjoint_sweep(self._fine, points.flip(0), self._w_hh, self._direct, self.cotangents)
        return ends.flip(0)

    def coarse(self, points: Tensor) -> Tensor:
        """See `Problem.coarse`."""
        carried = adjoint_step(self._coarse_factors(), points, self._w_hh)
        return carried if self._carried is None else carried + self._carried

    def coarse_step(self, interval: int, point: Tensor) -> Tensor:
        """See `Problem.coarse_step`."""
        factors = Linearisation(*(factor[interval] for factor in self._coarse_factors()))
        carried = adjoint_step(factors, point, self._w_hh)
        return carried if self._carried is None else carried + self._carried[interval]

    def _coarse_factors(self) -> Linearisation:
        if self._coarse is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        return self._coarse


def linearise_fine(
    recurrence: Recurrence, a: Tensor, previous_states: Tensor, valid: Tensor | None
) -> Linearisation:
    """Return the fine steps' factors (c, n, B, ·) about the states (c, n, B, H) before each step."""
    m: Steps = 1.0 if valid is None else valid
    return linearise(a, previous_states, recurrence.w_hh, recurrence.b_hh, recurrence.fine, m)


def linearise_coarse(recurrence: Recurrence, level: CoarseLevel, points: Tensor) -> Linearisation:
    """Return the coarse steps' factors (n, B, ·) about the C-points (n, B, H)."""
    return linearise(level.inputs, points, recurrence.w_hh, recurrence.b_hh, level.propagator, level.m)
