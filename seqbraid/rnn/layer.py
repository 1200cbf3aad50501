"""One layer in one direction as a model: what `seqbraid.solve` needs to solve and differentiate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seqbraid.cells import Cell
from seqbraid.kernels import Intervals, Sweeps, empty_series, sweeps_for
from seqbraid.mgrit import Partition
from seqbraid.options import MGRIT
from seqbraid.rnn.coarse import ForwardCoarseLevel, merge_inputs
from seqbraid.rnn.problems import LayerAdjoint, LayerForward
from seqbraid.rnn.trajectory import Projection, Trajectory
from seqbraid.solve import Tensors, Where

__all__ = ["Layer"]


@dataclass(frozen=True)
class Layer:
    """A cell's recurrence over this rank's steps; its tensors are x (steps, B, I) and the cell's parameters.

    Args:
        cell: what a step does.
        partition: which steps this rank holds.
        valid: (steps, B), true within each sequence's length; None where all steps are.
        number: its place among the stacked layers.
        reverse: whether it runs from the last step to the first.
        ranks: how many share its steps.

    """

    cell: Cell
    partition: Partition
    valid: Tensor | None
    number: int = 0
    reverse: bool = False
    ranks: int = 1

    @property
    def name(self) -> str:
        """See `Model.name`."""
        return f"{self.cell.name} layer {self.number}{' reverse' if self.reverse else ''}"

    @property
    def where(self) -> Sequence[Where]:
        """See `Model.where`."""
        everywhere: list[Where] = ["everywhere"] * len(self.cell.parameter_shapes())
        return ["data", *everywhere]

    def forward(self, initial: Tensor, tensors: Tensors, options: MGRIT | None, keep: bool) -> LayerForward:
        """See `Model.forward`."""
        x, sweeps = self._bind(tensors)
        keeps_states = _keeps_states(options)
        projection = Projection(x)
        # One sweep alone can project chunk by chunk, in the cache; but not while the next rank waits for it.
        if (options is not None or self.ranks > 1) and keeps_states:
            projection = projection.kept(sweeps)
        shape = x.shape[:2]
        states = empty_series((*shape, initial.shape[-1]), x)
        factors = empty_series((*shape, *sweeps.factor_shape), x) if keep and keeps_states else None
        trajectory = Trajectory(
            sweeps, self._intervals(options), initial.unsqueeze(0), self._counts(), None, None, projection
        )
        build_coarse = None if options is None else partial(self._build_coarse, sweeps, options, x)
        return LayerForward(trajectory, build_coarse, self._output, states, factors)

    def adjoint(
        self,
        tensors: Tensors,
        saved: Tensors,
        direct: Tensor | None,
        needs: Sequence[bool],
        options: MGRIT | None,
        in_sequence: bool,
    ) -> LayerAdjoint:
        """See `Model.adjoint`."""
        x, sweeps = self._bind(tensors)
        points, states, factors, coarse_inputs, coarse_counts = saved
        assert points is not None
        projection = None if _keeps_states(options) else Projection(x)
        counts = self._counts()
        trajectory = Trajectory(sweeps, self._intervals(options), points, counts, states, factors, projection)
        coarse = None
        if options is not None and not in_sequence and coarse_inputs is not None:
            coarse = self._coarse(sweeps, options, coarse_inputs, coarse_counts)
        direct = None if direct is None else self._cotangents_of_states(direct)
        return LayerAdjoint(trajectory, direct, sweeps.accumulator(x, needs), coarse)

    def _output(self, states: Tensor) -> Tensor:
        """Return the first of the cell's states (steps, B, H), zero past a sequence's end."""
        output = states
        if len(self.cell.state_sizes) > 1:
            output = states[..., : self.cell.state_sizes[0]].contiguous()
        if self.valid is not None:
            # Forward in time no step reads a state past a sequence's end, so that the kept ones may be zero
            # there.
            fill = output.masked_fill if self.reverse else output.masked_fill_
            output = fill(~self.valid.unsqueeze(-1), 0.0)
        return output

    def _build_coarse(self, sweeps: Sweeps, options: MGRIT, x: Tensor) -> ForwardCoarseLevel:
        """Return level 1. Inputs are merged before they are projected: it is the same, and less work."""
        counts: int | Tensor = 1
        if self.valid is not None:
            counts = self.valid.to(torch.int32)
        elif self.partition.total % options.slice_multiple:
            # The last interval is short, on whichever rank it lies: all ranks then count step by step.
            counts = torch.ones(x.shape[:2], dtype=torch.int32, device=x.device)
        x, counts = merge_inputs(x, counts, options.coarsening_of(0), options, self.reverse)
        return self._coarse(sweeps, options, sweeps.inputs(x), None if isinstance(counts, int) else counts)

    def _coarse(
        self, sweeps: Sweeps, options: MGRIT, inputs: Tensor, counts: Tensor | None
    ) -> ForwardCoarseLevel:
        each = options.coarsening_of(0) if counts is None else counts
        return ForwardCoarseLevel(sweeps, options, inputs, each, self.reverse)

    def _bind(self, tensors: Tensors) -> tuple[Tensor, Sweeps]:
        x, *parameters = tensors
        assert x is not None
        names = self.cell.parameter_shapes()
        bound = {name: each for name, each in zip(names, parameters, strict=True) if each is not None}
        return x, sweeps_for(self.cell, bound)

    def _intervals(self, options: MGRIT | None) -> Intervals:
        """How this rank's slice is cut; a serial solver takes it as one interval."""
        steps = self.partition.steps
        if options is None:
            return Intervals.one(steps, self.reverse)
        return Intervals(steps, options.coarsening_of(0), self.reverse)

    def _counts(self) -> Tensor | None:
        """Return 1 for steps of a sequence and 0 past its end (T, B); None where all are steps."""
        return None if self.valid is None else self.valid.to(torch.int32)

    def _cotangents_of_states(self, of_output: Tensor) -> Tensor:
        """Return what the loss adds at each step's whole state (steps, B, S)."""
        if self.valid is not None:
            of_output = of_output.masked_fill(~self.valid.unsqueeze(-1), 0.0)
        others = sum(self.cell.state_sizes[1:])
        return torch.nn.functional.pad(of_output, (0, others)) if others else of_output.contiguous()


def _keeps_states(options: MGRIT | None) -> bool:
    """Return whether all states and the adjoint's factors are kept, not the C-points alone."""
    return options is None or options.storage == "states"
