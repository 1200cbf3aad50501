"""Sensor recordings and other labelled arrays into a feature store, shared over the ranks."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.continuing import redo_damaged
from seqbraid.comm import Communicator, on_rank_zero
from seqbraid.data.arrays import ArrayPart, LabelledArrays, is_array_folder, read_arrays
from seqbraid.data.store import FeatureStore
from seqbraid.data.uci_har import is_uci_har, read_uci_har
from seqbraid.errors import DataError
from seqbraid.progress import progress_bar

__all__ = ["is_sequence_source", "store_sequences"]

_logger = logging.getLogger("seqbraid.preprocess")

_BLOCK_BYTES = 2**22  # written at once, and lost where a job is killed


def is_sequence_source(path: Path) -> bool:
    """Return whether `path` is for `store_sequences`: UCI HAR, an `.npz` or `.zip` file, a folder of `.npy`.

    Looks at names alone, so that what is wrong with the content is said by who reads it.
    """
    if path.is_dir():
        return is_array_folder(path) or is_uci_har(path)
    return path.suffix.lower() in (".npz", ".zip")


def store_sequences(
    source: Path, out: Path, comm: Communicator, dtype: str = "float32", check: bool = False
) -> FeatureStore:
    """Turn the sequences of `source` into the feature store `out`, and return it.

    Collective over `comm`. `source` is UCI HAR (`read_uci_har`) or arrays (`read_arrays`); its training and
    test part become the store's split "official". The values are stored as they are, in `dtype`. A store that
    is there already, of the same sequences, is continued; with `check`, sequences in it that are damaged are
    stored again. Raises `DataError` where `source` is not of the right form, and where `out` was made of
    other sequences or with another dtype.
    """
    start = time.perf_counter()
    if not source.exists():
        raise DataError(f"{source} does not exist; expected UCI HAR, an .npz file or a folder of .npy files")
    of_uci_har = source.suffix.lower() == ".zip" or is_uci_har(source)
    arrays = read_uci_har(source) if of_uci_har else read_arrays(source)

    def begin() -> list[int]:
        store = _create_or_continue(source, out, arrays, dtype)
        if check:
            redo_damaged(store, "sequence")
        pending: list[int] = store.pending().tolist()
        return pending

    # Rank 0's list for all: a rank that looked later would miss what others have written by then.
    pending = on_rank_zero(comm, begin, "making the feature store")
    store = FeatureStore.open(out, require_complete=False)
    _logger.info(_opening(store, arrays, len(pending), comm.size))
    _write_blocks(store, arrays, np.array(pending, dtype=np.int64), comm)
    comm.barrier("storing the sequences")
    store.lengths = store.read_lengths()
    _logger.info(
        f"{len(pending)} sequences in {time.perf_counter() - start:.1f} s; "
        f"{int((store.lengths > 0).sum())} of {len(store)} sequences are in {out}"
    )
    return store


def _create_or_continue(source: Path, out: Path, arrays: LabelledArrays, dtype: str) -> FeatureStore:
    digest, place = _sha256(arrays), str(source.absolute())
    if (out / "store.json").exists():
        store = FeatureStore.open(out, require_complete=False)
        if store.options.get("source_sha256") != digest:
            raise DataError(f"{out} holds other features than {source}; choose another folder or delete it")
        if store.dtype.name != dtype:
            raise DataError(
                f"{out} was made with dtype {store.dtype.name}, now asked for {dtype}; "
                "choose another folder or delete it"
            )
        if store.source != place:
            store.update_header(source=place)
        return store
    parts = {"train": arrays.train, "test": arrays.test}
    return FeatureStore.create(
        out,
        clips=[f"{name}/{number:05d}" for name, part in parts.items() for number in range(len(part))],
        labels=[label for part in parts.values() for label in part.labels.tolist()],
        splits={"official": [1] * len(arrays.train) + [2] * len(arrays.test)},
        class_names=arrays.class_names,
        frames=arrays.room,
        feature_size=arrays.feature_size,
        options={**arrays.options, "source_sha256": digest},
        dtype=dtype,
        source=place,
        subjects=arrays.subjects,
    )


def _opening(store: FeatureStore, arrays: LabelledArrays, pending: int, ranks: int) -> str:
    there = "" if pending == len(store) else f", {len(store) - pending} there already"
    return (
        f"{len(store)} sequences of {len(store.class_names)} classes{there}: {len(arrays.train)} train, "
        f"{len(arrays.test)} test; {ranks} {'rank' if ranks == 1 else 'ranks'}"
    )


def _sha256(arrays: LabelledArrays) -> str:
    """Return what tells these sequences from others, however they are packed; checks every value besides."""
    described = (arrays.class_names, arrays.subjects, len(arrays.train), arrays.room, arrays.feature_size)
    digest = hashlib.sha256(repr(described).encode())
    for part in (arrays.train, arrays.test):
        digest.update(part.labels.tobytes() + part.lengths.tobytes())
        for indices in _blocks(np.arange(len(part)), arrays):
            digest.update(part.load(indices, 0, arrays.room).tobytes())
    return digest.hexdigest()


def _blocks(indices: npt.NDArray[np.int64], arrays: LabelledArrays) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rising `indices` into neighbours that are loaded and written at once."""
    rows = max(1, _BLOCK_BYTES // (4 * arrays.room * arrays.feature_size))
    for neighbours in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1):
        for first in range(0, len(neighbours), rows):
            yield neighbours[first : first + rows]


def _write_blocks(
    store: FeatureStore, arrays: LabelledArrays, pending: npt.NDArray[np.int64], comm: Communicator
) -> None:
    """Write every `comm.size`-th block of the sequences `pending`."""
    train = len(arrays.train)
    tasks: list[tuple[ArrayPart, int, npt.NDArray[np.int64]]] = [
        *((arrays.train, 0, block) for block in _blocks(pending[pending < train], arrays)),
        *((arrays.test, train, block) for block in _blocks(pending[pending >= train] - train, arrays)),
    ]
    with progress_bar(len(pending), "storing", "sequence", comm.rank) as bar:
        for part, offset, indices in tasks[comm.rank :: comm.size]:
            block = part.load(indices, 0, arrays.room)
            store.write_clips(offset + int(indices[0]), block, part.lengths[indices])
            if comm.rank == 0:
                bar.update(len(pending) - len(store.pending()) - bar.n)
