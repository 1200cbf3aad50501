"""What a data set holds, sequence by sequence: class, part and true length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqbraid.data.dataset import Dataset
from seqbraid.data.splits import TEST, TRAIN
from seqbraid.data.store import FAILED, PENDING, FeatureStore

__all__ = ["PARTS", "Contents", "contents_of_dataset", "contents_of_store", "table_of_parts"]

# A sequence's part in the split; of those that have no features, why not.
PARTS = ("train", "test", "unused", "failed", "pending")


@dataclass(frozen=True)
class Contents:
    """N sequences: `labels` (N,), `parts` (N,) words of `PARTS`, true `lengths` (N,), 0 where there are none.

    `load(index)` returns the features (length, `feature_size`) float32 of one.
    """

    class_names: list[str]
    labels: npt.NDArray[np.int64]
    parts: npt.NDArray[np.str_]
    lengths: npt.NDArray[np.int64]
    feature_size: int
    load: Callable[[int], npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.labels)

    def count(self, part: str) -> int:
        """Return how many sequences are of this part."""
        return int(np.count_nonzero(self.parts == part))

    def count_by_class(self, part: str) -> npt.NDArray[np.int64]:
        """Return how many sequences of each class are of this part: (classes,)."""
        counts = np.bincount(self.labels[self.parts == part], minlength=len(self.class_names))
        return counts.astype(np.int64)

    def true_lengths(self, part: str | None = None) -> npt.NDArray[np.int64]:
        """Return the lengths of the sequences that have features, those of one part or all."""
        wanted = self.lengths > 0
        return self.lengths[wanted if part is None else wanted & (self.parts == part)]


def contents_of_store(store: FeatureStore, split: str | None = None) -> Contents:
    """Return what a store held when it was opened, complete or not.

    Raises `DataError` for a split that it does not have.
    """
    marks, lengths = store.marks(split), store.lengths.astype(np.int64)
    parts = np.select(
        [lengths == PENDING, lengths == FAILED, marks == TRAIN, marks == TEST],
        ["pending", "failed", "train", "test"],
        default="unused",
    )

    def load(index: int) -> npt.NDArray[np.float32]:
        features: npt.NDArray[np.float32] = store.load([index], 0, int(lengths[index]))[0]
        return features

    return Contents(store.class_names, store.labels, parts, np.maximum(lengths, 0), store.shape[2], load)


def contents_of_dataset(dataset: Dataset) -> Contents:
    """Return what a data set holds, the training part first."""
    train, test = dataset.train, dataset.test
    lengths = np.concatenate([train.lengths, test.lengths])

    def load(index: int) -> npt.NDArray[np.float32]:
        part, row = (train, index) if index < len(train) else (test, index - len(train))
        features: npt.NDArray[np.float32] = part.load(np.array([row]), 0, int(lengths[index]))[0]
        return features

    parts = np.repeat(["train", "test"], [len(train), len(test)])
    labels = np.concatenate([train.labels, test.labels])
    return Contents(dataset.class_names, labels, parts, lengths, dataset.feature_size, load)


def table_of_parts(contents: Contents) -> list[list[str]]:
    """Return a row for every part that has any sequence, and one for all.

    Its words: the part, its sequences, and the shortest, median and longest of their true lengths.
    """
    rows = []
    for part in (*PARTS, None):
        count = len(contents) if part is None else contents.count(part)
        lengths = contents.true_lengths(part)
        numbers = (lengths.min(), np.median(lengths), lengths.max()) if len(lengths) else ()
        words = [f"{number:.12g}" for number in numbers] or ["-"] * 3
        if count:
            rows.append([part or "all", str(count), *words])
    return rows
