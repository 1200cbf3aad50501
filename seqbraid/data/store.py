"""The feature store: one folder a data set, filled clip by clip and read by memory map.

store.json    what the features are: shape, classes, clips, labels, splits, options
features.npy  (N, T, F) float32, one block of rows a clip, zero past the clip's true length
lengths.npy   (N,) int32: -1 pending, 0 failed, else the number of frames kept
failed.json   why clips failed: {clip: reason}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError
from seqbraid.files import write_text

__all__ = ["FAILED", "FORMAT_VERSION", "PENDING", "FeatureStore"]

FORMAT_VERSION = 1
PENDING = -1
FAILED = 0

_HEADER, _FEATURES, _LENGTHS, _FAILURES = "store.json", "features.npy", "lengths.npy", "failed.json"


class FeatureStore:
    """N clips of at most T frames with F features each, in one folder.

    `features` (N, T, F) float32 memory map, read only; `lengths` (N,) int32; `labels` (N,) int64;
    `splits` (N,) int64 (1 train, 2 test, 0 unused); `class_names`, `clips` (`<class>/<file>`) and
    `options` (what the features mean). Made by `create` or `open`, not by itself.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder = folder
        self.class_names: list[str] = list(header["class_names"])
        self.clips: list[str] = list(header["clips"])
        self.labels: npt.NDArray[np.int64] = np.asarray(header["labels"], dtype=np.int64)
        self.splits: npt.NDArray[np.int64] = np.asarray(header["splits"], dtype=np.int64)
        self.options: dict[str, Any] = dict(header["options"])
        shape = tuple(header["features"])
        self.features = _map(folder / _FEATURES, shape, np.dtype("<f4"))
        self._lengths_offset = _map(folder / _LENGTHS, shape[:1], np.dtype("<i4")).offset
        self.lengths = self.read_lengths()

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        clips: Sequence[str],
        labels: Sequence[int],
        splits: Sequence[int],
        class_names: Sequence[str],
        frames: int,
        feature_size: int,
        options: Mapping[str, Any],
    ) -> FeatureStore:
        """Make an empty store for `clips`, every one pending; for one rank of a job only.

        `labels` and `splits` hold one integer a clip; `frames` is T, `feature_size` F; `options` goes
        through JSON. Raises `DataError` where the folder holds a store already, or files that are not ours.
        """
        folder = Path(folder)
        if not len(clips) == len(labels) == len(splits):
            raise ValueError(
                f"{len(clips)} clips, {len(labels)} labels and {len(splits)} splits; expected equal"
            )
        if not clips or frames < 1 or feature_size < 1:
            raise ValueError(
                f"a store of {len(clips)} clips x {frames} frames x {feature_size} features is empty"
            )
        if (folder / _HEADER).exists():
            raise DataError(f"{folder} holds a feature store already; choose another folder or delete it")
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; a feature store needs a folder of its own")
        folder.mkdir(parents=True, exist_ok=True)
        # What a job killed in the middle of `create` leaves behind may be made anew.
        others = {entry.name for entry in folder.iterdir()} - {_FEATURES, _LENGTHS, _HEADER + ".new"}
        if others:
            raise DataError(
                f"{folder} is no feature store but holds other files ({min(others)}); choose an empty folder"
            )
        shape = (len(clips), frames, feature_size)
        # Mapping a new file gives it its full size at once, as a hole that takes no room on the disk.
        np.lib.format.open_memmap(folder / _FEATURES, mode="w+", dtype=np.dtype("<f4"), shape=shape)
        np.save(folder / _LENGTHS, np.full(len(clips), PENDING, dtype=np.dtype("<i4")))
        header = {
            "format": "seqbraid features",
            "version": FORMAT_VERSION,
            "features": list(shape),
            "dtype": "float32",
            "options": dict(options),
            "class_names": list(class_names),
            "clips": list(clips),
            "labels": [int(label) for label in labels],
            "splits": [int(split) for split in splits],
        }
        # Last, so that a folder with a header always has its arrays.
        _write_json(folder / _HEADER, header)
        return cls(folder, header)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], require_complete: bool = True) -> FeatureStore:
        """Open the store in `folder`; with `require_complete` no clip may be pending.

        Raises `DataError` for a folder that is no store, a format version unknown here, damaged or
        truncated files, and an incomplete store.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / _HEADER).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{folder} is not a feature store (no {_HEADER}); "
                f"`seqbraid preprocess VIDEOS {folder}` makes one"
            ) from None
        except ValueError as error:
            raise _damaged(folder / _HEADER, f"not JSON: {error}") from error
        if not isinstance(header, dict) or "version" not in header:
            raise _damaged(folder / _HEADER, "it has no format version")
        if header["version"] != FORMAT_VERSION:
            raise DataError(
                f"{folder} has format version {header['version']!r}, this seqbraid reads {FORMAT_VERSION}; "
                "make the store anew with `seqbraid preprocess`, or use the seqbraid that made it"
            )
        try:
            store = cls(folder, header)
            clips, _, _ = header["features"]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise _damaged(folder / _HEADER, f"{type(error).__name__}: {error}") from error
        if not clips == len(store.clips) == len(store.labels) == len(store.splits):
            raise _damaged(folder / _HEADER, "clips, labels and splits are not as many as the features")
        pending = len(store.pending())
        if require_complete and pending:
            raise DataError(
                f"{folder} is incomplete: {pending} of {len(store)} clips are pending; "
                "running the same `seqbraid preprocess` command again continues it"
            )
        return store

    def __len__(self) -> int:
        return len(self.clips)

    def read_lengths(self) -> npt.NDArray[np.int32]:
        """Read the lengths (N,) int32 as they stand in the file, with what other ranks wrote meanwhile."""
        # A file opened anew, since network file systems check for others' writes at that moment.
        with (self.folder / _LENGTHS).open("rb") as file:
            file.seek(self._lengths_offset)
            return np.frombuffer(file.read(4 * len(self)), dtype=np.dtype("<i4")).astype(np.int32)

    def pending(self) -> npt.NDArray[np.int64]:
        """Return the indices of the clips that are pending in the file now."""
        return np.flatnonzero(self.read_lengths() == PENDING)

    def load(
        self, indices: Sequence[int] | npt.NDArray[Any], start: int, stop: int
    ) -> npt.NDArray[np.float32]:
        """Read steps start ... stop - 1 of the clips `indices` (B): (B, stop - start, F) float32.

        Only these steps are read from the disk. Raises `IndexError` for steps outside 0 ... T.
        """
        _, steps, size = self.features.shape
        if not 0 <= start <= stop <= steps:
            raise IndexError(f"steps {start} to {stop} of {steps} in {self.folder}")
        block = np.empty((len(indices), stop - start, size), dtype=np.float32)
        for row, index in enumerate(indices):
            block[row] = self.features[index, start:stop]
        return block

    def write_clip(self, index: int, features: npt.NDArray[np.float32]) -> None:
        """Put a clip's features (n, F), 1 <= n <= T, on the disk, and only then its length.

        Ranks may write different clips at the same time; a clip cut off by a kill stays pending.
        """
        _, steps, size = self.features.shape
        if features.ndim != 2 or features.shape[1] != size or not 1 <= len(features) <= steps:
            raise ValueError(f"features of shape {features.shape}; expected (1 ... {steps}, {size})")
        position = self.features.offset + self._index(index) * steps * size * 4
        _write_at(self.folder / _FEATURES, position, np.ascontiguousarray(features, dtype="<f4").tobytes())
        self._write_length(index, len(features))

    def mark_failed(self, index: int) -> None:
        """Record that the clip cannot be used."""
        self._write_length(index, FAILED)

    def retry_failed(self) -> None:
        """Make every failed clip pending again; for one rank, while no other writes."""
        for index in np.flatnonzero(self.read_lengths() == FAILED):
            self._write_length(int(index), PENDING)

    def write_failures(self, reasons: Mapping[str, str]) -> None:
        """Write why clips failed ({clip: reason}) beside the features, replacing what was there."""
        _write_json(self.folder / _FAILURES, dict(sorted(reasons.items())))

    def failures(self) -> dict[str, str]:
        """Read why clips failed: {clip: reason}; empty where nothing was written."""
        try:
            reasons: dict[str, str] = json.loads((self.folder / _FAILURES).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise _damaged(self.folder / _FAILURES, f"not JSON: {error}") from error
        return reasons

    def _write_length(self, index: int, length: int) -> None:
        position = self._lengths_offset + self._index(index) * 4
        _write_at(self.folder / _LENGTHS, position, np.array(length, dtype="<i4").tobytes())
        self.lengths[index] = length

    def _index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.folder}")
        return int(index)


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, np.dtype[Any]]:
    """Map the array in `path`, whose header and file size must both be those of `shape` and `dtype`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _damaged(path, "the file is missing") from None
    except (ValueError, EOFError) as error:
        raise _damaged(path, f"{path.stat().st_size} bytes do not hold the array of its header") from error
    if not isinstance(array, np.memmap) or array.shape != shape or array.dtype != dtype:
        raise _damaged(path, f"shape {array.shape} {array.dtype}; the header says {shape} {dtype}")
    if path.stat().st_size != array.offset + array.nbytes:
        raise _damaged(path, f"{path.stat().st_size} bytes; its header says {array.offset + array.nbytes}")
    return array


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged ({what}); delete {path.parent} and run `seqbraid preprocess` again")


def _write_at(path: Path, position: int, data: bytes) -> None:
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


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value) + "\n")
