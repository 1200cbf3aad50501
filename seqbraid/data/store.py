"""The feature store: one folder a data set, filled sequence by sequence and read in slices of time.

store.json     what the features are: shape, classes, clips, labels, splits, options; behind its sha256
features.npy   (N, T, F) float32 or float16, one block of rows a clip, zero past the clip's true length
lengths.npy    (N,) int32: -1 pending, 0 failed, else the number of steps kept
checksums.npy  (N,) uint32, CRC-32 of each clip's number, length and features
failed.json    why clips failed: {clip: reason}
"""

from __future__ import annotations

import json
import os
import struct
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.data.disk import damaged_file, map_array, write_at
from seqbraid.data.store_header import (
    FORMAT_VERSION,
    HEADER,
    read_header,
    require_one_value_a_clip,
    write_header,
)
from seqbraid.errors import DataError
from seqbraid.files import write_text
from seqbraid.options.extraction import DTYPES

__all__ = ["DTYPES", "FAILED", "FORMAT_VERSION", "PENDING", "FeatureStore"]

PENDING = -1
FAILED = 0

_FEATURES, _LENGTHS, _CHECKSUMS = "features.npy", "lengths.npy", "checksums.npy"
_FAILURES = "failed.json"


class FeatureStore:
    """N clips (or other sequences) of at most T steps with F features each, in one folder.

    `shape` (N, T, F) and `dtype` of the features; `lengths` (N,) int32; `labels` (N,) int64; `class_names`,
    `clips` (a name each) and `options` (what the features mean). `split_names`, of which `split` is the one
    taken unless another is asked for, and `splits` (N,) its marks: 1 train, 2 test, 0 unused. `source`: where
    the clips came from, None if unknown; `subjects`: who each one is of, None if unknown. Made by `create` or
    `open`, not by itself.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder = folder
        self._header = dict(header)
        self.class_names: list[str] = list(header["class_names"])
        self.clips: list[str] = list(header["clips"])
        self.labels: npt.NDArray[np.int64] = np.asarray(header["labels"], dtype=np.int64)
        self.split_names: list[str] = list(header["splits"])
        self.split: str = header["split"]
        self.splits = self.marks()
        self.options: dict[str, Any] = dict(header["options"])
        self.source: str | None = header["source"]
        self.subjects: list[Any] | None = header["subjects"]
        clips, steps, size = header["features"]
        self.shape: tuple[int, int, int] = (clips, steps, size)
        if header["dtype"] not in DTYPES:
            raise ValueError(f"dtype {header['dtype']!r}")
        self.dtype = np.dtype(header["dtype"]).newbyteorder("<")
        self._features_offset = map_array(folder / _FEATURES, self.shape, self.dtype).offset
        self._lengths_offset = map_array(folder / _LENGTHS, (clips,), np.dtype("<i4")).offset
        self._checksums_offset = map_array(folder / _CHECKSUMS, (clips,), np.dtype("<u4")).offset
        self._descriptor = os.open(folder / _FEATURES, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        if hasattr(os, "posix_fadvise"):
            # No reading ahead: a rank that takes a part of each sequence would read what other ranks take.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self.lengths = self.read_lengths()

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        clips: Sequence[str],
        labels: Sequence[int],
        splits: Mapping[str, Sequence[int]],
        class_names: Sequence[str],
        frames: int,
        feature_size: int,
        options: Mapping[str, Any],
        dtype: str = "float32",
        split: str | None = None,
        source: str | None = None,
        subjects: Sequence[Any] | None = None,
    ) -> FeatureStore:
        """Make an empty store for `clips`, every one pending; for one rank of a job only.

        `labels`, each of the `splits` ({name: marks}) and `subjects` hold one value a clip; `split` is the
        default one (None: the first). `frames` is T, `feature_size` F; `options` goes through JSON. Raises
        `DataError` where the folder holds a store already, or files that are not ours.
        """
        folder = Path(folder)
        header = {
            "format": "seqbraid features",
            "version": FORMAT_VERSION,
            "features": [len(clips), frames, feature_size],
            "dtype": dtype,
            "options": dict(options),
            "source": source,
            "class_names": list(class_names),
            "clips": list(clips),
            "labels": [int(label) for label in labels],
            "subjects": None if subjects is None else list(subjects),
            "splits": {name: [int(mark) for mark in marks] for name, marks in splits.items()},
            "split": next(iter(splits), None) if split is None else split,
        }
        if not clips or frames < 1 or feature_size < 1:
            raise ValueError(
                f"a store of {len(clips)} clips x {frames} frames x {feature_size} features is empty"
            )
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        require_one_value_a_clip(header)
        if (folder / HEADER).exists():
            raise DataError(f"{folder} holds a feature store already; choose another folder or delete it")
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; a feature store needs a folder of its own")
        folder.mkdir(parents=True, exist_ok=True)
        # What a job killed in the middle of `create` leaves behind may be made anew.
        ours = {_FEATURES, _LENGTHS, _CHECKSUMS, HEADER + ".new"}
        others = {entry.name for entry in folder.iterdir()} - ours
        if others:
            raise DataError(
                f"{folder} is no feature store but holds other files ({min(others)}); choose an empty folder"
            )
        # Mapping a new file gives it its full size at once, as a hole that takes no room on the disk.
        np.lib.format.open_memmap(
            folder / _FEATURES,
            mode="w+",
            dtype=np.dtype(dtype).newbyteorder("<"),
            shape=(len(clips), frames, feature_size),
        )
        np.save(folder / _LENGTHS, np.full(len(clips), PENDING, dtype=np.dtype("<i4")))
        np.save(folder / _CHECKSUMS, np.zeros(len(clips), dtype=np.dtype("<u4")))
        # Last, so that a folder with a header always has its arrays.
        write_header(folder, header)
        return cls(folder, header)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], require_complete: bool = True) -> FeatureStore:
        """Open the store in `folder`; with `require_complete` no clip may be pending.

        Raises `DataError` for a folder that is no store, a format version unknown here, damaged or
        truncated files, and an incomplete store.
        """
        folder = Path(folder)
        header = read_header(folder)
        try:
            require_one_value_a_clip(header)
            store = cls(folder, header)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise damaged_file(folder / HEADER, f"{type(error).__name__}: {error}") from error
        pending = len(store.pending())
        if require_complete and pending:
            raise DataError(
                f"{folder} is incomplete: {pending} of {len(store)} clips are pending; "
                "running the same `seqbraid preprocess` command again continues it"
            )
        return store

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def features(self) -> np.memmap[Any, np.dtype[Any]]:
        """A read-only memory map of all features (N, T, F), in the type that they are stored in."""
        return map_array(self.folder / _FEATURES, self.shape, self.dtype)

    def marks(self, split: str | None = None) -> npt.NDArray[np.int64]:
        """Return the marks (N,) of a split (None: the default one): 1 train, 2 test, 0 unused.

        Raises `DataError` naming the splits there are for any other name.
        """
        name = self.split if split is None else split
        if name not in self.split_names:
            raise DataError(f"{self.folder} has no split {name!r}; it has {', '.join(self.split_names)}")
        return np.asarray(self._header["splits"][name], dtype=np.int64)

    def splits_by_name(self) -> dict[str, list[int]]:
        """Return the marks of every split: {name: marks}."""
        return {name: list(marks) for name, marks in self._header["splits"].items()}

    def update_header(self, **changes: Any) -> None:
        """Replace `splits`, `split` or `source` in the header; for one rank, while no other opens the store.

        What the features themselves depend on stays as it is.
        """
        unknown = changes.keys() - {"splits", "split", "source"}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} of a store cannot be changed")
        header = self._header | changes
        require_one_value_a_clip(header)
        write_header(self.folder, header)
        self._header = header
        self.split_names, self.split, self.source = list(header["splits"]), header["split"], header["source"]
        self.splits = self.marks()

    def read_lengths(self) -> npt.NDArray[np.int32]:
        """Read the lengths (N,) int32 as they stand in the file, with what other ranks wrote meanwhile."""
        return self._read_column(_LENGTHS, self._lengths_offset, "<i4").astype(np.int32)

    def pending(self) -> npt.NDArray[np.int64]:
        """Return the indices of the clips that are pending in the file now."""
        return np.flatnonzero(self.read_lengths() == PENDING)

    def load(
        self, indices: Sequence[int] | npt.NDArray[Any], start: int, stop: int
    ) -> npt.NDArray[np.float32]:
        """Read steps start ... stop - 1 of the clips `indices` (B): (B, stop - start, F) float32.

        Only these steps are read from the disk, and none past a clip's true length: zeros stand there. Raises
        `IndexError` for steps outside 0 ... T.
        """
        _, steps, size = self.shape
        if not 0 <= start <= stop <= steps:
            raise IndexError(f"steps {start} to {stop} of {steps} in {self.folder}")
        block = np.zeros((len(indices), stop - start, size), dtype=np.float32)
        for row, index in enumerate(indices):
            held = min(stop, int(self.lengths[index])) - start
            if held > 0:
                data = self._read_steps(self._index(index), start, held)
                block[row, :held] = np.frombuffer(data, dtype=self.dtype).reshape(held, size)
        return block

    def write_clip(self, index: int, features: npt.NDArray[np.floating[Any]]) -> None:
        """Put a clip's features (n, F), 1 <= n <= T, on the disk, and only then its length.

        Ranks may write different clips at the same time; a clip cut off by a kill stays pending. Raises
        `DataError` for features too large for the store's type.
        """
        self.write_clips(index, features[np.newaxis], np.array([len(features)]))

    def write_clips(
        self, first: int, features: npt.NDArray[np.floating[Any]], lengths: npt.NDArray[np.integer[Any]]
    ) -> None:
        """Put the features (n, up to T, F) of clips first ... first + n - 1 on the disk, then `lengths` (n,).

        As `write_clip`, but waiting for the disk once for all of them. What `features` holds past a clip's
        length is not stored.
        """
        _, steps, size = self.shape
        if features.ndim != 3 or features.shape[2] != size or not 1 <= features.shape[1] <= steps:
            raise ValueError(
                f"features of shape {features.shape[1:]} a clip; expected (1 ... {steps}, {size})"
            )
        count, held = len(features), features.shape[1]
        if lengths.shape != (count,) or not count or lengths.min() < 1 or lengths.max() > held:
            raise ValueError(f"lengths {lengths.tolist()} for {count} clips; expected 1 ... {held}")
        first = self._index(first)
        self._index(first + count - 1)
        stored = np.zeros((count, steps, size), dtype=self.dtype)
        checksums = np.zeros(count, dtype="<u4")
        for row, length in enumerate(lengths.tolist()):
            with np.errstate(over="ignore"):
                stored[row, :length] = features[row, :length]
            self._require_fit(first + row, features[row, :length], stored[row, :length])
            checksums[row] = _checksum(first + row, length, stored[row, :length].tobytes())
        # Nothing behind the last clip's true length: a hole takes no room on the disk.
        data = stored.reshape(-1, size)[: (count - 1) * steps + lengths[-1]].tobytes()
        write_at(self.folder / _FEATURES, self._features_offset + first * self._clip_bytes, data)
        write_at(self.folder / _CHECKSUMS, self._checksums_offset + 4 * first, checksums.tobytes())
        self._write_lengths(first, lengths)

    def mark_failed(self, index: int) -> None:
        """Record that the clip cannot be used."""
        self._write_lengths(self._index(index), np.array([FAILED]))

    def mark_pending(self, indices: Sequence[int] | npt.NDArray[Any]) -> None:
        """Make clips pending again; for one rank, while no other writes."""
        for index in indices:
            self._write_lengths(self._index(index), np.array([PENDING]))

    def failed(self) -> npt.NDArray[np.int64]:
        """Return the indices of the clips that are marked as failed in the file now."""
        return np.flatnonzero(self.read_lengths() == FAILED)

    def damaged(self, progress: Callable[[int], object] | None = None) -> list[int]:
        """Read every clip that is done and return the indices of those whose checksum is another.

        `progress(1)` is called after each clip.
        """
        checksums = self._read_column(_CHECKSUMS, self._checksums_offset, "<u4")
        wrong = []
        for index, length in enumerate(self.read_lengths().tolist()):
            if length > self.shape[1]:
                wrong.append(index)
            elif length > 0:
                data = self._read_steps(index, 0, length)
                if _checksum(index, length, data) != checksums[index]:
                    wrong.append(index)
            if progress is not None:
                progress(1)
        return wrong

    def write_failures(self, reasons: Mapping[str, str]) -> None:
        """Write why clips failed ({clip: reason}) beside the features, replacing what was there."""
        write_text(self.folder / _FAILURES, json.dumps(dict(sorted(reasons.items()))) + "\n")

    def failures(self) -> dict[str, str]:
        """Read why clips failed: {clip: reason}; empty where nothing was written."""
        try:
            reasons: dict[str, str] = json.loads((self.folder / _FAILURES).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise damaged_file(self.folder / _FAILURES, f"not JSON: {error}") from error
        return reasons

    @property
    def _clip_bytes(self) -> int:
        return int(self.shape[1] * self.shape[2] * self.dtype.itemsize)

    def _read_steps(self, index: int, start: int, count: int) -> bytes:
        size = self.shape[2] * self.dtype.itemsize
        position = self._features_offset + index * self._clip_bytes + start * size
        parts, wanted = [], count * size
        while wanted:
            # One call reads at most two gigabytes.
            part = os.pread(self._descriptor, wanted, position)
            if not part:
                raise damaged_file(self.folder / _FEATURES, f"it ends within {self.clips[index]}")
            parts.append(part)
            position, wanted = position + len(part), wanted - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_column(self, name: str, offset: int, dtype: str) -> npt.NDArray[Any]:
        # A file opened anew, since network file systems check for others' writes at that moment.
        with (self.folder / name).open("rb") as file:
            file.seek(offset)
            return np.frombuffer(file.read(4 * len(self)), dtype=np.dtype(dtype))

    def _require_fit(
        self, index: int, features: npt.NDArray[Any], stored: npt.NDArray[np.floating[Any]]
    ) -> None:
        if not np.array_equal(np.isfinite(stored), np.isfinite(features)):
            raise DataError(
                f"{self.clips[index]}: features up to {np.abs(features).max():.3g} do not fit "
                f"{self.dtype.name} (at most {np.finfo(self.dtype).max:.0f}); make the store with float32"
            )

    def _write_lengths(self, first: int, lengths: npt.NDArray[np.integer[Any]]) -> None:
        write_at(self.folder / _LENGTHS, self._lengths_offset + 4 * first, lengths.astype("<i4").tobytes())
        self.lengths[first : first + len(lengths)] = lengths

    def _index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.folder}")
        return int(index)


def _checksum(index: int, length: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<qq", index, length)))
