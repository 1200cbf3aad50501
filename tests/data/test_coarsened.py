"""Sequences coarsened in time against means taken one by one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.data.coarsened import coarsen_part
from seqbraid.data.dataset import Part, open_dataset
from seqbraid.data.padding import pad_part
from seqbraid.data.store import FeatureStore

SIZE = 3
Sequences = list[npt.NDArray[np.float32]]


def draw_sequences(lengths: list[int]) -> Sequences:
    random = np.random.default_rng(len(lengths))
    return [random.normal(5.0, 2.0, (length, SIZE)).astype(np.float32) for length in lengths]


def make_part(sequences: Sequences, asked: list[tuple[int, int]] | None = None) -> Part:
    """Return a part that holds 99 where no sequence is, and notes the steps that are asked for."""

    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        assert 0 <= start <= stop <= max(map(len, sequences))
        if asked is not None:
            asked.append((start, stop))
        block = np.full((len(indices), stop - start, SIZE), 99.0, np.float32)
        for row, index in enumerate(indices):
            held = sequences[index][start:stop]
            block[row, : len(held)] = held
        return block

    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return Part(np.arange(len(sequences)), lengths, load)


def mean_by_hand(sequence: npt.NDArray[np.float32], factor: int, step: int) -> list[float]:
    """Return one coarse step, from a loop over the steps of the sequence."""
    means = []
    for feature in range(SIZE):
        total, count = 0.0, 0
        for fine in range(step * factor, (step + 1) * factor):
            if fine < len(sequence):
                total += float(sequence[fine, feature])
                count += 1
        means.append(total / count if count else 0.0)
    return means


@settings(deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    factor=st.integers(2, 25),
    bounds=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    data=st.data(),
)
def test_every_step_is_the_mean_of_the_steps_that_are_there(
    lengths: list[int], factor: int, bounds: list[int], data: st.DataObject
) -> None:
    sequences, asked = draw_sequences(lengths), list[tuple[int, int]]()
    part = make_part(sequences, asked)
    coarse = coarsen_part(part, factor)
    assert coarse.lengths.tolist() == [len(range(0, length, factor)) for length in lengths]
    assert coarse.labels.tolist() == part.labels.tolist()
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=5))
    start, stop = bounds
    block = coarse.load(np.array(chosen, np.int64), start, stop)
    assert block.dtype == np.float32
    assert block.shape == (len(chosen), stop - start, SIZE)
    expected = [
        [mean_by_hand(sequences[each], factor, step) for step in range(start, stop)] for each in chosen
    ]
    np.testing.assert_allclose(block.reshape(-1), np.reshape(expected, -1), rtol=1e-7)
    ((first, last),) = asked
    needed = range(start * factor, min(stop * factor, max((lengths[each] for each in chosen), default=0)))
    assert last - first == len(needed)
    assert first == needed.start or not needed


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    factor=st.integers(1, 7),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
def test_slices_joined_are_the_whole(lengths: list[int], factor: int, cuts: list[int]) -> None:
    coarse, everyone = coarsen_part(make_part(draw_sequences(lengths)), factor), np.arange(len(lengths))
    steps = int(coarse.lengths.max())
    bounds = sorted([0, steps, *(min(cut, steps) for cut in cuts)])
    slices = [coarse.load(everyone, start, stop) for start, stop in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(slices, axis=1), coarse.load(everyone, 0, steps))


def test_coarsening_twice_is_coarsening_once_where_no_end_is_cut() -> None:
    part, everyone = make_part(draw_sequences([24, 12])), np.arange(2)
    twice, once = coarsen_part(coarsen_part(part, 2), 3), coarsen_part(part, 6)
    assert twice.lengths.tolist() == once.lengths.tolist() == [4, 2]
    np.testing.assert_allclose(twice.load(everyone, 0, 4), once.load(everyone, 0, 4), rtol=1e-6)


def test_factor_1_is_the_part_itself() -> None:
    part = make_part(draw_sequences([3]))
    assert coarsen_part(part, 1) is part


@pytest.mark.parametrize("factor", [0, -2])
def test_a_factor_below_1_is_an_error(factor: int) -> None:
    with pytest.raises(ValueError, match=f"factor is {factor}; give the steps of a mean"):
        coarsen_part(make_part(draw_sequences([3])), factor)


def test_steps_of_a_feature_store_are_coarsened(tmp_path: Path) -> None:
    clips = draw_sequences([7, 4, 5])
    store = FeatureStore.create(
        tmp_path / "store",
        clips=["a/0.avi", "b/1.avi", "a/2.avi"],
        class_names=["a", "b"],
        labels=[0, 1, 0],
        splits={"1": [1, 1, 2]},
        frames=7,
        feature_size=SIZE,
        options={},
    )
    for index, clip in enumerate(clips):
        store.write_clip(index, clip)
    train = open_dataset(tmp_path / "store").train
    block = coarsen_part(train, 3).load(np.arange(2), 1, 4)  # of 3 steps each: past the store's room of 7
    np.testing.assert_allclose(block[0, 0], clips[0][3:6].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(block[0, 1], clips[0][6], rtol=1e-6)
    np.testing.assert_allclose(block[1, 0], clips[1][3], rtol=1e-6)
    assert not block[1, 1:].any()
    assert not block[0, 2].any()
    padded = pad_part(train, 7, "zeros", np.full(SIZE, 2.0, np.float32))
    np.testing.assert_allclose(coarsen_part(padded, 3).load(np.array([1]), 2, 3), 2.0)
