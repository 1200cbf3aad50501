"""The GRU's sweeps as compiled calls on PyTorch's tensors, shared by the rank's threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from seqbraid.cells import Propagator
from seqbraid.kernels.arguments import AdjointSeries, Blend, ForwardSeries, Layout, PackedWeights
from seqbraid.kernels.compiled import adjoint_rows, carry_rows, forward_rows, project_rows
from seqbraid.kernels.intervals import Intervals, Piece
from seqbraid.kernels.memory import empty_series
from seqbraid.kernels.tiles import PANEL_BYTES

__all__ = ["FusedSweeps"]

# Fewer rows than this are not worth a second thread: tiles of fewer rows waste arithmetic.
_LEAST_ROWS = 4


class FusedSweeps:
    """See `GRUKernel`; for float32 and float64 on the CPU. Weights are packed at their first use."""

    def __init__(self, w_hh: Tensor, b_hh: Tensor | None) -> None:
        self._w_hh = w_hh.detach()
        self._b_hh = None if b_hh is None else b_hh.detach()
        self._input_weights: tuple[Tensor, Tensor | None, PackedWeights] | None = None
        self._forward_weights: PackedWeights | None = None
        self._adjoint_weights: PackedWeights | None = None

    def project(self, x: Tensor, w_ih: Tensor, b_ih: Tensor | None) -> Tensor:
        """See `GRUKernel.project`."""
        kept = self._input_weights
        if kept is None or kept[0] is not w_ih or kept[1] is not b_ih:
            packed = _pack(w_ih.detach().t(), None if b_ih is None else b_ih.detach())
            kept = self._input_weights = (w_ih, b_ih, packed)
        weights = kept[2]
        rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
        a = empty_series((*x.shape[:2], len(weights.bias)), x)
        _run_threads(slice(0, len(rows)), partial(project_rows, rows.numpy(), weights, _rows(a)))
        return a

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
        """See `Sweeps.forward`."""
        if self._forward_weights is None:
            self._forward_weights = _pack(self._w_hh.t(), self._b_hh)
        ends = points.detach().clone(memory_format=torch.contiguous_format)
        batch = points.shape[1]
        uniform = counts if isinstance(counts, int) else 0
        each = _NO_COUNTS if isinstance(counts, int) else counts.detach().numpy().reshape(-1)
        kind = propagator.cell if propagator.kind == "frozen" else propagator.kind
        written = [_series(tensor, a.dtype) for tensor in (source, states, factors)]
        series = ForwardSeries(_series(a, a.dtype), each, *written)
        blend = Blend(kind == "implicit", propagator.kind == "frozen", float(propagator.gamma))
        rows = _rows(ends)
        for piece in intervals.pieces():
            call = partial(
                forward_rows,
                rows[piece.first * batch :],
                series,
                self._forward_weights,
                _layout(piece, batch),
                blend,
                uniform,
            )
            _run_threads(_rows_of(group, piece.count * batch, intervals), call)
        return ends

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
        """See `Sweeps.adjoint`."""
        if self._adjoint_weights is None:
            self._adjoint_weights = _pack(self._w_hh, None)
        ends = points.detach().clone(memory_format=torch.contiguous_format)
        batch = points.shape[1]
        given = (factors, direct, source, cotangents, gate_cotangents)
        series = AdjointSeries(*(_series(tensor, factors.dtype) for tensor in given))
        rows = _rows(ends)
        for piece in intervals.pieces():
            layout = _layout(piece, batch)
            call = partial(adjoint_rows, rows[piece.first * batch :], series, self._adjoint_weights, layout)
            _run_threads(_rows_of(group, piece.count * batch, intervals), call)
        return ends

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`."""
        ends = direct.new_zeros((intervals.count, *direct.shape[1:]))
        batch = direct.shape[1]
        series = [_series(tensor, factors.dtype) for tensor in (factors, direct)]
        rows = _rows(ends)
        for piece in intervals.pieces():
            call = partial(carry_rows, rows[piece.first * batch :], *series, _layout(piece, batch))
            _run_threads(slice(0, piece.count * batch), call)
        return ends


_NO_COUNTS = np.empty(0, np.int32)
_NO_SERIES: dict[torch.dtype, np.ndarray] = {
    torch.float32: np.empty((0, 0), np.float32),
    torch.float64: np.empty((0, 0), np.float64),
}


def _series(tensor: Tensor | None, dtype: torch.dtype) -> np.ndarray:
    """Return a contiguous series (T, B, ...) as (T B, ·), an empty array for None."""
    if tensor is None or tensor.numel() == 0:
        return _NO_SERIES[dtype]
    if not tensor.is_contiguous():
        raise ValueError(
            f"a series of shape {tuple(tensor.shape)} is not contiguous; expected contiguous ones"
        )
    return tensor.detach().view(tensor.shape[0] * tensor.shape[1], -1).numpy()


def _rows(points: Tensor) -> np.ndarray:
    array: np.ndarray = points.numpy()
    return array.reshape(-1, points.shape[-1])


def _layout(piece: Piece, batch: int) -> Layout:
    return Layout(batch, piece.steps, piece.origin, piece.stride, piece.direction)


def _pack(weights: Tensor, bias: Tensor | None) -> PackedWeights:
    """Return weights (K, N) and bias in panels of 64 bytes' width, padded with zeros."""
    depth, width = weights.shape
    panel = PANEL_BYTES // weights.element_size()
    count = -(-width // panel)
    # NumPy rather than PyTorch: this runs for every solve, and is mostly the calls' own cost.
    padded = np.zeros((depth, count * panel), _NO_SERIES[weights.dtype].dtype)
    padded[:, :width] = weights.numpy()
    start = np.zeros(count * panel, padded.dtype)
    if bias is not None:
        start[:width] = bias.numpy()
    panels = np.ascontiguousarray(padded.reshape(depth, count, panel).transpose(1, 0, 2))
    return PackedWeights(panels, start)


def _rows_of(group: slice | None, rows: int, intervals: Intervals) -> slice:
    """Return the rows of a group of sequences in the only interval; all rows without a group."""
    if group is None:
        return slice(0, rows)
    if intervals.count > 1:
        raise ValueError(f"a group was given for {intervals.count} intervals; expected one")
    return group


def _run_threads(rows: slice, call: Callable[[int, int], None]) -> None:
    """Run `call(first, last)` over all rows, cut evenly over the threads."""
    count = rows.stop - rows.start
    threads = min(torch.get_num_threads(), count // _LEAST_ROWS)
    if threads <= 1:
        if count:
            call(rows.start, rows.stop)
        return
    cuts = [rows.start + count * thread // threads for thread in range(threads + 1)]
    others = [_pool(threads - 1).submit(call, first, last) for first, last in pairwise(cuts[1:])]
    call(cuts[0], cuts[1])
    for other in others:
        other.result()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    # By process: threads do not survive a fork.
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="seqbraid")
    return _pools[key]
