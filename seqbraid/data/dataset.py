"""Labelled sequences with a training and a test part, from a feature store or arrays."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.data.arrays import ArrayPart, LabelledArrays, is_array_folder, read_arrays
from seqbraid.data.store import FAILED, FeatureStore
from seqbraid.data.uci_har import is_uci_har
from seqbraid.errors import DataError

__all__ = ["Dataset", "Part", "open_dataset", "split_names"]

# load(indices (B,), start, stop) -> (B, stop - start, F) float32, a new array
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

    `steps` is the longest true length (steps past it hold nothing but padding), `room` the steps that the
    store or the arrays have room for, at least as many; `options` fixes what the features mean, so that a
    model can refuse others. `split` is the name of the store's split, None for arrays, and `split_sha256`
    {"clips", "marks"} tells whether another data set of these clips divides them alike.
    """

    train: Part
    test: Part
    class_names: list[str]
    steps: int
    room: int
    feature_size: int
    options: dict[str, Any]
    split: str | None = None
    split_sha256: dict[str, str] = field(default_factory=dict)


def open_dataset(path: str | Path, split: str | None = None) -> Dataset:
    """Open a feature store (folder), an `.npz` file, or a folder of `.npy` files as a data set.

    The file holds x_train (N, T, I), y_train (N,) 0 ... classes - 1, x_test, y_test; optionally length_train,
    length_test (N,) and label, the class names. A folder holds x_train.npy and so on, which are mapped: only
    the steps asked for are read. `split` names one of a store's splits (None: its default one). Raises
    `DataError` naming what is missing or does not fit.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected a feature store, an .npz file or a folder of .npy files"
        )
    if is_uci_har(path):
        raise DataError(
            f"{path} is UCI HAR as text; run `seqbraid preprocess {shlex.quote(str(path))} STORE` once, "
            "then give the STORE"
        )
    if path.is_dir() and not is_array_folder(path):
        return _from_store(FeatureStore.open(path), path, split)
    if split is not None:
        raise DataError(f"{path} has one split of its own; `split={split}` is for feature stores")
    return _from_arrays(read_arrays(path))


def split_names(path: Path) -> list[str]:
    """Return the names of the splits of the feature store in `path`; none where it holds arrays."""
    return FeatureStore.open(path).split_names if path.is_dir() and not is_array_folder(path) else []


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
    _, room, size = store.shape
    name = wanted or store.split
    digests = {"clips": _sha256(json.dumps(store.clips).encode()), "marks": _sha256(marks.tobytes())}
    return Dataset(train, test, store.class_names, steps, room, size, store.options, name, digests)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _from_arrays(arrays: LabelledArrays) -> Dataset:
    def part(held: ArrayPart) -> Part:
        return Part(held.labels, held.lengths, held.load)

    train, test = part(arrays.train), part(arrays.test)
    steps = int(max(train.lengths.max(), test.lengths.max()))
    return Dataset(train, test, arrays.class_names, steps, arrays.room, arrays.feature_size, arrays.options)
