"""Arrays on the disk that several processes fill: mapped for reading, written in place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from seqbraid.errors import DataError

__all__ = ["damaged_file", "map_array", "write_at"]


def map_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, np.dtype[Any]]:
    """Map the array in `path`, whose header and file size must both be those of `shape` and `dtype`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise damaged_file(path, "the file is missing") from None
    except (ValueError, EOFError) as error:
        raise damaged_file(
            path, f"{path.stat().st_size} bytes do not hold the array of its header"
        ) from error
    if not isinstance(array, np.memmap) or array.shape != shape or array.dtype != dtype:
        raise damaged_file(path, f"shape {array.shape} {array.dtype}; the header says {shape} {dtype}")
    if path.stat().st_size != array.offset + array.nbytes:
        raise damaged_file(
            path, f"{path.stat().st_size} bytes; its header says {array.offset + array.nbytes}"
        )
    return array


def damaged_file(path: Path, what: str) -> DataError:
    """Return the error that a file of a store is damaged."""
    return DataError(f"{path} is damaged ({what}); delete {path.parent} and run `seqbraid preprocess` again")


def write_at(path: Path, position: int, data: bytes) -> None:
    """Write `data` into an existing file; on return it is on the disk."""
    # O_DSYNC rather than a later fsync: it also keeps an NFS client from writing back whole pages, which
    # would undo what ranks on other machines wrote beside us.
    descriptor = os.open(path, os.O_WRONLY | os.O_DSYNC)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written
    except OSError as error:
        error.filename = str(path)  # which the system does not know of a descriptor
        raise
    finally:
        os.close(descriptor)
