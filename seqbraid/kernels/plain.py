"""The GRU's sweeps as loops over `cells.gru`: any device and dtype; what the compiled are checked by."""

from __future__ import annotations

import torch
from torch import Tensor

from seqbraid.cells import Propagator, adjoint_step, linearise, step
from seqbraid.cells import gate_cotangents as cotangents_of_gates
from seqbraid.kernels.intervals import Intervals
from seqbraid.kernels.loops import sweep_adjoint, sweep_forward

__all__ = ["PlainSweeps"]


class PlainSweeps:
    """See `GRUKernel`."""

    def __init__(self, w_hh: Tensor, b_hh: Tensor | None) -> None:
        self._w_hh = w_hh
        self._b_hh = b_hh

    def project(self, x: Tensor, w_ih: Tensor, b_ih: Tensor | None) -> Tensor:
        """See `GRUKernel.project`."""
        return torch.nn.functional.linear(x, w_ih, b_ih)

    def forward(
        self,
        a: Tensor,
        points: Tensor,
        intervals: Intervals,
        propagator: Propagator,
        counts: int | Tensor = 1,
        source: Tensor | None = None,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.forward`."""
        weights = self._w_hh, self._b_hh
        return sweep_forward(
            lambda a, h, m: step(a, h, *weights, propagator, m),
            lambda a, h, m: linearise(a, h, *weights, propagator, m),
            a[..., : len(self._w_hh)],
            points,
            intervals,
            counts,
            source,
            states,
            factors,
        )

    def adjoint(
        self,
        factors: Tensor,
        points: Tensor,
        intervals: Intervals,
        direct: Tensor | None = None,
        source: Tensor | None = None,
        cotangents: Tensor | None = None,
        gate_cotangents: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.adjoint`."""
        return sweep_adjoint(
            lambda factors, cotangent: adjoint_step(factors, cotangent, self._w_hh),
            cotangents_of_gates,
            factors,
            points,
            intervals,
            direct,
            source,
            cotangents,
            gate_cotangents,
            group,
        )

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`."""
        ends = direct.new_zeros((intervals.count, *direct.shape[1:]))
        for piece in intervals.pieces():
            rows = slice(piece.first, piece.first + piece.count)
            carried = ends[rows]
            for k in range(piece.steps):
                carried = piece.take(factors[..., 0, :], k) * (carried + piece.take(direct, k))
            ends[rows] = carried
        return ends
