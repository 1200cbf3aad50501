"""tanh and the logistic function for compiled loops: rational in float32, which vectorises, exact in float64.

In float32, tanh(x) is x P(x^2) / Q(x^2) with P and Q of degree 4, |x| clamped to 9.02 where tanh rounds to 1;
the largest error is 4e-7. The coefficients are a minimax fit of the relative error by `scripts/fit_tanh.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

__all__ = ["logistic", "tanh"]

CLAMP = 9.02
NUMERATOR = (9.999999792e-01, 1.337966654e-01, 3.493972422e-03, 2.058243215e-05, 1.331759828e-08)
DENOMINATOR = (1.0, 4.671298185e-01, 2.587083941e-02, 3.282989861e-04, 7.761419042e-07)

_LIMIT = np.float32(CLAMP)
_P0, _P1, _P2, _P3, _P4 = (np.float32(value) for value in NUMERATOR)
_Q1, _Q2, _Q3, _Q4 = (np.float32(value) for value in DENOMINATOR[1:])
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)


@register_jitable
def _rational_tanh(x: Any) -> Any:
    # The comparisons are written so that a nan stays one.
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    s = x * x
    top = x * ((((_P4 * s + _P3) * s + _P2) * s + _P1) * s + _P0)
    bottom = (((_Q4 * s + _Q3) * s + _Q2) * s + _Q1) * s + _ONE
    y = top / bottom
    y = _ONE if y > _ONE else y
    return -_ONE if y < -_ONE else y


def tanh(x: float) -> float:
    """Return tanh(x); compiled code takes the form for its dtype, float32 or float64, below."""
    return math.tanh(x)


def logistic(x: float) -> float:
    """Return 1 / (1 + exp(-x)); compiled code takes the form for its dtype, float32 or float64, below."""
    return 0.5 + 0.5 * math.tanh(0.5 * x)


# Unannotated: Numba compares the signature with that of the function that it returns.
@overload(tanh, inline="always")
def _tanh(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _rational_tanh(x)
    return lambda x: math.tanh(x)


@overload(logistic, inline="always")
def _logistic(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _HALF + _HALF * _rational_tanh(_HALF * x)
    return lambda x: 1.0 / (1.0 + math.exp(-x))
