"""The GRU's coarse levels, forward and adjoint.

Tensors are kept in the order of time; what the solver hands in and gets back is in the order of the solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast, get_args

import torch
from torch import Tensor

from seqbraid.cells import Propagator, PropagatorKind
from seqbraid.kernels import Intervals
from seqbraid.mgrit import interval_starts
from seqbraid.options import MGRIT, Serial
from seqbraid.rnn.recurrence import Recurrence

__all__ = ["AdjointSteps", "Counts", "ForwardSteps", "merge_inputs", "resolved", "turned"]

_CHOICES = {
    "coarse": get_args(PropagatorKind),
    "coarse_step": ("scaled", "unit"),
    "coarse_input": ("mean", "point"),
    "storage": ("states", "c_points"),
}

# The fine steps that each step stands for: one number for all, or int32 (steps, B).
Counts = int | Tensor


def resolved(options: Serial | MGRIT) -> Serial | MGRIT:
    """Return the options with the coarse propagator that is taken where they name none.

    Raises ValueError for values that mean nothing to a GRU.
    """
    if isinstance(options, Serial):
        return options
    options = replace(options, coarse=options.coarse or "frozen")
    for name, choices in _CHOICES.items():
        if getattr(options, name) not in choices:
            raise ValueError(f"{name} is {getattr(options, name)!r}; expected one of {choices}")
    return options


def turned(series: Tensor, reverse: bool) -> Tensor:
    """Return a series (steps, ...) between the order of time and that of a solve, contiguous."""
    return series.flip(0) if reverse else series


def merge_inputs(
    series: Tensor, counts: Counts, factor: int, options: MGRIT, reverse: bool
) -> tuple[Tensor, Counts]:
    """Merge the inputs (steps, B, ·) of `factor` steps each into one, and add up what they count.

    One number for the counts wants a whole number of groups.
    """
    steps = len(series)
    missing = -steps % factor
    if isinstance(counts, int):
        groups = series.reshape(-1, factor, *series.shape[1:])
        merged = groups.mean(dim=1) if options.coarse_input == "mean" else groups[:, 0 if reverse else -1]
        return merged.contiguous(), counts * factor
    if missing:
        # Steps that are not there count nothing.
        series = torch.cat([series, series.new_zeros((missing, *series.shape[1:]))])
        counts = torch.cat([counts, counts.new_zeros((missing, *counts.shape[1:]))])
    groups = series.reshape(-1, factor, *series.shape[1:])
    each = counts.reshape(-1, factor, counts.shape[-1])
    total = each.sum(dim=1, dtype=counts.dtype)
    if options.coarse_input == "mean":
        weighted = (groups * each.to(series.dtype).unsqueeze(-1)).sum(dim=1)
        return weighted / total.clamp_min(1).to(series.dtype).unsqueeze(-1), total
    # The last step that counts; any where none does, since it then does not matter.
    order = torch.arange(factor, device=series.device).view(1, -1, 1)
    order = factor - order if reverse else order + 1
    last = ((each > 0) * order).argmax(dim=1)
    index = last[:, None, :, None].expand(-1, 1, -1, series.shape[-1])
    return groups.gather(1, index).squeeze(1), total


def _share_of_the_state(alpha: Tensor, m: Counts) -> Tensor:
    """Return how much of m frozen steps' candidate depends on the state before the first of them.

    A frozen step takes the candidate n of that state for all m steps, with the weight 1 - alpha^m. But n
    follows the state, and forgets the first one as the state does. With D = dn/dh, a fine step's Jacobian is
    about alpha + (1 - alpha) D, whose m-th power is alpha^m + m alpha^(m-1) (1 - alpha) D to first order in
    D; the ratio of the two weights is returned, for `alpha` the m-th power. As the adjoint's coarse step the
    plain derivative of a frozen step overestimates what is carried back by far where intervals outlast the
    memory.
    """
    count = float(m) if isinstance(m, int) else m.to(alpha.dtype).clamp_min(1).unsqueeze(-1)
    # By logarithms, which keep their digits near alpha = 1. Outside 0 to 1 (a step gamma above 1) there are
    # none.
    logarithm = alpha.clamp(torch.finfo(alpha.dtype).tiny, 1.0).log()
    one_step = logarithm / count
    share = count * (logarithm - one_step).exp() * torch.expm1(one_step) / torch.expm1(logarithm)
    return torch.where((alpha < 1) & (alpha >= 0) & (one_step != logarithm), share, 1.0)


@dataclass(frozen=True)
class ForwardSteps:
    """Coarse steps with projected inputs (n, B, 3H), each for `counts` valid fine steps of a sequence."""

    recurrence: Recurrence
    options: MGRIT
    inputs: Tensor
    counts: Counts
    reverse: bool

    @property
    def count(self) -> int:
        """See `mgrit.Steps`."""
        return len(self.inputs)

    @property
    def propagator(self) -> Propagator:
        """The coarse propagator."""
        kind = cast(PropagatorKind, self.options.coarse)
        return Propagator(kind, self.recurrence.fine.gamma, self.recurrence.fine.cell)

    @property
    def _m(self) -> Counts:
        """The fine steps that the propagator is to stand for."""
        if self.options.coarse_step == "scaled":
            return self.counts
        return 1 if isinstance(self.counts, int) else self.counts.clamp_max(1)

    def propagate(self, points: Tensor, coarsening: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `mgrit.Steps`."""
        intervals = Intervals(self.count, max(coarsening, 1), self.reverse)
        states = None if coarsening == 1 else points.new_empty((self.count, *points.shape[1:]))
        ends = self.recurrence.sweeps.forward(
            self.inputs,
            points,
            intervals,
            self.propagator,
            self._m,
            source=None if source is None else turned(source, self.reverse),
            states=states,
        )
        if states is None or not self.count:
            return points, ends
        before = torch.cat([points[:1], turned(states, self.reverse)[:-1]])
        missing = -self.count % coarsening if self.reverse else 0
        before[coarsening - missing :: coarsening] = points[1:]
        return before, ends

    def linearise(self, points: Tensor) -> Tensor:
        """Return all factors (n, B, 5, H), in time order, about the states (n, B, H) before the steps.

        Those of "frozen" steps are of the m-th power of a fine step's Jacobian, see `_share_of_the_state`.
        """
        factors = points.new_empty((*points.shape[:-1], 5, points.shape[-1]))
        intervals = Intervals(self.count, 1, self.reverse)
        self.recurrence.sweeps.forward(
            self.inputs, points, intervals, self.propagator, self._m, factors=factors
        )
        if self.propagator.kind == "frozen":
            share = _share_of_the_state(factors[..., 0, :], self._m)
            # What goes through the candidate: g_r, g_n and a_n.
            for number in (1, 3, 4):
                factors[..., number, :] *= share
        return factors

    def coarsen(self, factor: int) -> ForwardSteps:
        """See `mgrit.Steps`."""
        inputs, counts = merge_inputs(self.inputs, self.counts, factor, self.options, self.reverse)
        return replace(self, inputs=inputs, counts=counts)

    def gather(self, gather: Callable[[Tensor], Tensor]) -> ForwardSteps:
        """See `mgrit.Steps`."""

        def of_all(series: Tensor) -> Tensor:
            return turned(gather(turned(series, self.reverse)), self.reverse).contiguous()

        inputs = of_all(self.inputs)
        counts = self.counts
        if not isinstance(counts, int):
            counts = of_all(counts)
        return replace(self, inputs=inputs, counts=counts)


