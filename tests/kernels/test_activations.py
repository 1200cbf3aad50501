import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from seqbraid.kernels.activations import CLAMP, DENOMINATOR, NUMERATOR, logistic, tanh

ROOT = Path(__file__).resolve().parents[2]


@njit(error_model="numpy", fastmath={"contract"})
def apply(x, of_tanh, of_logistic):
    for i in range(len(x)):
        of_tanh[i] = tanh(x[i])
    for i in range(len(x)):
        of_logistic[i] = logistic(x[i])


def both(x):
    of_tanh, of_logistic = np.empty_like(x), np.empty_like(x)
    apply(x, of_tanh, of_logistic)
    return of_tanh, of_logistic


def grid(dtype):
    """Return numbers of both signs: evenly spaced, of every magnitude, denormal, at the clamp, infinite."""
    tiny = np.finfo(dtype).tiny
    near = np.nextafter(dtype(CLAMP), [dtype(0), dtype(np.inf)], dtype=dtype)
    positive = np.concatenate(
        [
            np.linspace(0, 100, 1_000_001),
            np.linspace(0, 10, 1_000_001),
            np.geomspace(tiny, 100, 100_001),
            np.linspace(0, tiny, 1001),
            [np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max, np.inf, CLAMP, 2 * CLAMP],
        ]
    ).astype(dtype)
    positive = np.concatenate([positive, near])
    return np.concatenate([positive, -positive])


def exact(x):
    x = x.astype(np.longdouble)
    with np.errstate(over="ignore"):
        return np.tanh(x), 1 / (1 + np.exp(-x))


def test_float32_is_within_5e_7_and_within_bounds():
    x = grid(np.float32)
    for found, truth, lowest in zip(both(x), exact(x), (-1, 0), strict=True):
        assert np.abs(found - truth).max() <= 5e-7
        assert found.min() >= lowest
        assert found.max() <= 1
        # Saturated gates are 0 and 1, not nearly so: long memory depends on it.
        assert (found[x >= np.float32(2 * CLAMP)] == 1).all()
        assert (found[x <= -np.float32(2 * CLAMP)] == lowest).all()
    of_tanh, _ = both(x)
    assert np.array_equal(of_tanh, -both(-x)[0])
    small = np.abs(x) < 1e-3
    assert np.abs(of_tanh[small] - x[small]).max() <= 5e-10


def test_float64_is_exact_to_the_last_bits():
    x = grid(np.float64)
    for found, truth in zip(both(x), exact(x), strict=True):
        assert (np.abs(found - truth) <= 4 * np.spacing(np.abs(truth).astype(np.float64))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 8, 37])
def test_nan_stays_nan_and_zero_keeps_its_sign(length, dtype):
    x = np.zeros(length, dtype)
    x[0] = np.nan
    of_tanh, of_logistic = both(x)
    assert np.isnan(of_tanh[0])
    assert np.isnan(of_logistic[0])
    assert (of_tanh[1:] == 0).all()
    assert (of_logistic[1:] == 0.5).all()
    for sign in (1.0, -1.0):
        of_zero, _ = both(np.full(length, sign * 0.0, dtype))
        assert (of_zero == 0).all()
        assert (np.signbit(of_zero) == (sign < 0)).all()


def test_the_coefficients_are_those_of_the_script():
    path = ROOT / "scripts" / "fit_tanh.py"
    specification = importlib.util.spec_from_file_location("fit_tanh", path)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    assert script.CLAMP == CLAMP
    numerator, denominator, error = script.fit()
    assert error < 2.2e-8
    # Other linear algebra rounds otherwise.
    np.testing.assert_allclose(NUMERATOR, numerator, rtol=1e-6)
    np.testing.assert_allclose(DENOMINATOR, denominator, rtol=1e-6)
    assert script.largest_error(NUMERATOR, DENOMINATOR) < 4e-7
