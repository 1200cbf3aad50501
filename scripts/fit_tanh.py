"""Fit the rational tanh of `seqbraid/kernels/activations.py` and print its coefficients.

tanh(x) is about x P(x^2) / Q(x^2) on (0, 9.02], with P and Q of degree 4 and Q(0) = 1. Of all such quotients
the one with the smallest largest relative error is sought by least squares that are linear in the
coefficients: each equation is divided by the Q found before, and its weight grows where the error is large
(Lawson's iteration).

example:
  python scripts/fit_tanh.py
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

CLAMP = 9.02
DEGREE = 4


def evaluate(numerator: Array, denominator: Array, x: Array) -> Array:
    """Return x P(x^2) / Q(x^2) in the arithmetic of x, by Horner's rule as the kernels do it."""
    square = x * x
    top, bottom = np.zeros_like(x), np.zeros_like(x)
    for power in reversed(range(DEGREE + 1)):
        top = top * square + x.dtype.type(numerator[power])
        bottom = bottom * square + x.dtype.type(denominator[power])
    return x * top / bottom


def fit(points: int = 4000, iterations: int = 60) -> tuple[Array, Array, float]:
    """Return the coefficients of P and Q, lowest first, and the largest relative error at the points."""
    # Points gather at both ends, as the extrema of the best fit do.
    x = CLAMP / 2 * (1 - np.cos((np.arange(points) + 0.5) * np.pi / points))
    scaled = (x / CLAMP) ** 2
    ratio = x / np.tanh(x)
    powers = scaled[:, None] ** np.arange(DEGREE + 1)
    equations = np.hstack([ratio[:, None] * powers, -powers[:, 1:]])
    weights, bottom = np.ones(points), np.ones(points)
    least = np.inf
    for _ in range(iterations):
        scale = np.sqrt(weights) / bottom
        found = np.linalg.lstsq(equations * scale[:, None], scale, rcond=None)[0]
        top, bottom = powers @ found[: DEGREE + 1], 1 + powers[:, 1:] @ found[DEGREE + 1 :]
        error = np.abs(ratio * top / bottom - 1)
        if error.max() < least:
            least, best = float(error.max()), found
        weights = weights * error / np.mean(weights * error)
    units = CLAMP ** (2.0 * np.arange(DEGREE + 1))
    return best[: DEGREE + 1] / units, np.concatenate([[1.0], best[DEGREE + 1 :]]) / units, least


def largest_error(numerator: Array, denominator: Array) -> float:
    """Return the largest absolute error in float32 over a dense grid, beyond the clamp too."""
    x = np.concatenate([np.linspace(0, 10, 2_000_001), np.geomspace(1e-6, 10, 100_001)]).astype(np.float32)
    y = evaluate(numerator, denominator, np.minimum(x, np.float32(CLAMP)))
    return float(np.abs(np.minimum(y, 1) - np.tanh(x.astype(np.float64))).max())


def main() -> None:
    """Fit and print."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    numerator, denominator, error = fit()
    for name, coefficients in (("NUMERATOR", numerator), ("DENOMINATOR", denominator)):
        print(f"{name} = ({', '.join(f'{value:.9e}' for value in coefficients)})")
    print(f"largest error: {error:.1e} relative in exact arithmetic, ", end="")
    print(f"{largest_error(numerator, denominator):.1e} absolute in float32")


if __name__ == "__main__":
    main()
