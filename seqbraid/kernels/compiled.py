"""The forward and adjoint sweeps over many steps as one compiled call each.

A sweep takes rows, one for each interval and sequence, through the steps of their intervals. Blocks of rows
go through all steps one block after the other, so that a block's states and gates stay in the cache; blocks
are independent, which is what threads share. Each step is one product (`tiles`) and a few elementwise loops,
kept apart since a compiler vectorises them only with few arrays each.

Series are (T B, ·) in the order of time; `arguments.Layout` says where a row's steps lie in them.
"""

from __future__ import annotations

import numpy as np

from seqbraid.kernels.activations import logistic, tanh
from seqbraid.kernels.arguments import AdjointSeries, Blend, ForwardSeries, Layout, PackedWeights
from seqbraid.kernels.jit import Kernel, compiled
from seqbraid.kernels.tiles import ROWS, product

__all__ = ["adjoint_rows", "carry_rows", "forward_rows", "project_rows"]


@Kernel
def project_rows(x: np.ndarray, weights: PackedWeights, out: np.ndarray, first: int, last: int) -> None:
    """Fill out[first:last] (T B, W) with x W_ih^T + b_ih; W is 3H padded to whole panels."""
    product(x[first:last], last - first, weights.panels, weights.bias, out[first:last])


@compiled
def _at(row: int, k: int, layout: Layout) -> int:
    """Return the index in a series (T B, ...) of the k-th step of a row, one of a sequence in an interval."""
    batch = layout.batch
    interval = row // batch
    return (layout.origin + interval * layout.stride + k * layout.direction) * batch + row - interval * batch


@compiled
def _fill_blend(z: np.ndarray, alpha: np.ndarray, slope: np.ndarray, blend: Blend, m: int) -> None:
    """Fill alpha(z) over m > 0 fine steps and its derivative `slope`; see `cells.Propagator`."""
    implicit, power, gamma = blend
    hidden = alpha.shape[0]
    one = z.dtype.type(1.0)
    step = z.dtype.type(gamma if power else gamma * m)
    if implicit:
        for j in range(hidden):
            alpha[j] = one / (one + step * (one - z[j]))
        for j in range(hidden):
            slope[j] = step * alpha[j] * alpha[j]
    else:
        for j in range(hidden):
            alpha[j] = one - step * (one - z[j])
        for j in range(hidden):
            slope[j] = step
    if power and m > 1:
        # alpha^(m-1) by squaring, in `base` times `grown`; then alpha^m and m alpha^(m-1) alpha'.
        factor = z.dtype.type(m)
        left = m - 1
        base = alpha.copy()
        grown = np.ones_like(alpha)
        while left > 0:
            if left & 1:
                for j in range(hidden):
                    grown[j] *= base[j]
            left >>= 1
            for j in range(hidden):
                base[j] *= base[j]
        for j in range(hidden):
            slope[j] *= factor * grown[j]
        for j in range(hidden):
            alpha[j] *= grown[j]


