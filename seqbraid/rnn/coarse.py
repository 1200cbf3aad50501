"""A layer's coarse levels, forward and adjoint.

Tensors are kept in the order of time; what the solver hands in and gets back is in the order of the solve.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from seqbraid.cells import Cell, GRUCell
from seqbraid.kernels import Counts, Intervals, Sweeps
from seqbraid.mgrit import interval_starts
from seqbraid.options import MGRIT, Serial
from seqbraid.options.solver import CoarseInput, CoarseStep, Storage

__all__ = ["AdjointCoarseLevel", "ForwardCoarseLevel", "merge_inputs", "resolved", "turned"]

_CHOICES = {
    "coarse_step": get_args(CoarseStep),
    "coarse_input": get_args(CoarseInput),
    "storage": get_args(Storage),
}


def resolved(solver: Serial | MGRIT, cell: Cell | None = None) -> Serial | MGRIT:
    """Return the solver with the coarse propagator of a cell, a GRU by default, where it names none.

    Raises ValueError for values that mean nothing to the cell.
    """
    if isinstance(solver, Serial):
        return solver
    return _resolved(solver, tuple((cell or GRUCell(1, 1)).coarse_propagators()))


# Every forward call asks.
@functools.lru_cache
def _resolved(solver: MGRIT, kinds: tuple[str, ...]) -> MGRIT:
    if solver.coarse is None:
        solver = replace(solver, coarse=kinds[0])
    for name, choices in {"coarse": kinds, **_CHOICES}.items():
        if getattr(solver, name) not in choices:
            raise ValueError(f"{name} is {getattr(solver, name)!r}; expected one of {choices}")
    return solver


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


@dataclass(frozen=True)
class ForwardCoarseLevel:
    """Coarse steps with inputs (n, B, W), each for `counts` valid fine steps of a sequence.

    The options are those that `resolved` returns.
    """

    sweeps: Sweeps
    options: MGRIT
    inputs: Tensor
    counts: Counts
    reverse: bool

    @property
    def count(self) -> int:
        """See `CoarseLevel`."""
        return len(self.inputs)

    @property
    def sequential(self) -> Literal["gathered", "pipeline"]:
        """See `CoarseLevel`: the inputs of the coarsest level are small, and are gathered."""
        return "gathered"

    @property
    def kind(self) -> str:
        """The coarse propagator's name."""
        return self.options.coarse or ""

    @property
    def _m(self) -> Counts:
        """The fine steps that the propagator is to stand for."""
        if self.options.coarse_step == "scaled":
            return self.counts
        return 1 if isinstance(self.counts, int) else self.counts.clamp_max(1)

    def propagate(self, points: Tensor, coarsening: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `CoarseLevel`."""
        intervals = Intervals(self.count, max(coarsening, 1), self.reverse)
        states = None if coarsening == 1 else points.new_empty((self.count, *points.shape[1:]))
        ends = self.sweeps.forward(
            self.inputs,
            points,
            intervals,
            self.kind,
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
        """Return all factors (n, B, ...), in time order, about the states (n, B, S) before the steps."""
        factors = points.new_empty((*points.shape[:-1], *self.sweeps.factor_shape))
        intervals = Intervals(self.count, 1, self.reverse)
        self.sweeps.forward(self.inputs, points, intervals, self.kind, self._m, factors=factors)
        return self.sweeps.coarse_factors(factors, self.kind, self._m)

    def coarsen(self, factor: int) -> ForwardCoarseLevel:
        """See `CoarseLevel`."""
        inputs, counts = merge_inputs(self.inputs, self.counts, factor, self.options, self.reverse)
        return replace(self, inputs=inputs, counts=counts)

    def gather(self, gather: Callable[[Tensor], Tensor]) -> ForwardCoarseLevel:
        """See `CoarseLevel`."""

        def of_all(series: Tensor) -> Tensor:
            return turned(gather(turned(series, self.reverse)), self.reverse).contiguous()

        inputs = of_all(self.inputs)
        counts = self.counts
        if not isinstance(counts, int):
            counts = of_all(counts)
        return replace(self, inputs=inputs, counts=counts)


@dataclass(frozen=True)
class AdjointCoarseLevel:
    """The coarse steps' transposed linearisations: factors (n, B, ...), in the order of time.

    `source` (n, B, S), in the order of the solve, is what the loss adds within each step's interval, carried
    to its start; None for nothing. `forward` and the states `points` (n, B, S) before its steps, in its
    order, are what the next level is made of; the steps of all ranks have none.
    """

    sweeps: Sweeps
    kind: str
    factors: Tensor
    source: Tensor | None
    reverse: bool
    forward: ForwardCoarseLevel | None = None
    points: Tensor | None = None

    @staticmethod
    def of(forward: ForwardCoarseLevel, points: Tensor, source: Tensor | None) -> AdjointCoarseLevel:
        """Linearise the forward steps about the states before them."""
        factors = forward.linearise(points)
        return AdjointCoarseLevel(
            forward.sweeps, forward.kind, factors, source, not forward.reverse, forward, points
        )

    @property
    def sequential(self) -> Literal["gathered", "pipeline"]:
        """See `CoarseLevel`."""
        return "gathered"

    @property
    def count(self) -> int:
        """See `CoarseLevel`."""
        return len(self.factors)

    def propagate(self, points: Tensor, coarsening: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `CoarseLevel`."""
        if self.source is not None:
            source = self.source if source is None else source + self.source
        cotangents = None if coarsening == 1 else points.new_empty((self.count, *points.shape[1:]))
        ends = self.sweeps.adjoint(
            self.factors,
            points,
            Intervals(self.count, max(coarsening, 1), self.reverse),
            self.kind,
            source=None if source is None else turned(source, self.reverse),
            cotangents=cotangents,
        )
        return points if cotangents is None else turned(cotangents, self.reverse), ends

    def coarsen(self, factor: int) -> AdjointCoarseLevel:
        """See `CoarseLevel`."""
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
        return AdjointCoarseLevel.of(forward, points, source)

    def gather(self, gather: Callable[[Tensor], Tensor]) -> AdjointCoarseLevel:
        """See `CoarseLevel`."""
        factors = turned(gather(turned(self.factors, self.reverse)), self.reverse)
        source = None if self.source is None else gather(self.source)
        return AdjointCoarseLevel(self.sweeps, self.kind, factors, source, self.reverse)
