"""The GRU's coarse levels, forward and adjoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.cells import Linearisation, Propagator, Steps, adjoint_step, linearise, step
from seqbraid.gru.recurrence import Recurrence
from seqbraid.mgrit import MGRIT, interval_starts, relax_steps

__all__ = ["AdjointSteps", "ForwardSteps"]


@dataclass(frozen=True)
class ForwardSteps:
    """Coarse steps with projected inputs (n, B, 3H); each stands for `counts` valid fine steps of a sequence.

    `counts` is one number for all, or a tensor (n, B or 1, 1).
    """

    recurrence: Recurrence
    propagator: Propagator
    options: MGRIT
    inputs: Tensor
    counts: Steps

    @staticmethod
    def of(recurrence: Recurrence, options: MGRIT, a: Tensor, valid: Tensor | None) -> ForwardSteps:
        """Build level 1 from the projected inputs a (c, n, B, 3H) of the fine steps; `valid` ones count."""
        counts: Steps = 1.0 if valid is None else valid
        propagator = Propagator(options.coarse, recurrence.fine.gamma, recurrence.fine.cell)
        inputs, counts = _merge(a, counts, options)
        return ForwardSteps(recurrence, propagator, options, inputs, counts)

    @property
    def count(self) -> int:
        """See `mgrit.Steps`."""
        return len(self.inputs)

    def apply(self, states: Tensor, which: slice) -> Tensor:
        """See `mgrit.Steps`."""
        weights = self.recurrence
        return step(self.inputs[which], states, weights.w_hh, weights.b_hh, self.propagator, self._m(which))

    def linearise(self, points: Tensor) -> Linearisation:
        """Return all steps' factors (n, B, ·) about the states (n, B, H) before them."""
        weights = self.recurrence
        return linearise(
            self.inputs, points, weights.w_hh, weights.b_hh, self.propagator, self._m(slice(None))
        )

    def coarsen(self, factor: int, short_first: bool) -> ForwardSteps:
        """See `mgrit.Steps`."""
        missing = -self.count % factor
        counts = self.counts
        if isinstance(counts, float):
            if not missing:
                inputs, counts = _merge(_group(self.inputs, factor, 0, False), counts, self.options)
                return ForwardSteps(self.recurrence, self.propagator, self.options, inputs, counts)
            counts = self.inputs.new_full((self.count, 1, 1), counts)
        # Steps that are not there count nothing.
        inputs, counts = _merge(
            _group(self.inputs, factor, missing, short_first),
            _group(counts, factor, missing, short_first),
            self.options,
        )
        return ForwardSteps(self.recurrence, self.propagator, self.options, inputs, counts)

    def _m(self, which: slice) -> Steps:
        """Return the fine steps that the propagator is to stand for."""
        unit = self.options.coarse_step == "unit"
        if isinstance(self.counts, float):
            return 1.0 if unit else self.counts
        counts = self.counts[which]
        return counts.clamp_max(1.0) if unit else counts


def _group(values: Tensor, factor: int, missing: int, at_front: bool) -> Tensor:
    """Return (n, ...) as (factor, groups, ...), with `missing` zeros in the first or the last group."""
    if missing:
        zeros = values.new_zeros((missing, *values.shape[1:]))
        values = torch.cat([zeros, values] if at_front else [values, zeros])
    return values.reshape(-1, factor, *values.shape[1:]).transpose(0, 1)


def _merge(a: Tensor, counts: Steps, options: MGRIT) -> tuple[Tensor, Steps]:
    """Merge the inputs a (c, n, B, 3H) of c steps into one (n, B, 3H), and add up what they count."""
    if isinstance(counts, float):
        return (a.mean(dim=0) if options.coarse_input == "mean" else a[-1]), counts * len(a)
    total = counts.sum(dim=0)
    if options.coarse_input == "mean":
        return (a * counts).sum(dim=0) / total.clamp_min(1.0), total
    # The last step that counts; the first where none does, since it then does not matter.
    order = torch.arange(len(a), device=a.device).view(-1, 1, 1, 1)
    last = ((counts > 0) * order).amax(dim=0).expand(a.shape[1:])
    return a.gather(0, last.unsqueeze(0)).squeeze(0), total


@dataclass(frozen=True)
class AdjointSteps:
    """The coarse steps' transposed linearisations about `points` (n, B, H), in reversed order.

    `source` (n, B, H), in reversed order too, is what the loss adds within each step's interval, carried to
    its start; None for nothing.
    """

    forward: ForwardSteps
    points: Tensor
    factors: Linearisation
    source: Tensor | None

    @staticmethod
    def of(forward: ForwardSteps, points: Tensor, source: Tensor | None) -> AdjointSteps:
        """Linearise the forward steps about the states before them."""
        factors = Linearisation(*(factor.flip(0) for factor in forward.linearise(points)))
        return AdjointSteps(forward, points, factors, source)

    @property
    def count(self) -> int:
        """See `mgrit.Steps`."""
        return len(self.points)

    def apply(self, states: Tensor, which: slice) -> Tensor:
        """See `mgrit.Steps`."""
        factors = Linearisation(*(factor[which] for factor in self.factors))
        carried = adjoint_step(factors, states, self.forward.recurrence.w_hh)
        return carried if self.source is None else carried + self.source[which]

    def coarsen(self, factor: int, short_first: bool) -> AdjointSteps:
        """See `mgrit.Steps`."""
        forward = self.forward.coarsen(factor, not short_first)
        points = interval_starts(self.points, factor, not short_first)
        source = None
        if self.source is not None:
            _, source = relax_steps(self, factor, short_first, torch.zeros_like(points), None)
        return AdjointSteps.of(forward, points, source)
