"""Sums of weight gradients over the ranks, which go on while the layers below are solved.

Whatever a call differentiates goes through a gate first, which is the identity. The backward of the gate
comes after that of all layers: there the sums are waited for and handed on. Since x and h0 go through it too,
it comes whichever gradients are asked for, and no sum is left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from seqbraid.comm import Pending, ProcessGrid
from seqbraid.mgrit import SolveReport
from seqbraid.rnn.divergence import Divergence

__all__ = ["WeightSums"]

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class _Started:
    """A layer's sum under way: the gradients' places at the gate and shapes, and its entry in the report."""

    pending: Pending
    parts: list[tuple[int, torch.Size]]
    report: SolveReport
    entry: int


class WeightSums:
    """The sums that the layers of one forward call start in a backward pass, over all ranks of a grid.

    Nothing is left to do after the lowest layer: where one group of ranks holds all sequences, that layer
    sums its weights' gradients itself, in one message with all else that it sums.
    """

    def __init__(self, grid: ProcessGrid, divergence: Divergence) -> None:
        self._grid = grid
        self._divergence = divergence
        self._started: list[_Started] = []

    @staticmethod
    def of(grid: ProcessGrid, layers: int, divergence: Divergence) -> WeightSums | None:
        """Return the sums of a call of so many layers; None where they are all done by the layers."""
        some = grid.data.size > 1 or (grid.sequence.size > 1 and layers > 1)
        return WeightSums(grid, divergence) if some and torch.is_grad_enabled() else None

    def has(self, layer: int) -> bool:
        """Return whether the gradients of this layer's weights are summed here."""
        return layer > 0 or self._grid.data.size > 1

    def gate(self, tensors: Sequence[Tensor | None]) -> tuple[list[Any], list[int | None]]:
        """Return the same tensors, for the layers, and the place of each at the gate.

        What needs no gradient does not go through it, and has no place.
        """
        chosen: list[Tensor] = []
        places: list[int | None] = []
        for tensor in tensors:
            if tensor is None or not tensor.requires_grad:
                places.append(None)
            else:
                places.append(len(chosen))
                chosen.append(tensor)
        gated = _Gate.apply(self, *chosen) if chosen else ()  # type: ignore[no-untyped-call]
        pairs = zip(tensors, places, strict=True)
        return [tensor if place is None else gated[place] for tensor, place in pairs], places

    def start(
        self, layer: int, gradients: Gradients, places: Sequence[int | None], report: SolveReport
    ) -> None:
        """Begin to sum a layer's gradients; the latest entry of the report is the layer's backward solve."""
        pairs = [
            (gradient, place)
            for gradient, place in zip(gradients, places, strict=True)
            if gradient is not None and place is not None
        ]
        values = [gradient.reshape(-1) for gradient, _ in pairs]
        if self._grid.data.size > 1:
            # Also where no weight is trained, so that all ranks learn of a divergence.
            values.append(values[0].new_tensor([self._divergence.flag]) if values else self._flag())
        if values:
            pending = self._grid.world.start_all_reduce(
                torch.cat(values), f"GRU layer {layer}: sum of the gradients"
            )
            parts = [(place, gradient.shape) for gradient, place in pairs]
            self._started.append(_Started(pending, parts, report, len(report.backward) - 1))

    def finish(self, gradients: Gradients) -> list[Tensor | None]:
        """Return what came to the gate, with the layers' sums in their places."""
        started, self._started = self._started, []
        handed = list(gradients)
        flags = 0.0
        for each in started:
            total = self._wait(each)
            for place, shape in each.parts:
                handed[place] = total[: shape.numel()].view(shape)
                total = total[shape.numel() :]
            if len(total):
                flags += total.item()
        self._divergence.raise_for(flags)
        return handed

    def _flag(self) -> Tensor:
        return torch.tensor([self._divergence.flag])

    def _wait(self, started: _Started) -> Tensor:
        """Wait for a sum and charge the time to its layer."""
        clock = self._grid.world.clock
        start = clock()
        total = started.pending.wait()
        seconds = clock() - start
        entry = started.report.backward[started.entry]
        started.report.backward[started.entry] = replace(
            entry,
            seconds=entry.seconds + seconds,
            communication_seconds=entry.communication_seconds + seconds,
        )
        return total


class _Gate(Function):
    """`tensors = _Gate.apply(sums, *tensors)`: the identity; see the top."""

    @staticmethod
    def forward(ctx: Any, sums: WeightSums, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.sums = sums
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        return None, *ctx.sums.finish(gradients)
