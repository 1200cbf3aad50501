"""The GRU's forward and adjoint recurrences as problems of the solver."""

from __future__ import annotations

import torch
from torch import Tensor

from seqbraid.cells import Linearisation, adjoint_sweep, sweep
from seqbraid.gru.coarse import AdjointSteps, ForwardSteps
from seqbraid.gru.recurrence import Recurrence

__all__ = ["AdjointProblem", "ForwardProblem"]


class ForwardProblem:
    """States from projected inputs a (c, n, B, 3H), in the order of the solve.

    `states` (c, n, B, H) are those of the last relaxation, `sweeps` counts relaxations. `coarse` is level 1,
    None for a solve in sequence; `short_first` tells a solve that runs backward in time.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        a: Tensor,
        valid: Tensor | None,
        coarse: ForwardSteps | None,
        short_first: bool,
    ) -> None:
        self.intervals: int = a.shape[1]
        self.short_first = short_first
        self.states = a.new_empty((*a.shape[:-1], a.shape[-1] // 3))
        self.sweeps = 0
        self._recurrence = recurrence
        self._a = a
        self._valid = valid
        self._coarse = coarse

    def relax(self, points: Tensor) -> Tensor:
        """See `Problem.relax`."""
        self.sweeps += 1
        weights = self._recurrence
        return sweep(self._a, points, weights.w_hh, weights.b_hh, weights.fine, self._valid, self.states)

    def coarse_steps(self) -> ForwardSteps:
        """See `Problem.coarse_steps`."""
        if self._coarse is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        return self._coarse


class AdjointProblem:
    """Cotangents of the states, against the order of the forward solve, about the states that it returned.

    The unknown at a C-point is dL/dh carried back from the steps after it; what the loss adds at a state
    itself, `direct` (c, n, B, H), enters with the interval that ends there. `cotangents` (c, n, B, H) are
    the whole dL/dh of the last relaxation, `sweeps` counts relaxations. `coarse` is the forward solve's
    level 1 and `points` (n, B, H) its C-points.
    """

    def __init__(
        self,
        w_hh: Tensor,
        fine: Linearisation,
        direct: Tensor | None,
        coarse: ForwardSteps | None,
        points: Tensor,
        short_first: bool,
    ) -> None:
        self.intervals: int = fine.carry.shape[1] if fine.carry.shape[0] else 0
        self.short_first = short_first
        self.cotangents = torch.empty_like(fine.carry)
        self.sweeps = 0
        self._w_hh = w_hh
        self._fine = fine
        self._direct = direct
        self._coarse = coarse
        self._points = points

    def relax(self, points: Tensor) -> Tensor:
        """See `Problem.relax`."""
        self.sweeps += 1
        ends = adjoint_sweep(self._fine, points.flip(0), self._w_hh, self._direct, self.cotangents)
        return ends.flip(0)

    def coarse_steps(self) -> AdjointSteps:
        """See `Problem.coarse_steps`."""
        if self._coarse is None:
            raise RuntimeError("a problem that is solved in sequence has no coarse level")
        # What the loss adds inside the intervals, carried to their starts: the initial guess needs it.
        source = None if self._direct is None else self.relax(torch.zeros_like(self._points))
        return AdjointSteps.of(self._coarse, self._points, source)
