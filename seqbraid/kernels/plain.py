"""The GRU's sweeps as loops over `cells.gru`: any device and dtype; what the compiled are checked by."""

from __future__ import annotations

import torch
from torch import Tensor

from seqbraid.cells import Propagator, StepCount, adjoint_step, linearise, step
from seqbraid.cells import gate_cotangents as cotangents_of_gates
from seqbraid.kernels.intervals import Intervals

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
        a = a[..., : len(self._w_hh)]
        ends = points.clone()
        m: StepCount = float(counts) if isinstance(counts, int) else 1.0
        each = None if isinstance(counts, int) else counts.to(a.dtype).unsqueeze(-1)
        for piece in intervals.pieces():
            rows = slice(piece.first, piece.first + piece.count)
            h = ends[rows]
            for k in range(piece.steps):
                inputs = piece.take(a, k)
                if each is not None:
                    m = piece.take(each, k)
                if factors is not None:
                    piece.put(factors, k, linearise(inputs, h, self._w_hh, self._b_hh, propagator, m))
                h = step(inputs, h, self._w_hh, self._b_hh, propagator, m)
                if source is not None:
                    h = h + piece.take(source, k)
                if states is not None:
                    piece.put(states, k, h)
            ends[rows] = h
        return ends

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
        ends = points.clone()
        if group is not None:
            ends[:, group] = self.adjoint(
                factors[:, group],
                points[:, group],
                intervals,
                _of_group(direct, group),
                _of_group(source, group),
                _of_group(cotangents, group),
                _of_group(gate_cotangents, group),
            )
            return ends
        for piece in intervals.pieces():
            rows = slice(piece.first, piece.first + piece.count)
            carried = ends[rows]
            for k in range(piece.steps):
                if direct is not None:
                    carried = carried + piece.take(direct, k)
                if cotangents is not None:
                    piece.put(cotangents, k, carried)
                here = piece.take(factors, k)
                if gate_cotangents is not None:
                    piece.put(gate_cotangents, k, cotangents_of_gates(here, carried))
                carried = adjoint_step(here, carried, self._w_hh)
                if source is not None:
                    carried = carried + piece.take(source, k)
            ends[rows] = carried
        return ends

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


def _of_group(series: Tensor | None, group: slice) -> Tensor | None:
    return None if series is None else series[:, group]
