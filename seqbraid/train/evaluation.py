"""How well a classifier does on a part of a data set."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from seqbraid.progress import progress_bar
from seqbraid.train.batches import Batches
from seqbraid.train.model import SequenceClassifier

__all__ = ["Evaluation", "evaluate"]

_TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Mean cross entropy, what became of each class, the largest residual of a solve, and wall seconds.

    `confusion[i, j]` (classes, classes) is how many sequences of class i were taken for class j; `top5` is
    the fraction of sequences whose class is among the five most likely, None with no more than five classes.
    """

    loss: float
    confusion: npt.NDArray[np.int64]
    top5: float | None
    residual: float
    seconds: float

    @property
    def sequences(self) -> int:
        """The number of sequences that were measured."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The fraction of sequences that were recognised, 0 to 1."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def accuracy_of_classes(self) -> npt.NDArray[np.float64]:
        """(classes,) the fraction of each class that was recognised, nan where it has no sequence."""
        with np.errstate(invalid="ignore"):
            fraction: npt.NDArray[np.float64] = np.diag(self.confusion) / self.confusion.sum(axis=1)
        return fraction

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values for a file."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            **({} if self.top5 is None else {"top5": self.top5}),
            "residual": self.residual,
            "seconds": self.seconds,
            "confusion": self.confusion.tolist(),
        }


def evaluate(model: SequenceClassifier, batches: Batches) -> Evaluation:
    """Return how the model does on all sequences of `batches`; collective over the ranks of its grid."""
    start = time.perf_counter()
    grid, part = batches.grid, batches.part
    classes = model.head.out_features
    # Loss, hits among the five most likely, then the confusions row by row.
    sums = torch.zeros(2 + classes * classes, dtype=torch.float64)
    residual = 0.0
    model.eval()
    with torch.no_grad(), progress_bar(len(part), "evaluate", "seq", grid.world.rank) as bar:
        for batch in batches.in_order(np.arange(len(part))):
            logits = model(batch.x, batch.lengths)
            residual = max(residual, model.gru.last_solve.forward_residual)
            sums[0] += float(nn.functional.cross_entropy(logits, batch.labels, reduction="sum"))
            likely = logits.topk(min(_TOP, classes), dim=1).indices
            sums[1] += int((likely == batch.labels.unsqueeze(1)).sum())
            pairs = batch.labels * classes + logits.argmax(dim=1)
            sums[2:] += torch.bincount(pairs, minlength=classes * classes)
            bar.update(batch.slice.total)
    grid.data.all_reduce(sums, "evaluation of all groups")
    residual = max(grid.data.all_gather_objects(residual, "residuals of all groups"))
    count = len(part)
    return Evaluation(
        float(sums[0]) / count,
        sums[2:].reshape(classes, classes).to(torch.int64).numpy(),
        float(sums[1]) / count if classes > _TOP else None,
        residual,
        time.perf_counter() - start,
    )
