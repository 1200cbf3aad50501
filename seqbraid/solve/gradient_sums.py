"""Sums of gradients over the ranks, which go on while the models below are solved.

Whatever a call differentiates goes through an entrance first, which is the identity. The backward of the
entrance comes after that of all solves: there the sums are waited for and handed on. Since inputs and initial
states go through it too, it comes whichever gradients are asked for, and no sum is left behind.
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
from seqbraid.solve.divergence import Divergence

__all__ = ["GradientSums"]

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class _Started:
    """A model's sum under way: places at the entrance and shapes of its gradients, and its report entry."""

    pending: Pending
    parts: list[tuple[int, torch.Size]]
    report: SolveReport
    entry: int


class GradientSums:
    """The sums that the models of one forward call start in a backward pass, over all ranks of a grid.

    Nothing is left to do after the lowest model: where one group of ranks holds all sequences, that one sums
    its gradients itself, in one message with all else that it sums.
    """

    def __init__(self, grid: ProcessGrid, divergence: Divergence) -> None:
        self._grid = grid
        self._divergence = divergence
        self._started: list[_Started] = []

    @staticmethod
    def of(grid: ProcessGrid, count: int, divergence: Divergence) -> GradientSums | None:
        """Return the sums of a call of so many models; None where these do all of them themselves."""
        some = grid.data.size > 1 or (grid.sequence.size > 1 and count > 1)
        return GradientSums(grid, divergence) if some and torch.is_grad_enabled() else None

    def has(self, number: int) -> bool:
        """Return whether the gradients of the model of this number are summed here."""
        return number > 0 or self._grid.data.size > 1

    def enter(self, tensors: Sequence[Tensor | None]) -> tuple[list[Any], list[int | None]]:
        """Return the same tensors, for the models, and the place of each at the entrance.

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
        entered = _Entrance.apply(self, *chosen) if chosen else ()  # type: ignore[no-untyped-call]
        pairs = zip(tensors, places, strict=True)
        return [tensor if place is None else entered[place] for tensor, place in pairs], places

    def start(
        self, name: str, gradients: Gradients, places: Sequence[int | None], report: SolveReport
    ) -> None:
        """Begin to sum a model's gradients; the latest entry of the report is its backward solve."""
        pairs = [
            (gradient, place)
            for gradient, place in zip(gradients, places, strict=True)
            if gradient is not None and place is not None
        ]
        values = [gradient.reshape(-1) for gradient, _ in pairs]
        if self._grid.data.size > 1:
            # Also where no parameter is trained, so that all ranks learn of a divergence.
            values.append(values[0].new_tensor([self._divergence.flag]) if values else self._flag())
        if values:
            pending = self._grid.world.start_all_reduce(torch.cat(values), f"{name}: sum of the gradients")
            parts = [(place, gradient.shape) for gradient, place in pairs]
            self._started.append(_Started(pending, parts, report, len(report.backward) - 1))

    def finish(self, gradients: Gradients) -> list[Tensor | None]:
        """Return what came back to the entrance, with the sums in their places."""
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
        """Wait for a sum and charge the time to its model."""
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


class _Entrance(Function):
    """`tensors = _Entrance.apply(sums, *tensors)`: the identity; see the top."""

    @staticmethod
    def forward(ctx: Any, sums: GradientSums, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.sums = sums
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        return None, *ctx.sums.finish(gradients)
