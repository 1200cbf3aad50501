"""What a layer asks of the sweeps through its steps, and the GRU's sweeps of their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from seqbraid.cells import Propagator
from seqbraid.kernels.intervals import Intervals

__all__ = ["Counts", "GRUKernel", "GradientAccumulator", "Sweeps"]

# The fine steps that each step stands for: one number for all, or int32 (T, B), 0 past a sequence's end.
Counts = int | Tensor


class GradientAccumulator(Protocol):
    """Gradients of a layer's input and parameters, as sums over chunk after chunk of its steps."""

    @property
    def needs_states(self) -> bool:
        """Whether the states before each step are asked for."""

    def add(self, times: slice, cotangents: Tensor, before: Tensor | None, counts: Tensor | None) -> None:
        """Add the steps `times`: what `Sweeps.adjoint` left of them, the states before, and their counts."""

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of x (T, B, I) and of each parameter; None for what was not asked for."""


class Sweeps(Protocol):
    """Sweeps through the steps of a cell with one set of parameters.

    A state is one vector of S numbers, all of the cell's states in a row. All intervals go at once, in n B
    rows. Series are contiguous and in the order of time: inputs (T, B, W), factors (T, B, ...) with the last
    dimensions `factor_shape`, step cotangents with `cotangent_shape`, everything else (T, B, S). C-points are
    (n, B, S) in the order of the sweep. `coarse` names a coarse propagator, None is the fine step. Results
    are written into the tensors that are passed for them.
    """

    @property
    def factor_shape(self) -> tuple[int, ...]:
        """The shape of what the adjoint of one step of one sequence needs."""

    @property
    def cotangent_shape(self) -> tuple[int, ...]:
        """The shape of what the gradients need of one step of one sequence's cotangent."""

    def inputs(self, x: Tensor) -> Tensor:
        """Return what steps take of their inputs x (n, B, I): (n, B, W)."""

    def project(self, x: Tensor) -> Tensor:
        """Return `inputs` of a stretch of time as `forward` takes them fastest, with padding behind."""

    def forward(
        self,
        inputs: Tensor,
        points: Tensor,
        intervals: Intervals,
        coarse: str | None = None,
        counts: Counts = 1,
        source: Tensor | None = None,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """Propagate the C-points through their intervals; return the states at the ends (n, B, S).

        A `group` of sequences may be taken alone where there is one interval: what is returned for the others
        means nothing. `source` is added after each step, `states` takes the state after it and `factors` its
        adjoint's factors.
        """

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
        """Carry dL/du (n, B, S) against the order of the forward sweep; return it at the ends (n, B, S).

        `direct` is what the loss adds at each step's state, before the step; `source` is added after it.
        `cotangents` takes each step's whole dL/du+, `step_cotangents` what the gradients need of it.
        """

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """Carry what the loss adds at each state to the ends of the intervals (n, B, S) of an adjoint sweep.

        It may be an estimate, since only an initial guess depends on it.
        """

    def coarse_factors(self, factors: Tensor, coarse: str, counts: Counts) -> Tensor:
        """Return the factors (n, B, ...) of coarse steps as an adjoint's coarse level takes them."""

    def accumulator(self, x: Tensor, needs: Sequence[bool]) -> GradientAccumulator:
        """Begin to sum gradients; `needs` tells for x and each parameter whether its own is wanted."""


class GRUKernel(Protocol):
    """Sweeps with one pair of weights W_hh (3H, H) and b_hh (3H); see `Sweeps`.

    Inputs are a (T, B, W), W at least 3H, and factors (T, B, 5, H) as `cells.linearise` orders them.
    """

    def project(self, x: Tensor, w_ih: Tensor, b_ih: Tensor | None) -> Tensor:
        """Return a = x W_ih^T + b_ih of x (T, B, I): (T, B, W), of which the first 3H columns count."""

    def forward(
        self,
        a: Tensor,
        points: Tensor,
        intervals: Intervals,
        propagator: Propagator,
        counts: Counts = 1,
        source: Tensor | None = None,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.forward`."""

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
        """See `Sweeps.adjoint`; `gate_cotangents` (T, B, 4, H) takes those of `cells.gate_cotangents`."""

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`: by the factors alpha alone, an estimate of `adjoint` from zeros."""
