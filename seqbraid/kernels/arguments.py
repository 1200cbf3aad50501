"""What compiled sweeps are handed, in groups; Numba takes them as they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["AdjointSeries", "Blend", "ForwardSeries", "Layout", "PackedWeights"]


class PackedWeights(NamedTuple):
    """Weights (K, N) as panels (N / W, K, W) of columns, and the bias (N) that a product begins with."""

    panels: np.ndarray
    bias: np.ndarray


class Layout(NamedTuple):
    """Where the steps of rows lie in series (T B, ·): a row is one of `batch` sequences in one interval.

    The k-th of an interval's `steps` steps is at time `origin + i stride + k direction`.
    """

    batch: int
    steps: int
    origin: int
    stride: int
    direction: int


class ForwardSeries(NamedTuple):
    """What a forward sweep reads and writes; all but the inputs may be empty, and are not used then.

    inputs (T B, at least 3H), projected; counts (T B) of fine steps that each step stands for; source
    (T B, H), added after each step; states (T B, H), which takes each step's state; factors (T B, 5H), which
    takes the adjoint's factors alpha, of g_r, g_z, g_n, and of a_n.
    """

    inputs: np.ndarray
    counts: np.ndarray
    source: np.ndarray
    states: np.ndarray
    factors: np.ndarray


class AdjointSeries(NamedTuple):
    """What an adjoint sweep reads and writes; all but the factors may be empty, and are not used then.

    factors (T B, 5H) as the forward sweep leaves them; direct (T B, H), what the loss adds at each step's
    state; source (T B, H), added after each step; cotangents (T B, H), which takes each step's whole dL/dh+;
    gate_cotangents (T B, 4H), which takes dL/dg of r, z, n and dL/da of n.
    """

    factors: np.ndarray
    direct: np.ndarray
    source: np.ndarray
    cotangents: np.ndarray
    gate_cotangents: np.ndarray


class Blend(NamedTuple):
    """What tells a propagator from another, see `cells.Propagator`: alpha(z) of a step, or its power."""

    implicit: bool
    power: bool
    gamma: float
