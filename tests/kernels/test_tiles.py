import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.kernels.tiles import PANEL_BYTES, product

DTYPES = [np.float32, np.float64]


def check(count, depth, width, dtype, seed=0, room=0):
    """Compare with NumPy; `room` more rows lie around those that count, and are not to be touched."""
    random = np.random.default_rng(seed)
    columns = PANEL_BYTES // np.dtype(dtype).itemsize
    padded = -(-width // columns) * columns
    rows = random.normal(size=(count + room, depth)).astype(dtype)
    weights = random.normal(size=(depth, padded)).astype(dtype)
    bias = random.normal(size=padded).astype(dtype)
    panels = np.ascontiguousarray(weights.reshape(depth, -1, columns).transpose(1, 0, 2))
    around = np.full((count + room + 2, padded), 7.0, dtype)
    out = around[1:-1]
    product(rows, count, panels, bias, out)
    exact = rows[:count].astype(np.float64) @ weights.astype(np.float64) + bias
    # What rounding can do: depth + 1 sums of terms of this size.
    size = np.abs(rows[:count]).astype(np.float64) @ np.abs(weights) + np.abs(bias)
    assert (np.abs(out[:count] - exact) <= (depth + 1) * np.finfo(dtype).eps * size).all()
    assert (around[0] == 7).all()
    assert (around[count + 1 :] == 7).all(), "written beyond the rows that count"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [*range(21), 95, 96, 97, 98, 99, 100, 192, 193, 194, 195])
def test_any_number_of_rows(count, dtype):
    check(count, 7, 70, dtype, room=3)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.integers(0, 20), st.sampled_from([96, 97, 98, 100, 193])),
    st.integers(1, 40),
    st.integers(1, 150),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
    st.integers(0, 2**16),
)
def test_product_is_that_of_numpy(count, depth, width, dtype, room, seed):
    check(count, depth, width, dtype, seed, room)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_panels_of_whole_layers(dtype):
    check(100, 100, 300, dtype)
    check(8, 300, 100, dtype)
    check(1, 1000, 300, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_its_neighbours(dtype):
    random = np.random.default_rng(0)
    columns = PANEL_BYTES // np.dtype(dtype).itemsize
    rows = random.normal(size=(97, 9)).astype(dtype)
    panels = random.normal(size=(6, 9, columns)).astype(dtype)
    bias, out = np.zeros(6 * columns, dtype), np.empty((97, 6 * columns), dtype)
    product(rows, 97, panels, bias, out)
    for count in range(1, 20):
        fewer = np.empty_like(out)
        product(rows, count, panels, bias, fewer)
        assert (np.abs(fewer[:count] - out[:count]) <= 10 * np.finfo(dtype).eps * np.abs(out).max()).all()
    rows[5] = np.nan
    spoilt = np.empty_like(out)
    product(rows, 97, panels, bias, spoilt)
    assert np.isnan(spoilt[5]).all()
    assert np.array_equal(np.delete(spoilt, 5, 0), np.delete(out, 5, 0))