@dataclass(frozen=True)
class AdjointSteps:
    """The coarse steps' transposed linearisations: factors (n, B, 5, H), in the order of time.

    `source` (n, B, H), in the order of the solve, is what the loss adds within each step's interval, carried
    to its start; None for nothing. `forward` and the states `points` (n, B, H) before its steps, in its
    order, are what the next level is made of; the steps of all ranks have none.
    """

    recurrence: Recurrence
    factors: Tensor
    source: Tensor | None
    reverse: bool
    forward: ForwardSteps | None = None
    points: Tensor | None = None

    @staticmethod
    def of(forward: ForwardSteps, points: Tensor, source: Tensor | None) -> AdjointSteps:
        """Linearise the forward steps about the states before them."""
        factors = forward.linearise(points)
        return AdjointSteps(forward.recurrence, factors, source, not forward.reverse, forward, points)

    @property
    def count(self) -> int:
        """See `mgrit.Steps`."""
        return len(self.factors)

    def propagate(self, points: Tensor, coarsening: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `mgrit.Steps`."""
        if self.source is not None:
            source = self.source if source is None else source + self.source
        cotangents = None if coarsening == 1 else points.new_empty((self.count, *points.shape[1:]))
        ends = self.recurrence.sweeps.adjoint(
            self.factors,
            points,
            Intervals(self.count, max(coarsening, 1), self.reverse),
            source=None if source is None else turned(source, self.reverse),
            cotangents=cotangents,
        )
        return points if cotangents is None else turned(cotangents, self.reverse), ends

    def coarsen(self, factor: int) -> AdjointSteps:
        """See `mgrit.Steps`."""
        if self.forward is None or self.points is None:
            raise RuntimeError("the coarsest level's steps on all ranks have no level below them")
        forward = self.forward.coarsen(factor)
        points = (
            interval_starts(self.points, factor, self.forward.reverse) if len(self.points) else self.points
        )
        source = None
        if self.source is not None:
            # What the loss adds inside the groups, carried to their starts.
            _, source = self.propagate(torch.zeros_like(points), factor, None)
        return AdjointSteps.of(forward, points, source)

    def gather(self, gather: Callable[[Tensor], Tensor]) -> AdjointSteps:
        """See `mgrit.Steps`."""
        factors = turned(gather(turned(self.factors, self.reverse)), self.reverse)
        source = None if self.source is None else gather(self.source)
        return AdjointSteps(self.recurrence, factors, source, self.reverse)
