"""What a data set holds, and samples of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import F, T, fill, make_store, many_classes

from seqbraid.data.contents import PARTS, contents_of_dataset, contents_of_store, table_of_parts
from seqbraid.data.dataset import open_dataset
from seqbraid.data.samples import evenly, sample_lines
from seqbraid.errors import DataError


def test_a_store_is_counted_by_part_and_class(tmp_path: Path) -> None:
    store = fill(make_store(tmp_path), [12, 3, 5, 4, 0, 7, -1, 2])
    contents = contents_of_store(store)
    assert {part: contents.count_by_class(part).tolist() for part in PARTS} == {
        "train": [2, 0],
        "test": [1, 2],
        "unused": [1, 0],
        "failed": [0, 1],
        "pending": [0, 1],
    }
    assert contents.true_lengths("test").tolist() == [5, 7, 2]
    assert contents.true_lengths().tolist() == [12, 3, 5, 4, 7, 2]
    assert table_of_parts(contents) == [
        ["train", "2", "3", "7.5", "12"],
        ["test", "3", "2", "5", "7"],
        ["unused", "1", "4", "4", "4"],
        ["failed", "1", "-", "-", "-"],
        ["pending", "1", "-", "-", "-"],
        ["all", "8", "2", "4.5", "12"],
    ]
    np.testing.assert_array_equal(contents.load(5), np.full((7, F), 5))


def test_another_split_counts_other_parts(tmp_path: Path) -> None:
    store = fill(make_store(tmp_path), [12] * 8)
    assert contents_of_store(store, "2").count_by_class("train").tolist() == [3, 1]
    with pytest.raises(DataError, match=r"no split '3'; it has 1, 2"):
        contents_of_store(store, "3")


def test_arrays_are_counted_too(tmp_path: Path) -> None:
    random, path = np.random.default_rng(0), tmp_path / "data.npz"
    np.savez(
        path,
        x_train=random.normal(size=(12, 6, 2)).astype(np.float32),
        y_train=np.arange(12) % 3,
        x_test=random.normal(size=(6, 6, 2)).astype(np.float32),
        y_test=np.arange(6) % 3,
        length_train=[6, 5, 4, 3, 2, 1] * 2,
        length_test=[1, 2, 3, 4, 5, 6],
    )
    contents = contents_of_dataset(open_dataset(path))
    assert contents.count_by_class("train").tolist() == [4, 4, 4]
    assert contents.count_by_class("test").tolist() == [2, 2, 2]
    assert table_of_parts(contents) == [
        ["train", "12", "1", "3.5", "6"],
        ["test", "6", "1", "3.5", "6"],
        ["all", "18", "1", "3.5", "6"],
    ]
    with np.load(path) as arrays:
        np.testing.assert_array_equal(contents.load(4), arrays["x_train"][4, :2])
        np.testing.assert_array_equal(contents.load(14), arrays["x_test"][2, :3])


@given(count=st.integers(0, 2000), most=st.integers(1, 300))
def test_numbers_are_picked_evenly(count: int, most: int) -> None:
    picked = evenly(count, most)
    assert len(picked) == min(count, most)
    gaps = np.diff(picked)
    if len(picked) > 1:
        assert (picked[0], picked[-1]) == (0, count - 1)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


def test_of_many_classes_and_channels_some_are_drawn_as_lines(tmp_path: Path) -> None:
    store = many_classes(tmp_path, 51, feature_size=28)
    lines = sample_lines(contents_of_store(store))
    assert lines.caption == "12 of 51 classes, evenly picked: one sequence each, 10 of 28 channels"
    labels = [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 50]
    assert [line.class_name for line in lines.sequences] == [store.class_names[label] for label in labels]
    for label, line in zip(labels, lines.sequences, strict=True):
        assert line.channels == list(range(0, 28, 3))
        np.testing.assert_array_equal(line.values, np.full((T - 2 * label % 3, 10), 2 * label))
