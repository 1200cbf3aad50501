"""Labelled sequences as arrays, a training and a test part: an `.npz` file, or a folder of `.npy` files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError

__all__ = ["LARGEST", "ArrayPart", "LabelledArrays", "is_array_folder", "read_arrays"]

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_OPTIONAL = ("length_train", "length_test", "subject_train", "subject_test", "label")

# Far enough below float32's largest that standardising stays finite.
LARGEST = 1e30
_CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class ArrayPart:
    """N sequences: `x` (N, T, F) of any real type, `labels` and true `lengths` (N,) int64, `subjects`.

    `x` may be a map of a file. `subjects`, who each sequence is of, holds (N,) whole numbers or names, or is
    None where unknown. `name` is what errors call `x`.
    """

    name: str
    x: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    subjects: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return steps start ... stop - 1 of the sequences `indices` (B): (B, stop - start, F) float32.

        Zeros stand past each true length, whatever `x` holds there. Raises `DataError` where a mapped `x`
        holds nan, inf or values beyond 1e30 among these steps.
        """
        block = np.zeros((len(indices), stop - start, self.x.shape[2]), dtype=np.float32)
        with np.errstate(over="ignore"):  # beyond float32's range is beyond 1e30, which is refused
            held = self.x[indices, start:stop]
            block[:, : held.shape[1]] = held  # one part may have fewer steps than the other
        block[np.arange(start, stop) >= self.lengths[indices, None]] = 0.0
        if isinstance(self.x, np.memmap):
            self._require_values(block, indices)
        return block

    def require_values(self) -> None:
        """Raise `DataError` where `x` holds nan, inf or values beyond 1e30 within the true lengths."""
        steps = self.x.shape[1]
        rows = max(1, _CHUNK_BYTES // (4 * steps * self.x.shape[2]))
        for first in range(0, len(self), rows):
            indices = np.arange(first, min(first + rows, len(self)))
            self._require_values(self.load(indices, 0, steps), indices)

    def _require_values(self, block: npt.NDArray[np.float32], indices: npt.NDArray[np.int64]) -> None:
        # False for nan too. No array is made as large as the block, which is checked at every load of a map.
        if block.size == 0 or (block.max() <= LARGEST and block.min() >= -LARGEST):
            return
        good = (np.abs(block) <= LARGEST).all(axis=(1, 2))
        raise DataError(
            f"{self.name} holds nan, inf or values beyond 1e30 within sequence {indices[~good][0]}; "
            "remove or replace them"
        )


@dataclass(frozen=True)
class LabelledArrays:
    """A training and a test part over the same F features and classes; `options`: what the features mean."""

    train: ArrayPart
    test: ArrayPart
    class_names: list[str]
    options: dict[str, Any]

    @property
    def feature_size(self) -> int:
        """F, the features of each step."""
        return int(self.train.x.shape[2])

    @property
    def room(self) -> int:
        """T, the steps that the longer part has room for."""
        return int(max(self.train.x.shape[1], self.test.x.shape[1]))

    @property
    def subjects(self) -> list[Any] | None:
        """Who each sequence is of, those of the training part first; None where unknown."""
        if self.train.subjects is None or self.test.subjects is None:
            return None
        return [*self.train.subjects.tolist(), *self.test.subjects.tolist()]


def is_array_folder(path: Path) -> bool:
    """Return whether `path` is a folder that holds any of the required arrays as an `.npy` file."""
    return any((path / f"{name}.npy").is_file() for name in _REQUIRED)


def read_arrays(path: Path) -> LabelledArrays:
    """Read an `.npz` file, or map a folder of `.npy` files with the same names.

    The names: x_train (N, T, F), y_train (N,) 0 ... classes - 1, x_test, y_test; optionally length_train,
    length_test (N,), subject_train, subject_test (N,) and label, the class names. The values of a folder's x
    are not read here, but checked as they are loaded. Raises `DataError` naming what is missing or wrong.
    """
    arrays = _map_folder(path) if path.is_dir() else _read_npz(path)
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    train, test = _part(path, arrays, "train"), _part(path, arrays, "test")
    if (train.subjects is None) != (test.subjects is None):
        lacking = "subject_train" if train.subjects is None else "subject_test"
        raise DataError(f"{path} has no {lacking}; give the subjects of both parts, or of none")
    sizes = train.x.shape[2], test.x.shape[2]
    if sizes[0] != sizes[1]:
        raise DataError(f"{path}: x_train has {sizes[0]} features a step and x_test {sizes[1]}")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    names = _class_names(path, arrays.get("label"), classes, len(train))
    return LabelledArrays(train, test, names, {"source": "arrays", "features": sizes[0]})


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


def _map_folder(folder: Path) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        path = folder / f"{name}.npy"
        if not path.is_file():
            continue
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(
                f"{path} cannot be read ({error}); expected one plain array, as numpy.save writes it"
            ) from error
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path} is an archive; expected one plain array, as numpy.save writes it")
        arrays[name] = array
    return arrays


def _part(path: Path, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> ArrayPart:
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
    subjects = arrays.get(f"subject_{name}")
    if subjects is not None and (subjects.shape != y.shape or subjects.dtype.kind not in "iuU"):
        raise DataError(
            f"{path}: subject_{name} is {subjects.dtype} {subjects.shape}; expected {len(x)} whole numbers "
            "or names, who each sequence is of"
        )
    labels, lengths = np.array(y, dtype=np.int64), np.array(lengths, dtype=np.int64)
    part = ArrayPart(f"{path}: x_{name}", x, labels, lengths, subjects)
    if not isinstance(x, np.memmap):
        part.require_values()
    return part


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
