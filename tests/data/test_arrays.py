from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.data.arrays import read_arrays
from seqbraid.data.dataset import open_dataset
from seqbraid.errors import DataError


def make_arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(5, 4, 2)),
        "y_train": np.array([0, 1, 2, 0, 1]),
        "x_test": random.normal(size=(3, 6, 2)),
        "y_test": np.array([2, 1, 0]),
        **changes,
    }


def write_folder(folder: Path, arrays: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return folder


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_folder_gives_what_a_file_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64", "int8", ">f4"]))
    size = data.draw(st.integers(1, 3))
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        count, steps = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 6))
        x = random.integers(-100, 100, (count, steps, size)).astype(dtype)
        arrays[f"x_{part}"] = np.asfortranarray(x) if data.draw(st.booleans()) else x
        arrays[f"y_{part}"] = random.permutation(np.arange(count) % 2)
        if data.draw(st.booleans()):
            arrays[f"length_{part}"] = random.integers(1, steps + 1, count)
    np.savez(folder / "data.npz", **arrays)
    of_file = open_dataset(folder / "data.npz")
    of_folder = open_dataset(write_folder(folder / "data", arrays))
    assert of_folder.class_names == of_file.class_names == ["0", "1"]
    assert (of_folder.steps, of_folder.options) == (of_file.steps, of_file.options)
    start = data.draw(st.integers(0, of_file.steps))
    stop = data.draw(st.integers(start, of_file.steps))
    for part in ("train", "test"):
        mapped, loaded = getattr(of_folder, part), getattr(of_file, part)
        np.testing.assert_array_equal(mapped.labels, arrays[f"y_{part}"])
        np.testing.assert_array_equal(mapped.lengths, loaded.lengths)
        indices = random.permutation(len(mapped))
        expected = np.zeros((len(mapped), max(of_file.steps, 6), size), np.float32)
        for row, index in enumerate(indices):
            length = mapped.lengths[index]
            expected[row, :length] = arrays[f"x_{part}"][index, :length]
        for block in (mapped.load(indices, start, stop), loaded.load(indices, start, stop)):
            assert block.dtype == np.float32
            np.testing.assert_array_equal(block, expected[:, start:stop])


def test_subjects_and_names_come_along(tmp_path: Path) -> None:
    label = np.array(["walk", "sit", "stand"])
    subjects = {"subject_train": np.array([3, 3, 1, 7, 7]), "subject_test": np.array([2, 2, 9])}
    arrays = read_arrays(write_folder(tmp_path / "a", make_arrays(label=label, **subjects)))
    assert arrays.class_names == ["walk", "sit", "stand"]
    assert arrays.subjects == [3, 3, 1, 7, 7, 2, 2, 9]
    names = {"subject_train": np.array(list("aabcc")), "subject_test": np.array(["dora", "emil", "f"])}
    np.savez(tmp_path / "b.npz", **make_arrays(**names))
    assert read_arrays(tmp_path / "b.npz").subjects == ["a", "a", "b", "c", "c", "dora", "emil", "f"]
    np.savez(tmp_path / "c.npz", **make_arrays())
    assert read_arrays(tmp_path / "c.npz").subjects is None


@pytest.mark.parametrize("value", [np.nan, -np.inf, 2e30, -2e30])
def test_values_of_a_folder_are_checked_where_they_are_loaded(tmp_path: Path, value: float) -> None:
    arrays = make_arrays(length_train=np.array([4, 3, 1, 4, 2]))
    arrays["x_train"][4, 2] = value  # behind its length
    arrays["x_train"][3, 2, 1] = value
    train = open_dataset(write_folder(tmp_path, arrays)).train
    train.load(np.array([4, 3, 0]), 0, 2)
    train.load(np.array([4, 2, 0]), 0, 4)
    with pytest.raises(DataError, match=r"x_train holds nan, inf or values beyond 1e30 within sequence 3;"):
        train.load(np.array([4, 3, 0]), 2, 4)


def replaced(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_folder(folder, changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "y_test.npy").unlink(), "has no y_test; it holds x_test, x_train, y_train"),
        (replaced(x_train=np.zeros((5, 4))), r"x_train is float64 \(5, 4\); expected real numbers of shape"),
        (replaced(x_test=np.zeros((3, 4, 3))), "x_train has 2 features a step and x_test 3"),
        (replaced(y_train=np.zeros(5)), "y_train is float64"),
        (replaced(y_train=np.array([0, 1, -1, 0, 0])), "y_train holds -1; count the classes from 0"),
        (replaced(length_test=np.array([1, 7, 2])), "length_test holds 7; expected 1 to 6"),
        (replaced(length_test=np.array([1, 0, 2])), "length_test holds 0; expected 1 to 6"),
        (replaced(subject_train=np.arange(5)), "has no subject_test; give the subjects of both parts"),
        (replaced(subject_train=np.arange(4)), r"subject_train is int64 \(4,\); expected 5"),
        (replaced(subject_train=np.arange(5.0)), r"subject_train is float64 \(5,\); expected 5 whole"),
        (replaced(label=np.array(["one", "two"])), "label names 2 classes, but y holds 2"),
        (lambda folder: (folder / "x_test.npy").write_text("text"), r"x_test\.npy cannot be read"),
        (lambda folder: (folder / "x_test.npy").write_bytes(b""), r"x_test\.npy cannot be read"),
        (
            lambda folder: (folder / "x_test.npy").write_bytes((folder / "x_test.npy").read_bytes()[:-1]),
            r"x_test\.npy cannot be read",
        ),
        (
            lambda folder: np.savez((folder / "x_test.npy").open("wb"), x=np.zeros(3)),
            r"x_test\.npy is an archive",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    write_folder(tmp_path, make_arrays())
    change(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    write_folder(tmp_path, make_arrays())
    np.save(tmp_path / "label.npy", np.array(["a", None, "c"], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"label\.npy cannot be read"):
        open_dataset(tmp_path)