@Kernel
def forward_rows(
    rows: np.ndarray,
    series: ForwardSeries,
    weights: PackedWeights,
    layout: Layout,
    blend: Blend,
    uniform_count: int,
    first: int,
    last: int,
) -> None:
    """Advance rows[first:last] (n B, H) in place through the steps of their intervals.

    `weights` are W_hh^T and b_hh, padded to whole panels. Without counts each step stands for `uniform_count`
    fine ones.
    """
    a, counts, source, states, factors = series
    panels, bias = weights
    steps = layout.steps
    hidden = rows.shape[1]
    width = panels.shape[0] * panels.shape[2]
    kind = rows.dtype.type
    one = kind(1.0)
    block = min(ROWS, last - first)
    h = np.empty((block, hidden), rows.dtype)
    g = np.empty((block, width), rows.dtype)
    n = np.empty(hidden, rows.dtype)
    candidate = np.empty(hidden, rows.dtype)
    alpha = np.empty(hidden, rows.dtype)
    slope = np.empty(hidden, rows.dtype)
    plain = not blend.implicit and blend.gamma == 1.0
    for start in range(first, last, block):
        height = min(block, last - start)
        for row in range(height):
            for j in range(hidden):
                h[row, j] = rows[start + row, j]
        for k in range(steps):
            product(h, height, panels, bias, g)
            for row in range(height):
                at = _at(start + row, k, layout)
                m = counts[at] if counts.size else uniform_count
                here = h[row]
                gates = g[row]
                hidden_n = g[row][2 * hidden :]
                inputs = a[at]
                inputs_n = a[at][2 * hidden :]
                if m > 0:
                    for j in range(2 * hidden):
                        gates[j] = logistic(inputs[j] + gates[j])
                    for j in range(hidden):
                        n[j] = tanh(inputs_n[j] + gates[j] * hidden_n[j])
                    z = gates[hidden : 2 * hidden]
                    if plain and m == 1:
                        for j in range(hidden):
                            alpha[j] = z[j]
                    else:
                        _fill_blend(z, alpha, slope, blend, m)
                    if factors.size:
                        out = factors[at]
                        if plain and m == 1:
                            for j in range(hidden):
                                slope[j] = one
                        for j in range(hidden):
                            candidate[j] = (one - alpha[j]) * (one - n[j] * n[j])
                        for j in range(hidden):
                            out[j] = alpha[j]
                        for j in range(hidden):
                            out[hidden + j] = (
                                candidate[j] * gates[2 * hidden + j] * gates[j] * (one - gates[j])
                            )
                        for j in range(hidden):
                            out[2 * hidden + j] = slope[j] * (here[j] - n[j]) * z[j] * (one - z[j])
                        for j in range(hidden):
                            out[3 * hidden + j] = candidate[j] * gates[j]
                        for j in range(hidden):
                            out[4 * hidden + j] = candidate[j]
                    # h itself, to the bit, where alpha is 1.
                    for j in range(hidden):
                        here[j] += (one - alpha[j]) * (n[j] - here[j])
                elif factors.size:
                    out = factors[at]
                    for j in range(hidden):
                        out[j] = one
                    for j in range(hidden, 5 * hidden):
                        out[j] = kind(0.0)
                if source.size:
                    added = source[at]
                    for j in range(hidden):
                        here[j] += added[j]
                if states.size:
                    kept = states[at]
                    for j in range(hidden):
                        kept[j] = here[j]
        for row in range(height):
            for j in range(hidden):
                rows[start + row, j] = h[row, j]


@Kernel
def adjoint_rows(
    rows: np.ndarray, series: AdjointSeries, weights: PackedWeights, layout: Layout, first: int, last: int
) -> None:
    """Carry rows[first:last] (n B, H), dL/dh, in place through the steps of their intervals.

    `weights` are W_hh, padded to whole panels, and a bias of zeros.
    """
    factors, direct, source, cotangents, gate_cotangents = series
    panels, bias = weights
    steps = layout.steps
    hidden = rows.shape[1]
    width = panels.shape[0] * panels.shape[2]
    block = min(ROWS, last - first)
    carried = np.empty((block, hidden), rows.dtype)
    dg = np.empty((block, 3 * hidden), rows.dtype)
    moved = np.empty((block, width), rows.dtype)
    for start in range(first, last, block):
        height = min(block, last - start)
        for row in range(height):
            for j in range(hidden):
                carried[row, j] = rows[start + row, j]
        for k in range(steps):
            for row in range(height):
                at = _at(start + row, k, layout)
                here = carried[row]
                factor = factors[at]
                if direct.size:
                    added = direct[at]
                    for j in range(hidden):
                        here[j] += added[j]
                if cotangents.size:
                    kept = cotangents[at]
                    for j in range(hidden):
                        kept[j] = here[j]
                row_dg = dg[row]
                for j in range(hidden):
                    row_dg[j] = here[j] * factor[hidden + j]
                for j in range(hidden):
                    row_dg[hidden + j] = here[j] * factor[2 * hidden + j]
                for j in range(hidden):
                    row_dg[2 * hidden + j] = here[j] * factor[3 * hidden + j]
                if gate_cotangents.size:
                    out = gate_cotangents[at]
                    for j in range(3 * hidden):
                        out[j] = row_dg[j]
                    for j in range(hidden):
                        out[3 * hidden + j] = here[j] * factor[4 * hidden + j]
            product(dg, height, panels, bias, moved)
            for row in range(height):
                at = _at(start + row, k, layout)
                here = carried[row]
                factor = factors[at]
                gained = moved[row]
                for j in range(hidden):
                    here[j] = here[j] * factor[j] + gained[j]
                if source.size:
                    added = source[at]
                    for j in range(hidden):
                        here[j] += added[j]
        for row in range(height):
            for j in range(hidden):
                rows[start + row, j] = carried[row, j]


@Kernel
def carry_rows(
    rows: np.ndarray, factors: np.ndarray, direct: np.ndarray, layout: Layout, first: int, last: int
) -> None:
    """Carry rows[first:last] (n B, H) in place through their steps by their factors alpha alone.

    direct (T B, H) is added before each step.
    """
    hidden = rows.shape[1]
    for row in range(first, last):
        here = rows[row]
        for k in range(layout.steps):
            at = _at(row, k, layout)
            added = direct[at]
            factor = factors[at]
            for j in range(hidden):
                here[j] = factor[j] * (here[j] + added[j])
