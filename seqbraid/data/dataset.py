"""Labelled sequences with a training and a test part, from a feature store or an `.npz` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.data.store import FAILED, FeatureStore
from seqbraid.errors import DataError

__all__ = ["Dataset", "Part", "open_dataset"]

# load(indices (B,), start, stop) -> (B, stop - start, F) float32
Loader = Callable[[npt.NDArray[np.int64], int, int], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Part:
    """N sequences: `labels` (N,), true `lengths` (N,), and `load` for any steps of any of them."""

    labels: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    load: Loader

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test part over the same features and classes.

    `steps` is T, the longest true length (steps past it hold nothing but padding); `options` fixes what the
    features mean, so that a model can refuse others.
    """

    train: Part
    test: Part
    class_names: list[str]
    steps: int
    feature_size: int
    options: dict[str, Any]


def open_dataset(path: str | Path, split: str | None = None) -> Dataset:
    """Open a feature store (folder) or an `.npz` file as a data set.

    The file holds x_train (N, T, I), y_train (N,) 0 ... classes - 1, x_test, y_test; optionally length_train,
    length_test (N,) and label, the class names. `split` names one of a store's splits (None: its
    default one). Raises `DataError` naming what is missing or does not fit.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a feature store or an .npz file of arrays")
    if path.is_dir():
        return _from_store(FeatureStore.open(path), path, split)
    if split is not None:
        raise DataError(f"{path} has one split of its own; --split {split} is for feature stores")
    return _from_npz(path)


def _from_store(store: FeatureStore, path: Path, wanted: str | None) -> Dataset:
    usable, marks = store.lengths != FAILED, store.marks(wanted)

    def part(split: int, name: str) -> Part:
        chosen = np.flatnonzero(usable & (marks == split))
        if not len(chosen):
            raise DataError(
                f"{path} has no clip in the {name} part of split {wanted or store.split}; take another split"
            )

        def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
            return store.load(chosen[indices], start, stop)

        return Part(store.labels[chosen], store.lengths[chosen].astype(np.int64), load)

    train, test = part(1, "training"), part(2, "test")
    steps = int(max(train.lengths.max(), test.lengths.max()))
    return Dataset(train, test, store.class_names, steps, store.shape[2], store.options)


def _from_npz(path: Path) -> Dataset:
    arrays = _read_npz(path)
    missing = [name for name in ("x_train", "y_train", "x_test", "y_test") if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    train, test = _npz_part(path, arrays, "train"), _npz_part(path, arrays, "test")
    shapes = arrays["x_train"].shape, arrays["x_test"].shape
    if shapes[0][2] != shapes[1][2]:
        raise DataError(f"{path}: x_train has {shapes[0][2]} features a step and x_test {shapes[1][2]}")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    names = _class_names(path, arrays.get("label"), classes, len(train))
    steps = int(max(train.lengths.max(), test.lengths.max()))
    return Dataset(train, test, names, steps, shapes[0][2], {"source": "arrays", "features": shapes[0][2]})


def _class_names(path: Path, given: npt.NDArray[Any] | None, classes: int, sequences: int) -> list[str]:
    if given is not None:
        names = [str(name) for name in given.ravel()]
        if len(names) < classes:
            raise DataError(
                f"{path}: label names {len(names)} classes, but y holds {classes - 1}; "
                f"count the classes from 0 to {len(names) - 1}, or name all of them"
            )
    elif classes > max(2, sequences):
        raise DataError(
            f"{path}: y holds the class {classes - 1}, but there are only {sequences} training sequences; "
            "number the classes 0, 1, 2 and so on without gaps"
        )
    else:
        names = [str(number) for number in range(classes)]
    if len(names) < 2:
        raise DataError(f"{path} has one class ({names[0]}); a classifier needs at least two")
    return names


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    expected = (
        "expected an .npz of plain arrays, as numpy.savez writes them: x_train, y_train, x_test, y_test"
    )
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no .npz file, or is cut off; {expected}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {expected}") from error


def _npz_part(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> Part:
    x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
    if x.ndim != 3 or 0 in x.shape or x.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: x_{name} is {x.dtype} {x.shape}; expected real numbers of shape (N, T, I), N, T, I > 0"
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise DataError(
            f"{path}: y_{name} is {y.dtype} {y.shape}; expected {len(x)} whole numbers (an integer dtype), "
            "the class of each sequence"
        )
    if y.min() < 0:
        raise DataError(f"{path}: y_{name} holds {y.min()}; count the classes from 0")
    lengths = arrays.get(f"length_{name}", np.full(len(x), x.shape[1]))
    if lengths.shape != y.shape or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{path}: length_{name} is {lengths.dtype} {lengths.shape}; expected {len(x)} whole numbers"
        )
    if lengths.min() < 1 or lengths.max() > x.shape[1]:
        wrong = lengths.min() if lengths.min() < 1 else lengths.max()
        raise DataError(
            f"{path}: length_{name} holds {wrong}; expected 1 to {x.shape[1]}, the steps of x_{name}"
        )
    within = np.arange(x.shape[1]) < lengths[:, None]
    # False for nan too. Far enough below float32's largest that standardising stays finite.
    good = (np.abs(x) <= np.float32(1e30)).all(axis=2)
    bad = np.count_nonzero(~good & within)
    if bad:
        raise DataError(
            f"{path}: x_{name} holds nan, inf or values beyond 1e30 within {bad} "
            f"{'step' if bad == 1 else 'steps'}; remove or replace them"
        )

    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        # Zeros past each true length, whatever lies there; one part may have fewer steps than the other.
        block = np.zeros((len(indices), stop - start, x.shape[2]), dtype=np.float32)
        held = x[indices, start:stop]
        block[:, : held.shape[1]] = held
        block[np.arange(start, stop) >= lengths[indices, None]] = 0.0
        return block

    return Part(y.astype(np.int64), lengths.astype(np.int64), load)
