"""Batches of one fixed size, filled with frames across the borders of clips."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from preprocess.backbones import BATCH, Backbone

__all__ = ["FrameBatches"]


class FrameBatches:
    """Gives every clip the features of its frames, which went through the network together with others'.

    `finished` holds (task, features (n, F) float32) of clips whose last frame went through.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        self.finished: deque[tuple[int, npt.NDArray[np.float32]]] = deque()
        self._backbone = backbone
        self._images = np.zeros((BATCH, size, size, 3), dtype=np.uint8)
        self._tasks: list[int] = []
        self._rows: dict[int, list[npt.NDArray[np.float32]]] = {}
        self._frames: dict[int, int] = {}
        self._ended: set[int] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether the batch has no more room."""
        return len(self._tasks) == BATCH

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
        """Forget a clip; frames of it in the batch still go through, for nobody."""
        self._frames.pop(task, None)
        self._rows.pop(task, None)

    def run(self) -> None:
        """Send the batch through the network, blank frames in the places that are free."""
        self._images[len(self._tasks) :] = 0
        features = self._backbone.batch(self._images)
        for task, row in zip(self._tasks, features, strict=False):
            if task in self._frames:
                self._rows.setdefault(task, []).append(row)
        done, self._tasks = dict.fromkeys(self._tasks), []
        for task in done:
            self._finish_if_complete(task)

    def _finish_if_complete(self, task: int) -> None:
        rows = self._rows.get(task, [])
        if task in self._ended and len(rows) == self._frames[task]:
            self.finished.append((task, np.stack(rows)))
            self._ended.remove(task)
            self.drop(task)
