"""Batches of one fixed size, filled with frames across the borders of clips."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from preprocess.backbones import BATCH
from preprocess.batch_pool import BatchPool

__all__ = ["FrameBatches"]


class FrameBatches:
    """Gives every clip the features of its frames, which go through the network together with others'.

    `finished` holds (task, features (n, F) float32) of clips whose last frame went through. `size`: the
    pixels of a side of a frame.
    """

    def __init__(self, pool: BatchPool, size: int) -> None:
        self.finished: deque[tuple[int, npt.NDArray[np.float32]]] = deque()
        self._pool = pool
        self._shape = (BATCH, size, size, 3)
        self._images = np.zeros(self._shape, dtype=np.uint8)
        self._tasks: list[int] = []
        self._under_way: deque[tuple[list[int], Future[npt.NDArray[np.float32]]]] = deque()
        self._rows: dict[int, list[npt.NDArray[np.float32]]] = {}
        self._frames: dict[int, int] = {}
        self._ended: set[int] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether the batch that is being filled has no more room."""
        return len(self._tasks) == BATCH

    @property
    def busy(self) -> bool:
        """Whether every thread has a batch, and one more lies ready for the first that is free."""
        return len(self._under_way) > self._pool.threads

    def add(self, task: int, image: npt.NDArray[np.uint8]) -> None:
        """Put one frame (size, size, 3) into the batch."""
        self._images[len(self._tasks)] = image
        self._tasks.append(task)
        self._frames[task] = self._frames.get(task, 0) + 1

    def end(self, task: int) -> None:
        """Note that all frames of a clip have been added."""
        self._ended.add(task)
        self._finish_if_complete(task)

    def drop(self, task: int) -> None:
        """Forget a clip; frames of it that are under way go through for nobody."""
        self._frames.pop(task, None)
        self._rows.pop(task, None)

    def send(self) -> None:
        """Send the batch through the network, blank frames in the places that are free."""
        self._under_way.append((self._tasks, self._pool.submit(self._images)))
        self._images, self._tasks = np.zeros(self._shape, dtype=np.uint8), []

    def collect(self, timeout: float) -> None:
        """Take what has come out of the network, in the order it was sent; wait a while for the first."""
        if self._under_way:
            concurrent.futures.wait([self._under_way[0][1]], timeout)
        while self._under_way and self._under_way[0][1].done():
            tasks, features = self._under_way.popleft()
            for task, row in zip(tasks, features.result(), strict=False):
                if task in self._frames:
                    self._rows.setdefault(task, []).append(row)
            for task in dict.fromkeys(tasks):
                self._finish_if_complete(task)

    def _finish_if_complete(self, task: int) -> None:
        rows = self._rows.get(task, [])
        if task in self._ended and len(rows) == self._frames[task]:
            self.finished.append((task, np.stack(rows)))
            self._ended.remove(task)
            self.drop(task)
