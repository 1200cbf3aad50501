from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqbraid.data.dataset import open_dataset
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(5, 4, 2)),
        "y_train": np.array([0, 1, 2, 0, 1]),
        "x_test": random.normal(size=(3, 6, 2)),
        "y_test": np.array([2, 1, 0]),
        **changes,
    }


def test_arrays_are_read_by_sequence_and_step(tmp_path: Path) -> None:
    given = arrays(length_train=np.array([4, 3, 1, 4, 2]), label=np.array(["walk", "sit", "stand"]))
    np.savez(tmp_path / "data.npz", **given)
    dataset = open_dataset(tmp_path / "data.npz")
    assert dataset.class_names == ["walk", "sit", "stand"]
    assert (len(dataset.train), len(dataset.test), dataset.feature_size) == (5, 3, 2)
    assert dataset.steps == 6  # the longest of both parts
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1]
    assert dataset.train.lengths.tolist() == [4, 3, 1, 4, 2]
    assert dataset.test.lengths.tolist() == [6, 6, 6]
    block = dataset.train.load(np.array([3, 1]), 1, 3)
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block, given["x_train"][[3, 1], 1:3].astype(np.float32))


def test_steps_that_one_part_lacks_are_padding(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "data.npz", **given)
    train = open_dataset(tmp_path / "data.npz").train
    block = train.load(np.arange(5), 3, 6)
    np.testing.assert_array_equal(block[:, 0], given["x_train"][:, 3].astype(np.float32))
    assert not block[:, 1:].any()
    assert train.load(np.arange(5), 4, 6).shape == (5, 2, 2)


def test_steps_behind_the_longest_sequence_do_not_count(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays(length_train=[1, 2, 3, 2, 1], length_test=[2, 2, 2]))
    assert open_dataset(tmp_path / "data.npz").steps == 3


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint16", ">f4"])
def test_any_real_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    x = np.arange(40).reshape(5, 4, 2).astype(dtype)
    np.savez(tmp_path / "data.npz", **arrays(x_train=x))
    block = open_dataset(tmp_path / "data.npz").train.load(np.arange(5), 0, 4)
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block, x.astype(np.float32))


def test_nan_is_refused_within_a_sequence_only(tmp_path: Path) -> None:
    given = arrays(length_train=np.array([4, 3, 1, 4, 2]))
    given["x_train"][2, 1] = np.nan
    np.savez(tmp_path / "data.npz", **given)
    block = open_dataset(tmp_path / "data.npz").train.load(np.arange(5), 0, 4)
    np.testing.assert_array_equal(block[2, 0], given["x_train"][2, 0].astype(np.float32))
    assert not block[2, 1:].any()
    given["x_train"][2, 0, 1] = np.nan
    np.savez(tmp_path / "data.npz", **given)
    with pytest.raises(DataError, match=r"x_train holds nan, inf or values beyond 1e30 within sequence 2;"):
        open_dataset(tmp_path / "data.npz")


def test_a_store_gives_its_good_clips_by_split(tmp_path: Path) -> None:
    store = FeatureStore.create(
        tmp_path / "store",
        clips=[f"{'ab'[index % 2]}/{index}.avi" for index in range(7)],
        labels=[index % 2 for index in range(7)],
        splits={"1": [1, 2, 1, 0, 2, 1, 1], "2": [2, 1, 1, 2, 0, 0, 1]},
        class_names=["a", "b"],
        frames=5,
        feature_size=3,
        options={"backbone": "resnet18"},
    )
    random = np.random.default_rng(0)
    features = {
        index: random.normal(size=(length, 3)).astype(np.float32)
        for index, length in ((0, 2), (1, 3), (3, 5), (4, 1), (5, 4), (6, 1))
    }
    for index, values in features.items():
        store.write_clip(index, values)
    with pytest.raises(DataError, match="incomplete"):
        open_dataset(tmp_path / "store")
    store.mark_failed(2)

    dataset = open_dataset(tmp_path / "store")
    # Clip 2 failed, and clip 3, the longest, is in no part.
    assert dataset.train.labels.tolist() == [0, 1, 0]
    assert dataset.train.lengths.tolist() == [2, 4, 1]
    assert dataset.test.labels.tolist() == [1, 0]
    assert dataset.test.lengths.tolist() == [3, 1]
    assert (dataset.steps, dataset.feature_size, dataset.class_names) == (4, 3, ["a", "b"])
    assert dataset.options == {"backbone": "resnet18"}
    block = dataset.train.load(np.array([1, 0]), 1, 4)
    np.testing.assert_array_equal(block[0], features[5][1:4])
    np.testing.assert_array_equal(block[1, :1], features[0][1:2])
    assert not block[1, 1:].any()

    second = open_dataset(tmp_path / "store", split="2")
    assert second.train.lengths.tolist() == [3, 1]
    assert second.test.lengths.tolist() == [2, 5]
    assert second.steps == 5
    with pytest.raises(DataError, match="has no split '3'; it has 1, 2"):
        open_dataset(tmp_path / "store", split="3")


def test_a_part_without_clips_is_named(tmp_path: Path) -> None:
    store = FeatureStore.create(
        tmp_path / "store",
        clips=["a/0.avi", "b/0.avi"],
        labels=[0, 1],
        splits={"1": [1, 0]},
        class_names=["a", "b"],
        frames=1,
        feature_size=1,
        options={},
    )
    for index in range(2):
        store.write_clip(index, np.ones((1, 1), np.float32))
    with pytest.raises(DataError, match="has no clip in the test part of split 1"):
        open_dataset(tmp_path / "store")
