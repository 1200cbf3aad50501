"""The sweeps of a GRU: a projection of all steps, a kernel for the recurrence, products for the gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seqbraid.cells import GRUCell, candidate_weight
from seqbraid.kernels.gru_gradients import GRUGradients
from seqbraid.kernels.intervals import Intervals
from seqbraid.kernels.protocol import Counts, GRUKernel

__all__ = ["GRUSweeps"]


class GRUSweeps:
    """See `Sweeps`; `kernel` takes the steps."""

    def __init__(self, cell: GRUCell, parameters: Mapping[str, Tensor], kernel: GRUKernel) -> None:
        (hidden,) = cell.state_sizes
        self.factor_shape = (5, hidden)
        self.cotangent_shape = (4, hidden)
        self.kernel = kernel
        self._cell = cell
        self._w_ih, self._b_ih = parameters["weight_ih"], parameters.get("bias_ih")

    def inputs(self, x: Tensor) -> Tensor:
        """See `Sweeps.inputs`."""
        return torch.nn.functional.linear(x, self._w_ih, self._b_ih)

    def project(self, x: Tensor) -> Tensor:
        """See `Sweeps.project`."""
        return self.kernel.project(x, self._w_ih, self._b_ih)

    def forward(
        self,
        inputs: Tensor,
        points: Tensor,
        intervals: Intervals,
        coarse: Any = None,
        counts: Counts = 1,
        source: Tensor | None = None,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.forward`."""
        propagator = self._cell.propagator(coarse)
        return self.kernel.forward(
            inputs, points, intervals, propagator, counts, source, states, factors, group
        )

    def adjoint(
        self,
        factors: Tensor,
        points: Tensor,
        intervals: Intervals,
        coarse: str | None = None,
        direct: Tensor | None = None,
        source: Tensor | None = None,
        cotangents: Tensor | None = None,
        step_cotangents: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.adjoint`; the factors tell all of a propagator."""
        return self.kernel.adjoint(
            factors, points, intervals, direct, source, cotangents, step_cotangents, group
        )

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`."""
        return self.kernel.carry(factors, direct, intervals)

    def coarse_factors(self, factors: Tensor, coarse: str, counts: Counts) -> Tensor:
        """See `Sweeps.coarse_factors`: those of "frozen" steps become those of a power of a fine Jacobian."""
        if coarse == "frozen":
            m = float(counts) if isinstance(counts, int) else counts.to(factors.dtype).unsqueeze(-1)
            weight = candidate_weight(factors[..., 0, :], m)
            # What goes through the candidate: g_r, g_n and a_n.
            for number in (1, 3, 4):
                factors[..., number, :] *= weight
        return factors

    def accumulator(self, x: Tensor, needs: Sequence[bool]) -> GRUGradients:
        """See `Sweeps.accumulator`."""
        return GRUGradients(x, self._w_ih, needs)
