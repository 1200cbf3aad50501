import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqbraid.kernels import Intervals


def by_hand(steps, length, reverse):
    """Return the times of each interval in the order of the sweep."""
    times = [list(range(steps))[first : first + length] for first in range(0, steps, length)]
    return [block[::-1] for block in times[::-1]] if reverse else times


grids = st.tuples(st.integers(0, 40), st.integers(1, 45), st.booleans())


@given(grids)
def test_pieces_cover_every_step_once_in_the_order_of_the_sweep(grid):
    steps, length, reverse = grid
    intervals = Intervals(steps, length, reverse)
    found = {}
    for piece in intervals.pieces():
        assert piece.count > 0
        assert piece.steps > 0
        for i in range(piece.count):
            assert piece.first + i not in found
            first = piece.origin + i * piece.stride
            found[piece.first + i] = [first + k * piece.direction for k in range(piece.steps)]
    expected = by_hand(steps, length, reverse)
    assert list(found) == list(range(len(expected)))
    assert list(found.values()) == expected
    assert intervals.count == len(expected)
    if expected and intervals.count > 1 and steps % length:
        short = 0 if intervals.short_first else -1
        assert len(expected[short]) == steps % length


@given(grids)
def test_pieces_take_and_put_the_steps_of_all_their_intervals(grid):
    steps, length, reverse = grid
    series = torch.arange(steps * 2).view(steps, 2)
    copy = torch.full_like(series, -1)
    expected = by_hand(steps, length, reverse)
    for piece in Intervals(steps, length, reverse).pieces():
        for k in range(piece.steps):
            taken = piece.take(series, k)
            times = [expected[piece.first + i][k] for i in range(piece.count)]
            assert taken[:, 0].tolist() == [2 * t for t in times]
            piece.put(copy, k, taken)
    assert torch.equal(copy, series)


def runs():
    """Yield every run of intervals of every small grid, with the times of each interval."""
    for steps, length, reverse in itertools.product(range(9), range(1, 10), (False, True)):
        intervals, expected = Intervals(steps, length, reverse), by_hand(steps, length, reverse)
        for first, last in itertools.combinations_with_replacement(range(intervals.count + 1), 2):
            yield intervals, slice(first, last), expected[first:last]


def test_times_are_those_of_the_run():
    for intervals, which, expected in runs():
        times = list(range(intervals.steps))[intervals.times(which)]
        assert times == sorted(itertools.chain.from_iterable(expected)), (intervals, which)


@pytest.mark.parametrize("at_once", [None, *range(1, 10), 50])
def test_chunks_go_through_a_run_as_the_run_does(at_once):
    for intervals, which, expected in runs():
        passed = {i: [] for i in range(which.start, which.stop)}
        for chunk in intervals.chunks(which, at_once):
            times = list(range(intervals.steps))[chunk.times]
            own = by_hand(chunk.intervals.steps, chunk.intervals.length, chunk.intervals.reverse)
            assert chunk.intervals.steps == len(times) > 0
            assert chunk.intervals.reverse == intervals.reverse
            assert chunk.intervals.count == chunk.which.stop - chunk.which.start
            if at_once is not None:
                assert len(times) <= max(at_once, intervals.length if intervals.count > 1 else 0)
            for i, block in enumerate(own):
                passed[chunk.which.start + i] += [times[k] for k in block]
        assert list(passed.values()) == expected, (intervals, which)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_interval_of_all_steps(reverse):
    for steps in (1, 2, 17):
        assert by_hand(steps, Intervals.one(steps, reverse).length, reverse) == by_hand(steps, steps, reverse)
        assert Intervals.one(steps, reverse).count == 1
    assert Intervals.one(0, reverse).count == 0
    assert not list(Intervals.one(0, reverse).pieces())
    assert Intervals.one(0, reverse).chunks(slice(0, 0)) == []
