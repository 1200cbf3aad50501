"""What the solver's problems ask of a kernel."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from seqbraid.cells import Propagator
from seqbraid.kernels.intervals import Intervals

__all__ = ["Sweeps"]


class Sweeps(Protocol):
    """Sweeps with one pair of weights W_hh (3H, H) and b_hh (3H).

    All intervals go at once, in n B rows. Series are contiguous and in the order of time: inputs a (T, B, W),
    W at least 3H, factors (T, B, 5, H) as `cells.linearise` orders them, everything else (T, B, H). C-points
    are (n, B, H) in the order of the sweep. Results are written into the tensors that are passed for them.
    """

    def project(self, x: Tensor, w_ih: Tensor, b_ih: Tensor | None) -> Tensor:
        """Return a = x W_ih^T + b_ih of x (T, B, I): (T, B, W), of which the first 3H columns count."""

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
        """Propagate the C-points through their intervals; return the states at the ends (n, B, H).

        `counts` are the fine steps that each step stands for, one number or int32 (T, B), 0 past a sequence's
        end. A `group` of sequences may be taken alone where there is one interval: the others are left as
        they are. `source` is added after each step, `states` takes the state after it and `factors` its
        adjoint's factors.
        """

    def adjoint(
        self,
        factors: Tensor,
        points: Tensor,
        intervals: Intervals,
        direct: Tensor | None = None,
        source: Tensor | None = None,
        cotangents: Tensor | None = None,
        gates: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """Carry dL/dh (n, B, H) against the order of the forward sweep; return it at the ends (n, B, H).

        `direct` is what the loss adds at each step's state, before the step; `source` is added after it.
        `cotangents` takes each step's whole dL/dh+, and `gates` (T, B, 4, H) what `cells.gate_cotangents`
        makes of it. `group` as in `forward`.
        """

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """Carry what the loss adds at each state to the ends of the intervals (n, B, H) of an adjoint sweep.

        By the factors alpha alone, without the products: an estimate of `adjoint` from zeros, for a guess.
        """
