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
from seqbraid.kernels.compiled import adjoint_rows, carry_rows, forward_rows, project_rows
from seqbraid.kernels.intervals import Intervals
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
        self._input_weights: tuple[Tensor, Tensor | None, tuple[np.ndarray, np.ndarray]] | None = None
        self._forward_weights: tuple[np.ndarray, np.ndarray] | None = None
        self._adjoint_weights: tuple[np.ndarray, np.ndarray] | None = None

    def project(self, x: Tensor, w_ih: Tensor, b_ih: Tensor | None) -> Tensor:
        """See `GRUKernel.project`."""
        kept = self._input_weights
        if kept is None or kept[0] is not w_ih or kept[1] is not b_ih:
            packed = _pack(w_ih.detach().t(), None if b_ih is None else b_ih.detach())
            kept = self._input_weights = (w_ih, b_ih, packed)
        panels, bias = kept[2]
        rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
        a = empty_series((*x.shape[:2], len(bias)), x)
        _share_rows(slice(0, len(rows)), partial(project_rows, rows.numpy(), panels, bias, _rows(a)), ())
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
        series = [_series(tensor, a.dtype) for tensor in (source, states, factors)]
        rows = _rows(ends)
        inputs = _series(a, a.dtype)
        for piece in intervals.pieces():
            call = partial(
                forward_rows,
                inputs,
                each,
                uniform,
                *series,
                rows[piece.first * batch :],
                *self._forward_weights,
                batch,
                piece.steps,
                piece.origin,
                piece.stride,
                piece.direction,
            )
            ending = (kind == "implicit", propagator.kind == "frozen", float(propagator.gamma))
            _share_rows(_rows_of(group, piece.count * batch, intervals), call, ending)
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
        series = [
            _series(tensor, factors.dtype)
            for tensor in (factors, direct, source, cotangents, gate_cotangents)
        ]
        rows = _rows(ends)
        for piece in intervals.pieces():
            call = partial(
                adjoint_rows,
                *series,
                rows[piece.first * batch :],
                *self._adjoint_weights,
                batch,
                piece.steps,
                piece.origin,
                piece.stride,
                piece.direction,
            )
            _share_rows(_rows_of(group, piece.count * batch, intervals), call, ())
        return ends

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`."""
        ends = direct.new_zeros((intervals.count, *direct.shape[1:]))
        batch = direct.shape[1]
        series = [_series(tensor, factors.dtype) for tensor in (factors, direct)]
        rows = _rows(ends)
        for piece in intervals.pieces():
            where = (piece.steps, piece.origin, piece.stride, piece.direction)
            call = partial(carry_rows, *series, rows[piece.first * batch :], batch, *where)
            _share_rows(slice(0, piece.count * batch), call, ())
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


def _pack(weights: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, N) as panels (N / W, K, W) of 64 bytes' width and the bias, padded with zeros."""
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
    return panels, start


def _rows_of(group: slice | None, rows: int, intervals: Intervals) -> slice:
    """Return the rows of a group of sequences in the only interval; all rows without a group."""
    if group is None:
        return slice(0, rows)
    if intervals.count > 1:
        raise ValueError(f"a group was given for {intervals.count} intervals; expected one")
    return group


def _share_rows(rows: slice, call: Callable[..., None], ending: tuple[object, ...]) -> None:
    """Run `call(..., first, last, *ending)` over all rows, cut evenly over the threads."""
    count = rows.stop - rows.start
    threads = min(torch.get_num_threads(), count // _LEAST_ROWS)
    if threads <= 1:
        if count:
            call(rows.start, rows.stop, *ending)
        return
    cuts = [rows.start + count * thread // threads for thread in range(threads + 1)]
    others = [_pool(threads - 1).submit(call, first, last, *ending) for first, last in pairwise(cuts[1:])]
    call(cuts[0], cuts[1], *ending)
    for other in others:
        other.result()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    # By process: threads do not survive a fork.
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="seqbraid")
    return _pools[key]
