"""Sweeps as loops over single steps, on any device: what sweeps in plain PyTorch have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from seqbraid.cells import StepCount
from seqbraid.kernels.intervals import Intervals
from seqbraid.kernels.protocol import Counts

__all__ = ["sweep_adjoint", "sweep_forward"]

# Of a step with these inputs, state before it, and count: the state after it, or the adjoint's factors.
OfStep = Callable[[Tensor, Tensor, StepCount], Tensor]
# Of a step with these factors and the cotangent after it: the one before it, or what the gradients need.
OfCotangent = Callable[[Tensor, Tensor], Tensor]


def sweep_forward(
    step: OfStep,
    linearise: OfStep,
    inputs: Tensor,
    points: Tensor,
    intervals: Intervals,
    counts: Counts,
    source: Tensor | None,
    states: Tensor | None,
    factors: Tensor | None,
) -> Tensor:
    """Take all intervals through their steps; see `Sweeps.forward`."""
    ends = points.clone()
    m: StepCount = float(counts) if isinstance(counts, int) else 1.0
    each = None if isinstance(counts, int) else counts.to(points.dtype).unsqueeze(-1)
    for piece in intervals.pieces():
        rows = slice(piece.first, piece.first + piece.count)
        u = ends[rows]
        for k in range(piece.steps):
            x = piece.take(inputs, k)
            if each is not None:
                m = piece.take(each, k)
            if factors is not None:
                piece.put(factors, k, linearise(x, u, m))
            u = step(x, u, m)
            if source is not None:
                u = u + piece.take(source, k)
            if states is not None:
                piece.put(states, k, u)
        ends[rows] = u
    return ends


def sweep_adjoint(
    carry: OfCotangent,
    keep: OfCotangent,
    factors: Tensor,
    points: Tensor,
    intervals: Intervals,
    direct: Tensor | None,
    source: Tensor | None,
    cotangents: Tensor | None,
    step_cotangents: Tensor | None,
    group: slice | None,
) -> Tensor:
    """Carry cotangents through all intervals; see `Sweeps.adjoint`."""
    ends = points.clone()
    if group is not None:
        direct, source, cotangents, step_cotangents = (
            None if series is None else series[:, group]
            for series in (direct, source, cotangents, step_cotangents)
        )
        ends[:, group] = sweep_adjoint(
            carry,
            keep,
            factors[:, group],
            points[:, group],
            intervals,
            direct,
            source,
            cotangents,
            step_cotangents,
            None,
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
            if step_cotangents is not None:
                piece.put(step_cotangents, k, keep(here, carried))
            carried = carry(here, carried)
            if source is not None:
                carried = carried + piece.take(source, k)
        ends[rows] = carried
    return ends
