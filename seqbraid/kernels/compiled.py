"""The forward and adjoint sweeps over many steps as one compiled call each.

A sweep takes rows, one for each interval and sequence, through the steps of their intervals. Blocks of rows
go through all steps one block after the other, so that a block's states and gates stay in the cache; blocks
are independent, which is what threads share. Each step is one product (`tiles`) and a few elementwise loops,
kept apart since a compiler vectorises them only with few arrays each.

Arrays are (T B, ·) in the order of time. Interval i's k-th step is at time `origin + i stride + k direction`.
"""

from __future__ import annotations

import numpy as np

from seqbraid.kernels.activations import logistic, tanh
from seqbraid.kernels.jit import Kernel, compiled
from seqbraid.kernels.tiles import ROWS, product

__all__ = ["adjoint_rows", "carry_rows", "forward_rows", "project_rows"]


@Kernel
def project_rows(
    x: np.ndarray, panels: np.ndarray, bias: np.ndarray, out: np.ndarray, first: int, last: int
) -> None:
    """Fill out[first:last] (T B, W) with x W_ih^T + b_ih; W is 3H padded to whole panels."""
    product(x[first:last], last - first, panels, bias, out[first:last])


@compiled
def _at(row: int, k: int, batch: int, origin: int, stride: int, direction: int) -> int:
    """Return the index in a series (T B, ...) of the k-th step of a row, one of a sequence in an interval."""
    interval = row // batch
    return (origin + interval * stride + k * direction) * batch + row - interval * batch


@compiled
def _blend(
    z: np.ndarray, alpha: np.ndarray, slope: np.ndarray, implicit: bool, power: bool, gamma: float, m: int
) -> None:
    """Fill alpha(z) over m > 0 fine steps and its derivative `slope`; see `cells.Propagator`."""
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
    a: np.ndarray,
    counts: np.ndarray,
    uniform_count: int,
    source: np.ndarray,
    states: np.ndarray,
    factors: np.ndarray,
    rows: np.ndarray,
    panels: np.ndarray,
    bias: np.ndarray,
    batch: int,
    steps: int,
    origin: int,
    stride: int,
    direction: int,
    first: int,
    last: int,
    implicit: bool,
    power: bool,
    gamma: float,
) -> None:
    """Advance rows[first:last] (n B, H) in place through `steps` steps of their intervals.

    a (T B, at least 3H) are the projected inputs, `panels` W_hh^T and `bias` b_hh, padded to whole panels.
    Arrays that are empty are not used: counts (T B) of fine steps that each step stands for, else
    `uniform_count`; source (T B, H), added after each step; states (T B, H), which takes each step's state;
    factors (T B, 5H), which takes the adjoint's factors alpha, of g_r, g_z, g_n, and of a_n.
    """
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
    plain = not implicit and gamma == 1.0
    for start in range(first, last, block):
        height = min(block, last - start)
        for row in range(height):
            for j in range(hidden):
                h[row, j] = rows[start + row, j]
        for k in range(steps):
            product(h, height, panels, bias, g)
            for row in range(height):
                at = _at(start + row, k, batch, origin, stride, direction)
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
                        _blend(z, alpha, slope, implicit, power, gamma, m)
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
    factors: np.ndarray,
    direct: np.ndarray,
    source: np.ndarray,
    cotangents: np.ndarray,
    gates: np.ndarray,
    rows: np.ndarray,
    panels: np.ndarray,
    bias: np.ndarray,
    batch: int,
    steps: int,
    origin: int,
    stride: int,
    direction: int,
    first: int,
    last: int,
) -> None:
    """Carry rows[first:last] (n B, H), dL/dh, in place through `steps` steps of their intervals.

    factors (T B, 5H) as `forward_rows` leaves them, `panels` W_hh padded to whole panels, `bias` zeros.
    Arrays that are empty are not used: direct (T B, H), what the loss adds at each step's state; source
    (T B, H), added after each step; cotangents (T B, H), which takes each step's whole dL/dh+; gates
    (T B, 4H), which takes dL/dg of r, z, n and dL/da of n.
    """
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
                at = _at(start + row, k, batch, origin, stride, direction)
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
                if gates.size:
                    out = gates[at]
                    for j in range(3 * hidden):
                        out[j] = row_dg[j]
                    for j in range(hidden):
                        out[3 * hidden + j] = here[j] * factor[4 * hidden + j]
            product(dg, height, panels, bias, moved)
            for row in range(height):
                at = _at(start + row, k, batch, origin, stride, direction)
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
    factors: np.ndarray,
    direct: np.ndarray,
    rows: np.ndarray,
    batch: int,
    steps: int,
    origin: int,
    stride: int,
    direction: int,
    first: int,
    last: int,
) -> None:
    """Carry rows[first:last] (n B, H) in place through `steps` steps by their factors alpha alone.

    direct (T B, H) is added before each step.
    """
    hidden = rows.shape[1]
    for row in range(first, last):
        here = rows[row]
        for k in range(steps):
            at = _at(row, k, batch, origin, stride, direction)
            added = direct[at]
            factor = factors[at]
            for j in range(hidden):
                here[j] = factor[j] * (here[j] + added[j])
