"""One sequence that belongs to no data set: an array, or a file with one, checked before it is used."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbraid.data.arrays import LARGEST
from seqbraid.errors import DataError

__all__ = ["as_sequence", "read_sequence"]


def read_sequence(path: Path, feature_size: int) -> npt.NDArray[np.float32]:
    """Return the sequence (T, F) in a .npy file; raises `DataError` for any other content."""
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a .npy array of plain numbers, which this run was trained on"
        ) from error
    return as_sequence(array, feature_size, str(path))


def as_sequence(array: object, feature_size: int, name: str) -> npt.NDArray[np.float32]:
    """Return real numbers of shape (T, `feature_size`) as float32; T is at least 1.

    Raises `DataError` that calls the array `name` for anything else, and for nan, inf and values beyond 1e30.
    """
    if isinstance(array, np.lib.npyio.NpzFile):
        raise DataError(f"{name} is an archive; expected real numbers of shape (T, {feature_size})")
    values = np.asarray(array)
    if (
        values.ndim != 2
        or values.shape[1] != feature_size
        or not len(values)
        or values.dtype.kind not in "iuf"
    ):
        raise DataError(
            f"{name} is {values.dtype} {values.shape}; expected real numbers of shape (T, {feature_size})"
        )
    with np.errstate(over="ignore"):  # beyond float32's range is beyond 1e30, which is refused
        values = values.astype(np.float32)
    if not (np.abs(values) <= LARGEST).all():
        raise DataError(f"{name} holds nan, inf or values beyond 1e30")
    return values
