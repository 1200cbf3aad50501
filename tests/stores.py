"""Small feature stores, and the videos that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from preprocess.figures import write_video
from seqbraid.data.store import FeatureStore

T, F = 12, 3
CLIPS = [f"{name}/{name}_{number}.avi" for name in ("hop", "spin") for number in range(4)]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def make_store(folder: Path, **changes: Any) -> FeatureStore:
    arguments: dict[str, Any] = {
        "clips": CLIPS,
        "labels": LABELS,
        "splits": {"1": [1, 1, 2, 0, 1, 2, 1, 2], "2": [2, 1, 1, 1, 0, 0, 1, 2]},
        "class_names": ["hop", "spin"],
        "frames": T,
        "feature_size": F,
        "options": {"backbone": "resnet18"},
    }
    return FeatureStore.create(folder, **(arguments | changes))


def fill(store: FeatureStore, lengths: list[int]) -> FeatureStore:
    """Write clips of these lengths; 0: failed, -1: left pending."""
    for index, length in enumerate(lengths):
        if length > 0:
            store.write_clip(index, np.full((length, store.shape[2]), index, dtype=np.float32))
        elif length == 0:
            store.mark_failed(index)
    return store


def many_classes(folder: Path, classes: int, feature_size: int = F, **changes: Any) -> FeatureStore:
    """Return a store of two clips of every class."""
    names = [f"class_{label:02}_of_many" for label in range(classes)]
    clips = [f"{name}/{number}.avi" for name in names for number in range(2)]
    store = make_store(
        folder,
        clips=clips,
        labels=np.repeat(range(classes), 2),
        splits={"1": [1, 2] * classes},
        class_names=names,
        feature_size=feature_size,
        options={},
        **changes,
    )
    return fill(store, [T - label % 3 for label in range(2 * classes)])


def write_videos(folder: Path) -> Path:
    """Write clips of twelve grey frames; the frame says by its shade which clip and which frame it is."""
    for index, clip in enumerate(CLIPS):
        shades = 20 * index + 5 * np.arange(T, dtype=np.uint8)
        frames = np.broadcast_to(shades[:, None, None, None], (T, 32, 32, 3))
        (folder / clip).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / clip, np.ascontiguousarray(frames))
    return folder
