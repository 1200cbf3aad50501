"""What a data set holds, in words: a feature store, complete or not, or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqbraid.data.contents import PARTS, contents_of_store
from seqbraid.data.dataset import open_dataset
from seqbraid.data.splits import TEST, TRAIN
from seqbraid.data.store import FAILED, PENDING, FeatureStore
from seqbraid.data.store_header import HEADER

__all__ = ["describe_data"]

_LISTED = 10


def describe_data(path: Path) -> list[tuple[str, str]]:
    """Return names and values of what `path` holds; raises `DataError` where it is no data set."""
    if (path / HEADER).is_file():
        return _store(FeatureStore.open(path, require_complete=False))
    dataset = open_dataset(path)
    return [
        ("sequences", f"{len(dataset.train)} train, {len(dataset.test)} test"),
        ("steps", f"up to {dataset.steps}"),
        ("features", str(dataset.feature_size)),
        ("classes", ", ".join(dataset.class_names)),
    ]


def _store(store: FeatureStore) -> list[tuple[str, str]]:
    def counts(split: str, parts: tuple[str, ...]) -> str:
        contents = contents_of_store(store, split)
        return ", ".join(f"{contents.count(part)} {part}" for part in parts)

    lengths = store.lengths[store.lengths > 0]
    rows = [
        ("clips", f"{len(store)} ({counts(store.split, PARTS)})"),
        ("features", f"{store.shape[2]} a frame, room for {store.shape[1]} frames a clip"),
        ("dtype", store.dtype.name),
        ("size on disk", _size_on_disk(store.folder)),
        ("true lengths", f"{lengths.min()} to {lengths.max()}" if len(lengths) else "none yet"),
        ("classes", ", ".join(store.class_names)),
    ]
    for name in store.split_names:
        default = "; the default" if name == store.split else ""
        rows.append((f"split {name}", counts(name, ("train", "test", "unused")) + default))
    if store.subjects is not None:
        rows.append(("subjects", _subjects(store, store.subjects)))
    rows.append(("source", store.source or "unknown"))
    rows += [(name, str(value)) for name, value in store.options.items()]
    pending = int((store.lengths == PENDING).sum())
    if pending:
        rows.append(("pending", f"{pending}; the same `seqbraid preprocess` command again does them"))
    return rows + _failed(store)


def _size_on_disk(folder: Path) -> str:
    # Blocks in use, since what no clip was written to yet takes no room. What is being written may be gone
    # a moment later.
    paths = [path for path in folder.iterdir() if path.suffix != ".new"]
    size = float(sum(512 * path.stat().st_blocks for path in paths))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _subjects(store: FeatureStore, subjects: list[Any]) -> str:
    shared = []
    for name in store.split_names:
        marks = store.marks(name).tolist()
        train, test = (
            {subject for subject, mark in zip(subjects, marks, strict=True) if mark == wanted}
            for wanted in (TRAIN, TEST)
        )
        shared.append(f"{len(train & test) or 'none'} in split {name}")
    return f"{len(set(subjects))}, of whom train and test share {', '.join(shared)}"


def _failed(store: FeatureStore) -> list[tuple[str, str]]:
    reasons = store.failures()
    failed = [store.clips[index] for index in (store.lengths == FAILED).nonzero()[0]]
    rows = [("failed", f"{clip}: {reasons.get(clip, 'for an unknown reason')}") for clip in failed[:_LISTED]]
    if len(failed) > _LISTED:
        rows.append(("failed", f"and {len(failed) - _LISTED} more"))
    return rows
